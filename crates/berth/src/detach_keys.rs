//! `--detach-keys`: parsing, and finding the sequence in what is typed.

use std::str::FromStr;

/// Docker's default.
pub(crate) const DEFAULT: &str = "ctrl-p,ctrl-q";

/// A sequence of keys, and how much of it was just typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

/// What to do with typed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scan {
    /// Pass these on (a started sequence is held back).
    Pass(Vec<u8>),
    /// Pass these on and leave.
    Detach(Vec<u8>),
}

/// A key that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid detach keys ({keys}): unknown character: '{key}'")]
pub(crate) struct InvalidKeys {
    keys: String,
    key: String,
}

impl FromStr for DetachKeys {
    type Err = InvalidKeys;

    /// Parses `a,ctrl-b,ctrl-@`; an empty text is docker's default.
    fn from_str(text: &str) -> Result<Self, InvalidKeys> {
        let text = if text.is_empty() { DEFAULT } else { text };
        let sequence = text
            .split(',')
            .map(|key| {
                parse_key(key).ok_or_else(|| InvalidKeys {
                    keys: text.to_owned(),
                    key: key.to_owned(),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            sequence,
            matched: 0,
        })
    }
}

fn parse_key(key: &str) -> Option<u8> {
    if let [byte] = key.as_bytes() {
        return Some(*byte);
    }
    let name = key.strip_prefix("ctrl-")?;
    match name.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [b'@'] => Some(0),
        [b'['] => Some(27),
        [b'\\'] => Some(28),
        [b']'] => Some(29),
        [b'^'] => Some(30),
        [b'_'] => Some(31),
        _ => None,
    }
}

impl DetachKeys {
    /// Looks for the sequence; what started it and did not go on is passed on late.
    pub(crate) fn scan(&mut self, typed: &[u8]) -> Scan {
        let mut pass = Vec::with_capacity(typed.len() + self.matched);
        for byte in typed {
            if self.sequence.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return Scan::Detach(pass);
                }
                continue;
            }
            self.give_back(*byte, &mut pass);
        }
        Scan::Pass(pass)
    }

    /// After a key that does not continue the match, keeps the longest end that starts it anew.
    fn give_back(&mut self, byte: u8, pass: &mut Vec<u8>) {
        let mut held = self.sequence[..self.matched].to_vec();
        held.push(byte);
        let keep = (0..held.len())
            .rev()
            .find(|length| held.ends_with(&self.sequence[..(*length).min(self.sequence.len())]))
            .unwrap_or(0);
        pass.extend(&held[..held.len() - keep]);
        self.matched = keep;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(text: &str) -> DetachKeys {
        text.parse().unwrap()
    }

    #[test]
    fn parses() {
        assert_eq!(keys("").sequence, [16, 17]);
        assert_eq!(keys("a,ctrl-a,ctrl-@,ctrl-_").sequence, [b'a', 1, 0, 31]);
        for bad in ["ctrl-", "ab", "ctrl-A", "a,,b", "ctrl-1", "é"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
    }

    #[test]
    fn found_across_reads() {
        let mut keys = keys("ctrl-p,ctrl-q");
        assert_eq!(keys.scan(b"ab\x10"), Scan::Pass(b"ab".to_vec()));
        assert_eq!(keys.scan(b"c"), Scan::Pass(b"\x10c".to_vec()));
        assert_eq!(keys.scan(b"\x10\x10"), Scan::Pass(b"\x10".to_vec()));
        assert_eq!(keys.scan(b"\x11rest"), Scan::Detach(vec![]));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_before_the_sequence(
            typed in prop::collection::vec(0u8..3, 0..40),
            sequence in prop::collection::vec(0u8..3, 1..4),
            cuts in prop::collection::vec(1usize..5, 0..40),
        ) {
            let mut keys = DetachKeys { sequence: sequence.clone(), matched: 0 };
            let at = typed.windows(sequence.len()).position(|window| window == sequence);
            let mut passed = Vec::new();
            let mut detached = false;
            let mut rest = &typed[..];
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() && !detached {
                let (now, later) = rest.split_at(cuts.next().unwrap_or(9).min(rest.len()));
                match keys.scan(now) {
                    Scan::Pass(bytes) => passed.extend(bytes),
                    Scan::Detach(bytes) => { passed.extend(bytes); detached = true; }
                }
                rest = later;
            }
            prop_assert_eq!(detached, at.is_some());
            match at {
                Some(at) => prop_assert_eq!(&passed[..], &typed[..at]),
                None => {
                    passed.extend(&sequence[..keys.matched]);
                    prop_assert_eq!(passed, typed);
                }
            }
        }
    }
}
