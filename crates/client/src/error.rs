//! Why a request failed, in docker's words.

use crate::Host;
use std::io;

/// Why a request to the daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// `--host` is no address.
    #[error("invalid host {0:?}: expected unix://PATH or tcp://HOST:PORT")]
    BadHost(String),
    /// Nobody listens, or the socket is not there.
    #[error("Cannot connect to the Berth daemon at {host}. Is it running?")]
    Connect {
        /// The daemon's address.
        host: Host,
        /// What connect(2) said.
        #[source]
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error("permission denied while trying to connect to the Berth daemon at {host}")]
    PermissionDenied {
        /// The daemon's address.
        host: Host,
    },
    /// The daemon answered with an error.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// The HTTP status.
        status: u16,
        /// The daemon's message.
        message: String,
    },
    /// The connection broke in the middle of a request.
    #[error("the connection to the daemon broke: {0}")]
    Broken(#[source] io::Error),
    /// The answer is not HTTP/1.1 as we know it.
    #[error("the daemon's answer is not valid HTTP: {0}")]
    Protocol(&'static str),
    /// The answer's body is not what the API says.
    #[error("the daemon's answer to {path} cannot be read: {source}")]
    Decode {
        /// What was asked.
        path: String,
        /// Why not.
        source: serde_json::Error,
    },
}

impl ClientError {
    /// Returns the HTTP status that the daemon answered with.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Daemon { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Says whether nobody listens at the address.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ))
    }
}
