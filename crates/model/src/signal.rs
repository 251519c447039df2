//! Signals by name and number.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A signal number, 1–64 (signal(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(u8);

/// Linux numbers on x86 and ARM (signal(7)).
const NAMES: [(&str, u8); 32] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("POLL", 29),
];
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

impl Signal {
    /// SIGHUP.
    pub const HUP: Self = Self(1);
    /// SIGINT.
    pub const INT: Self = Self(2);
    /// SIGKILL.
    pub const KILL: Self = Self(9);
    /// SIGTERM, the default stop signal.
    pub const TERM: Self = Self(15);

    /// Wraps a number in 1–64.
    #[must_use]
    pub const fn from_number(number: i32) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1..=64 fits"
        )]
        match number {
            1..=64 => Some(Self(number as u8)),
            _ => None,
        }
    }

    /// Returns the number, 1–64.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0 as i32
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if self.0 >= RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Why a text is no signal; the wording is docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct InvalidSignal(pub String);

impl FromStr for Signal {
    type Err = InvalidSignal;

    /// Parses `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+1`, `SIGRTMAX-1`.
    fn from_str(text: &str) -> Result<Self, InvalidSignal> {
        let invalid = || InvalidSignal(text.chars().take(64).collect());
        if let Ok(number) = text.parse::<i32>() {
            return Self::from_number(number).ok_or_else(invalid);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*number));
        }
        let offset = |digits: &str| digits.parse::<u8>().ok();
        let number = match name {
            "RTMIN" => Some(RTMIN),
            "RTMAX" => Some(RTMAX),
            _ => {
                if let Some(digits) = name.strip_prefix("RTMIN+") {
                    offset(digits).and_then(|n| RTMIN.checked_add(n))
                } else if let Some(digits) = name.strip_prefix("RTMAX-") {
                    offset(digits).and_then(|n| RTMAX.checked_sub(n))
                } else {
                    None
                }
            }
        };
        number
            .filter(|n| (RTMIN..=RTMAX).contains(n))
            .map(Self)
            .ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_and_numbers() {
        let check = |text: &str, expected| assert_eq!(text.parse(), Ok(Signal(expected)), "{text}");
        check("TERM", 15);
        check("sigkill", 9);
        check("9", 9);
        check("SIGRTMIN+3", 37);
        check("RTMAX-14", 50);
        for bad in ["", "0", "65", "-1", "FOO", "SIG", "RTMIN+40", "RTMAX-99"] {
            assert!(bad.parse::<Signal>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_number_round_trips() {
        for number in 1..=64 {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(signal.to_string().parse(), Ok(signal));
        }
    }
}
