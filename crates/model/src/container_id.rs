//! Container identity: the 256-bit ID and the name beside it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A container's ID: 64 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ContainerId(String);

impl ContainerId {
    /// Makes an ID from 32 random bytes.
    ///
    /// As in docker, an ID whose first 12 digits are all decimal is avoided (such a short ID
    /// would be read as a number where host names may not be): its first digit becomes `a`–`f`.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 32]) -> Self {
        if hex::encode(&bytes[..6]).bytes().all(|b| b.is_ascii_digit()) {
            bytes[0] |= 0xa0;
        }
        Self(hex::encode(bytes))
    }

    /// Returns all 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first 12 digits, as users see them.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// Why a text is no container ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid container ID {0:?}: expected 64 hex digits")]
pub struct InvalidContainerId(pub String);

impl FromStr for ContainerId {
    type Err = InvalidContainerId;

    fn from_str(text: &str) -> Result<Self, InvalidContainerId> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidContainerId(text.chars().take(80).collect()))
        }
    }
}

impl<'de> Deserialize<'de> for ContainerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A container's name, without docker's leading slash: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ContainerName(String);

impl ContainerName {
    /// Returns the name without a leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no container name; the wording is docker's, which scripts read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
pub struct InvalidContainerName(pub String);

impl FromStr for ContainerName {
    type Err = InvalidContainerName;

    fn from_str(text: &str) -> Result<Self, InvalidContainerName> {
        let name = text.strip_prefix('/').unwrap_or(text);
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if first && rest && name.len() > 1 {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidContainerName(text.chars().take(256).collect()))
        }
    }
}

impl<'de> Deserialize<'de> for ContainerName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web", "/web", "a.b-c_d", "0x"] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good}");
        }
        for bad in ["", "/", "a", "-web", "web/1", "wéb", "a b"] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn short_id_is_never_a_number() {
        let id = ContainerId::from_random([0x11; 32]);
        assert_eq!(id.short(), "b11111111111");
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
    }
}
