//! The keys that end an attachment and leave the process running: `ctrl-p,ctrl-q`.
//!
//! [`DetachKeys`] is the sequence as docker writes it; [`Matcher`] finds it in a byte stream that
//! arrives in pieces, and holds back only bytes that may still become the whole sequence.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A key sequence; empty never matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    /// Docker's default, `ctrl-p,ctrl-q`.
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

/// Why a text is no key sequence; the wording is docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid detach keys ({0}) provided")]
pub struct InvalidDetachKeys(pub String);

impl FromStr for DetachKeys {
    type Err = InvalidDetachKeys;

    /// Parses `ctrl-p,ctrl-q`, `ctrl-a,b`, `DEL`; an empty text means docker's default.
    fn from_str(text: &str) -> Result<Self, InvalidDetachKeys> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split(',')
            .map(key)
            .collect::<Option<Vec<u8>>>()
            .map(Self)
            .ok_or_else(|| InvalidDetachKeys(text.chars().take(64).collect()))
    }
}

/// Reads one key: a single character, `ctrl-` and a character of the control range, or `DEL`.
fn key(text: &str) -> Option<u8> {
    if let [byte] = *text.as_bytes() {
        return Some(byte);
    }
    if text == "DEL" {
        return Some(0x7f);
    }
    match *text.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [symbol @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(symbol - b'@'),
        _ => None,
    }
}

/// Looks for the keys in a stream.
#[derive(Debug, Clone)]
pub struct Matcher {
    keys: Vec<u8>,
    matched: usize,
}

impl Matcher {
    /// Starts with nothing matched.
    #[must_use]
    pub fn new(keys: &DetachKeys) -> Self {
        Self {
            keys: keys.0.clone(),
            matched: 0,
        }
    }

    /// Passes `input` on to `output`, without the sequence; true once the sequence is complete.
    ///
    /// What follows the sequence in `input` is dropped, as the client has gone.
    pub fn feed(&mut self, input: &[u8], output: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            output.extend_from_slice(input);
            return false;
        }
        for &byte in input {
            while self.matched > 0 && self.keys.get(self.matched) != Some(&byte) {
                self.give_up_one(output);
            }
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return true;
                }
            } else {
                output.push(byte);
            }
        }
        false
    }

    /// Hands out the bytes held back, at the stream's end.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        output.extend_from_slice(self.keys.get(..self.matched).unwrap_or_default());
        self.matched = 0;
    }

    /// Lets go of held bytes until the rest is again a beginning of the sequence.
    fn give_up_one(&mut self, output: &mut Vec<u8>) {
        let held = self.keys.get(..self.matched).unwrap_or_default();
        let keep = (1..held.len())
            .find(|&skip| self.keys.starts_with(held.get(skip..).unwrap_or_default()))
            .map_or(0, |skip| held.len() - skip);
        output.extend_from_slice(held.get(..held.len() - keep).unwrap_or_default());
        self.matched = keep;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_as_docker_does() {
        let check = |text: &str, expected: &[u8]| {
            assert_eq!(text.parse(), Ok(DetachKeys(expected.to_vec())), "{text}");
        };
        check("", &[16, 17]);
        check("ctrl-p,ctrl-q", &[16, 17]);
        check("ctrl-a,b", &[1, b'b']);
        check("a,b,DEL", b"ab\x7f");
        check("ctrl-@", &[0]);
        check("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", &[27, 28, 29, 30, 31]);
        for bad in ["ctrl-", "ctrl-A", "ab", "ctrl-p,", "é", "ctrl-1"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
    }

    fn run(keys: &[u8], pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut matcher = Matcher::new(&DetachKeys(keys.to_vec()));
        let mut output = Vec::new();
        for piece in pieces {
            if matcher.feed(piece, &mut output) {
                return (output, true);
            }
        }
        matcher.finish(&mut output);
        (output, false)
    }

    #[test]
    fn finds_the_sequence_across_pieces() {
        assert_eq!(
            run(b"pq", &[b"ls\np", b"q", b"x"]),
            (b"ls\n".to_vec(), true)
        );
        assert_eq!(run(b"pq", &[b"ppq"]), (b"p".to_vec(), true));
        assert_eq!(run(b"pq", &[b"p", b"x", b"p"]), (b"pxp".to_vec(), false));
        assert_eq!(run(b"aab", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(run(b"", &[b"abc"]), (b"abc".to_vec(), false));
    }

    proptest! {
        #[test]
        fn agrees_with_a_search_of_the_whole(
            keys in proptest::collection::vec(0u8..3, 1..5),
            text in proptest::collection::vec(0u8..3, 0..40),
            cut in 0usize..40,
        ) {
            let (head, tail) = text.split_at(cut.min(text.len()));
            let found = text.windows(keys.len()).position(|window| window == keys);
            let expected = match found {
                Some(at) => (text[..at].to_vec(), true),
                None => (text.clone(), false),
            };
            prop_assert_eq!(run(&keys, &[head, tail]), expected);
        }
    }
}
