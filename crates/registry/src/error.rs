//! What can go wrong with a registry, in the words that docker's users and their scripts read.

use crate::dial::DialError;
use bytes::Bytes;
use http::StatusCode;
use model::{Digest, ErrorKind, Platform};
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

/// Why one request failed. URLs are shown without their query, which may be signed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No connection.
    #[error("Get \"{url}\"")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why there is no connection.
        source: DialError,
    },
    /// A connection, but no answer in time.
    #[error("Get \"{url}\": no answer within {} s", after.as_secs())]
    NoAnswer {
        /// What was asked for.
        url: String,
        /// The bound.
        after: Duration,
    },
    /// The connection broke, or what came over it was no HTTP.
    #[error("Get \"{url}\": {reason}")]
    Broken {
        /// What was asked for.
        url: String,
        /// What the HTTP client said.
        reason: String,
    },
    /// A redirect that is not followed.
    #[error("Get \"{url}\": {reason}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Why not.
        reason: &'static str,
    },
    /// An answer other than the one hoped for.
    #[error("Get \"{url}\"")]
    Refused {
        /// What was asked for.
        url: String,
        /// The status.
        status: StatusCode,
        /// What the registry said about it.
        #[source]
        reply: RegistryReply,
        /// When the server would like to be asked again.
        retry_after: Option<Duration>,
    },
    /// The registry wants a name and a password, and the client showed none.
    #[error("Get \"{url}\": no basic auth credentials")]
    NoCredentials {
        /// What was asked for.
        url: String,
    },
    /// The registry wants something that cannot be given.
    #[error("Get \"{url}\": {reason}")]
    Challenge {
        /// What was asked for.
        url: String,
        /// Why it cannot.
        reason: &'static str,
    },
    /// A body longer than is read.
    #[error("Get \"{url}\": answer is longer than {limit} bytes")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The bound.
        limit: usize,
    },
    /// A document that does not parse.
    #[error("Get \"{url}\": {what} is malformed")]
    Malformed {
        /// What was asked for.
        url: String,
        /// Which document.
        what: &'static str,
        /// Where it does not parse.
        source: serde_json::Error,
    },
    /// Other bytes than the digest names.
    #[error("Get \"{url}\": wrong content: expected digest {expected}, received {actual}")]
    WrongDigest {
        /// What was asked for.
        url: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A blob that has another length than the manifest says.
    #[error(
        "Get \"{url}\": registry has {actual} bytes of the {expected} that the manifest announces"
    )]
    WrongSize {
        /// What was asked for.
        url: String,
        /// What the manifest says.
        expected: u64,
        /// What the registry has.
        actual: u64,
    },
    /// The connection broke again and again.
    #[error("gave up after {breaks} broken connections")]
    GaveUp {
        /// How many.
        breaks: u32,
        /// The last one.
        source: Box<Self>,
    },
}

impl RegistryError {
    /// Says what sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } | Self::Broken { .. } => {
                ErrorKind::Unavailable
            }
            Self::Refused { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Unauthorized,
                StatusCode::NOT_FOUND => ErrorKind::NotFound,
                status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                    ErrorKind::Unavailable
                }
                _ => ErrorKind::Internal,
            },
            Self::NoCredentials { .. } | Self::Challenge { .. } => ErrorKind::Unauthorized,
            Self::Redirect { .. }
            | Self::TooLong { .. }
            | Self::Malformed { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. } => ErrorKind::Internal,
            Self::GaveUp { source, .. } => source.kind(),
        }
    }

    /// Says whether the registry was not reached at all, so that another one may help.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } => true,
            Self::GaveUp { source, .. } => source.is_unreachable(),
            _ => false,
        }
    }

    /// Says whether the same request may succeed in a while.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } | Self::Broken { .. } => true,
            Self::Refused { status, .. } => crate::retry::is_transient(*status),
            _ => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What a registry says about a failure: `code: message`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RegistryReply {
    /// The code as the distribution specification has it: `MANIFEST_UNKNOWN`; empty if none.
    pub code: String,
    /// In words.
    pub message: String,
}

impl fmt::Display for RegistryReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code.is_empty() {
            return f.write_str(&self.message);
        }
        let code = self.code.to_lowercase().replace('_', " ");
        write!(f, "{code}: {}", self.message)
    }
}

/// Longest text of a registry's that is repeated to the user.
const MESSAGE_CHARS_MAX: usize = 300;

impl RegistryReply {
    /// Reads the body of a failure: the specification's JSON, a token server's, or anything.
    pub(crate) fn parse(status: StatusCode, body: &Bytes) -> Self {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        #[derive(Deserialize)]
        struct Details {
            #[serde(alias = "error_description", alias = "message")]
            details: String,
        }
        let errors = serde_json::from_slice::<Errors>(body).ok();
        if let Some(first) = errors.and_then(|errors| errors.errors.into_iter().next()) {
            return Self {
                code: printable(&first.code),
                message: printable(&first.message),
            };
        }
        let message = match serde_json::from_slice::<Details>(body) {
            Ok(details) => details.details,
            Err(_) => format!("unexpected status code {status}"),
        };
        let code = match status {
            StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
            StatusCode::FORBIDDEN => "DENIED",
            StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
            _ => "",
        };
        Self {
            code: code.to_owned(),
            message: printable(&message),
        }
    }
}

/// Cuts a foreign text and takes control characters out, so that it cannot play with terminals.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MESSAGE_CHARS_MAX)
        .collect()
}

/// Why a reference leads to no image.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The registry does not say whether it exists.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login'"
    )]
    Denied {
        /// The repository as the user knows it.
        name: String,
        /// What the registry said.
        #[source]
        reply: RegistryReply,
    },
    /// The repository has no such tag or digest.
    #[error("manifest for {reference} not found")]
    ManifestUnknown {
        /// The reference as the user knows it.
        reference: String,
        /// What the registry said.
        #[source]
        reply: RegistryReply,
    },
    /// The registry has no such repository.
    #[error("repository {name} not found")]
    RepositoryUnknown {
        /// The repository as the user knows it.
        name: String,
        /// What the registry said.
        #[source]
        reply: RegistryReply,
    },
    /// The image is not made for the platform.
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoMatchingManifest {
        /// The platform.
        platform: Platform,
        /// Those that there are.
        offered: Vec<Platform>,
    },
    /// A kind of document that is no image.
    #[error("unsupported media type {media_type} of {reference}")]
    UnsupportedMediaType {
        /// The reference as the user knows it.
        reference: String,
        /// What the registry called it.
        media_type: String,
    },
    /// An index in an index in an index.
    #[error("index of {reference} is nested too deep")]
    TooDeep {
        /// The reference as the user knows it.
        reference: String,
    },
    /// A request failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl ResolveError {
    /// Says what sort of failure this is; those of missing access as dockerd does.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied { .. }
            | Self::ManifestUnknown { .. }
            | Self::RepositoryUnknown { .. }
            | Self::NoMatchingManifest { .. } => ErrorKind::NotFound,
            Self::UnsupportedMediaType { .. } | Self::TooDeep { .. } => ErrorKind::Internal,
            Self::Registry(error) => error.kind(),
        }
    }

    /// Says whether the registry was not reached at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Registry(error) if error.is_unreachable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let check = |status: u16, body: &'static str, expected: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let reply = RegistryReply::parse(status, &Bytes::from_static(body.as_bytes()));
            assert_eq!(reply.to_string(), expected);
        };
        check(
            404,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#,
            "manifest unknown: manifest unknown",
        );
        check(
            401,
            r#"{"details":"incorrect username or password"}"#,
            "unauthorized: incorrect username or password",
        );
        check(502, "<html>", "unexpected status code 502 Bad Gateway");
        check(
            404,
            r#"{"errors":[]}"#,
            "unexpected status code 404 Not Found",
        );
        check(
            400,
            r#"{"errors":[{"message":"\u001b[31mred"}]}"#,
            "[31mred",
        );
    }
}
