//! The operating system and processor an image is for.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A platform, `os/architecture[/variant]` (OCI image-spec, image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system as Go names it: `linux`.
    pub os: String,
    /// Processor as Go names it: `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// Processor variant: `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Returns the platform that this binary was built for.
    #[must_use]
    pub fn host() -> Self {
        let architecture = go_architecture(std::env::consts::ARCH);
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        }
    }

    /// Says whether an image for `candidate` runs where `self` is wanted.
    ///
    /// A missing variant on either side matches: `arm64` is `arm64/v8`.
    #[must_use]
    pub fn accepts(&self, candidate: &Self) -> bool {
        self.os == candidate.os
            && self.architecture == candidate.architecture
            && match (&self.variant, &candidate.variant) {
                (Some(wanted), Some(offered)) => wanted == offered,
                _ => true,
            }
    }
}

/// Go's name of a processor for Rust's or uname's name of it.
fn go_architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" | "x86" => "386",
        "armhf" | "armv7" => "arm",
        other => other,
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .as_ref()
            .map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {0:?}: expected os/architecture[/variant], as in linux/amd64")]
pub struct InvalidPlatform(pub String);

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform(text.chars().take(128).collect());
        let well_formed = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(well_formed) {
            return Err(invalid());
        }
        let lower: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        match *lower.as_slice() {
            // A lone word is an operating system or a processor, as `docker --platform` reads it.
            ["linux"] => Ok(Self::host()),
            [architecture] => Ok(Self {
                os: "linux".into(),
                architecture: go_architecture(architecture).into(),
                variant: None,
            }),
            [os, architecture] => Ok(Self {
                os: os.into(),
                architecture: go_architecture(architecture).into(),
                variant: None,
            }),
            [os, architecture, variant] => Ok(Self {
                os: os.into(),
                architecture: go_architecture(architecture).into(),
                variant: Some(variant.into()),
            }),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_as_docker_does() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected);
        };
        check("linux/amd64", "linux/amd64");
        check("linux/x86_64", "linux/amd64");
        check("Linux/aarch64", "linux/arm64");
        check("linux/arm/v7", "linux/arm/v7");
        check("arm64", "linux/arm64");
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
