//! Image references: what a user writes after `run`, and the full form it stands for.
//!
//! The grammar is the distribution project's (`distribution/reference`): a first component is a
//! registry only if it holds `.` or `:`, is `localhost`, or has capital letters; otherwise the
//! default registry is meant, and one-component names there live under `library/`.

use crate::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// The distribution specification's bound on `registry/repository` together.
const MAX_NAME_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;

/// A normalised reference: `registry/repository`, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Returns the registry as a user writes it, with its port: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository, with `library/` where it was implied.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag. There is none where only a digest was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if the reference is pinned.
    #[must_use]
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the same repository with only this tag.
    ///
    /// # Errors
    /// The tag is malformed.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        check_tag(tag)?;
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// Returns the same repository with only this digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Returns `registry/repository`, normalised.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns the name as docker shows it: `ubuntu`, `me/app`, `localhost:5000/app`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        match self.repository.strip_prefix(OFFICIAL_NAMESPACE) {
            Some(official) if !official.contains('/') => official.to_owned(),
            // `docker.io/me.org/app` without its registry would name another registry.
            _ if self.repository.split('/').next().is_some_and(is_registry) => self.name(),
            _ => self.repository.clone(),
        }
    }

    /// Returns the whole reference as docker shows it: `ubuntu:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.suffix())
    }

    /// Returns `tag` or `digest` as the manifest endpoint takes it; the digest wins.
    #[must_use]
    pub fn manifest_selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    fn suffix(&self) -> String {
        let tag = self
            .tag
            .as_ref()
            .map_or_else(String::new, |tag| format!(":{tag}"));
        let digest = self
            .digest
            .map_or_else(String::new, |digest| format!("@{digest}"));
        tag + &digest
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

/// Why a text is no reference. The wording is docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Not of the form `[registry/]repository[:tag][@digest]`.
    #[error("invalid reference format")]
    Format,
    /// The repository has capital letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// A bare 64-digit hex name would be read as an image ID.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// Longer than 255 bytes.
    #[error("repository name must not be more than {MAX_NAME_BYTES} characters")]
    TooLong,
    /// The digest is not `sha256:` and 64 hex digits.
    #[error("invalid reference format: unsupported or malformed digest {0:?}")]
    Digest(String),
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let shown = || InvalidReference::Digest(digest.chars().take(80).collect());
                (rest, Some(digest.parse().map_err(|_| shown())?))
            }
            None => (text, None),
        };
        // A colon after the last slash starts a tag; before it, a port.
        let tag_at = rest
            .rfind(':')
            .filter(|at| !rest.get(*at..).unwrap_or("").contains('/'));
        let (name, tag) = match tag_at.and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?))) {
            Some((name, tag)) => (name, Some(tag)),
            None => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        if name.len() == 64
            && name
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(InvalidReference::LooksLikeId(name.to_owned()));
        }
        let (registry, repository) = split_registry(name)?;
        check_repository(&repository)?;
        if registry.len() + 1 + repository.len() > MAX_NAME_BYTES {
            return Err(InvalidReference::TooLong);
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

fn split_registry(name: &str) -> Result<(String, String), InvalidReference> {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => {
            check_registry(first)?;
            // The index's old name means the same registry.
            let first = if first == "index.docker.io" {
                DEFAULT_REGISTRY
            } else {
                first
            };
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    };
    let official = registry == DEFAULT_REGISTRY && !repository.contains('/');
    let namespace = if official { OFFICIAL_NAMESPACE } else { "" };
    Ok((registry.to_owned(), format!("{namespace}{repository}")))
}

fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), InvalidReference> {
    let (host, port) = match registry.rfind(':') {
        Some(at) if !registry.ends_with(']') => {
            (registry.get(..at).unwrap_or(""), registry.get(at + 1..))
        }
        _ => (registry, None),
    };
    let port_ok = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            let bytes = label.as_bytes();
            let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
            edge(bytes.first())
                && edge(bytes.last())
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        }),
    };
    if port_ok && host_ok {
        Ok(())
    } else {
        Err(InvalidReference::Format)
    }
}

/// `path-component ['/' path-component]*`, where a component is lower-case runs joined by one
/// `.`, one or two `_`, or any number of `-`.
fn check_repository(repository: &str) -> Result<(), InvalidReference> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(InvalidReference::Uppercase(
            repository.chars().take(256).collect(),
        ));
    }
    let run = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let component = |text: &str| {
        let ends = text.bytes().next().is_some_and(run) && text.bytes().last().is_some_and(run);
        ends && text
            .split(|c: char| c.is_ascii_alphanumeric())
            .all(|separator| {
                matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
            })
    };
    if repository.split('/').all(component) {
        Ok(())
    } else {
        Err(InvalidReference::Format)
    }
}

fn check_tag(tag: &str) -> Result<(), InvalidReference> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = tag.len() <= MAX_TAG_BYTES
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if ok {
        Ok(())
    } else {
        Err(InvalidReference::Format)
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e692418e4cbaf90ca69d05a66403747baa33ee08806650b51fab815ad7fc331f";

    #[test]
    fn normalises() {
        let check = |text: &str, full: &str, familiar: &str| {
            let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
        };
        check("ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest");
        check(
            "ubuntu:24.04",
            "docker.io/library/ubuntu:24.04",
            "ubuntu:24.04",
        );
        check("me/app", "docker.io/me/app:latest", "me/app:latest");
        check(
            "docker.io/ubuntu",
            "docker.io/library/ubuntu:latest",
            "ubuntu:latest",
        );
        check(
            "index.docker.io/ubuntu",
            "docker.io/library/ubuntu:latest",
            "ubuntu:latest",
        );
        check(
            "localhost/app",
            "localhost/app:latest",
            "localhost/app:latest",
        );
        check(
            "localhost:5000/a/b:1",
            "localhost:5000/a/b:1",
            "localhost:5000/a/b:1",
        );
        check("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest");
        check(
            "a--b/c__d.e",
            "docker.io/a--b/c__d.e:latest",
            "a--b/c__d.e:latest",
        );
        let pinned = format!("ubuntu@sha256:{HEX}");
        check(&pinned, &format!("docker.io/library/{pinned}"), &pinned);
        let both = format!("ubuntu:1@sha256:{HEX}");
        check(&both, &format!("docker.io/library/{both}"), &both);
    }

    #[test]
    fn refuses() {
        let check = |text: &str, message: &str| {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        };
        for bad in [
            "", ":", "a:", "-a", "a//b", "a/", "/a", "a b", "a___b", "a..b", "a:-", "a@", "é",
        ] {
            let message = if bad == "a@" {
                "digest"
            } else {
                "invalid reference format"
            };
            check(bad, message);
        }
        check("Ubuntu", "must be lowercase");
        check(HEX, "64-byte hexadecimal");
        check(&"a".repeat(250), "more than 255");
        check("host:port/a", "invalid reference format");
        check(
            &format!("a:{}", "t".repeat(129)),
            "invalid reference format",
        );
    }

    proptest! {
        #[test]
        fn never_panics(text: String) {
            let _unused = text.parse::<Reference>().is_ok();
        }

        #[test]
        fn both_forms_parse_back(
            text in "([a-z0-9]{1,8}(\\.[a-z]{2,3})?(:[0-9]{2,4})?/)?[a-z0-9]{1,8}(/[a-z0-9._-]{1,6})?(:[A-Za-z0-9_][A-Za-z0-9._-]{0,5})?"
        ) {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
            }
        }
    }
}
