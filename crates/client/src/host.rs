//! Where the daemon is: `unix://PATH` or `tcp://HOST:PORT`.

use crate::ClientError;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The daemon that a client without any wish speaks to.
pub const DEFAULT_HOST: &str = "unix:///run/berth/berth.sock";

/// The port that docker's daemon has without TLS.
const DEFAULT_TCP_PORT: u16 = 2375;

/// The address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A socket of this machine.
    Unix(PathBuf),
    /// `host:port`, without TLS.
    Tcp(String),
}

impl Default for Host {
    fn default() -> Self {
        Self::Unix(PathBuf::from(DEFAULT_HOST.trim_start_matches("unix://")))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl FromStr for Host {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::BadHost(text.to_owned());
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp" | "http", address)) => {
                let address = address.trim_end_matches('/');
                if address.is_empty() || address.contains('/') {
                    return Err(bad());
                }
                let has_port = address
                    .rsplit_once(':')
                    .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                Ok(Self::Tcp(if has_port {
                    address.to_owned()
                } else {
                    format!("{address}:{DEFAULT_TCP_PORT}")
                }))
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let check = |text: &str, expected: &str| {
            let host: Host = text.parse().unwrap();
            assert_eq!(host.to_string(), expected);
        };
        check("unix:///run/x.sock", "unix:///run/x.sock");
        check("tcp://127.0.0.1:80", "tcp://127.0.0.1:80");
        check("tcp://[::1]:80", "tcp://[::1]:80");
        check("tcp://daemon", "tcp://daemon:2375");
        check("http://daemon:1/", "tcp://daemon:1");
        for bad in [
            "",
            "unix://",
            "unix://run",
            "/run/x.sock",
            "ssh://a",
            "tcp://",
            "tcp://a/b",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }
}
