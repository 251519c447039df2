//! How registries are to be spoken to, parsed from the daemon's flags.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// Options of a [`crate::RegistryClient`].
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Mirrors by registry (`docker.io`, `ghcr.io`, `host:port`), asked in order, before it.
    pub mirrors: BTreeMap<String, Vec<Mirror>>,
    /// Registries that may be spoken to over unverified TLS or plain HTTP. Loopback always may.
    pub insecure: Vec<InsecureRegistry>,
    /// What we call ourselves.
    pub user_agent: String,
    /// Bound on reaching one address.
    pub connect_timeout: Duration,
    /// Bound on the answer's head, once a request was sent.
    pub answer_timeout: Duration,
    /// Longest silence in the middle of a body.
    pub stall_timeout: Duration,
    /// First pause before something is tried again; doubled each time.
    pub retry_pause: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            mirrors: BTreeMap::new(),
            insecure: Vec::new(),
            user_agent: concat!("berth/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            retry_pause: Duration::from_millis(500),
        }
    }
}

impl RegistryOptions {
    /// Takes the flags as dockerd's: mirrors of the default registry, and insecure registries.
    ///
    /// # Errors
    /// One of them is malformed.
    pub fn parse(mirrors: &[String], insecure: &[String]) -> Result<Self, InvalidOption> {
        let mirrors = mirrors
            .iter()
            .map(|mirror| mirror.parse())
            .collect::<Result<Vec<Mirror>, _>>()?;
        let insecure = insecure
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        let by_registry = if mirrors.is_empty() {
            BTreeMap::new()
        } else {
            BTreeMap::from([("docker.io".to_owned(), mirrors)])
        };
        Ok(Self {
            mirrors: by_registry,
            insecure,
            ..Self::default()
        })
    }
}

/// Why a flag's value is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOption {
    /// A mirror that is no `http(s)://host[:port]` URL.
    #[error("invalid mirror {0:?}: expected http://host[:port] or https://host[:port]")]
    Mirror(String),
    /// An insecure registry that is neither `host[:port]` nor a CIDR.
    #[error("invalid insecure registry {0:?}: expected host[:port] or an address range")]
    Insecure(String),
}

/// A mirror's origin, `https://mirror.example:5000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub(crate) plain: bool,
    pub(crate) authority: String,
}

impl FromStr for Mirror {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        let invalid = || InvalidOption::Mirror(text.to_owned());
        let uri: http::Uri = text.parse().map_err(|_| invalid())?;
        let plain = match uri.scheme_str() {
            Some("http") => true,
            Some("https") => false,
            _ => return Err(invalid()),
        };
        let authority = uri.authority().ok_or_else(invalid)?.as_str();
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !bare || authority.contains('@') {
            return Err(invalid());
        }
        Ok(Self {
            plain,
            authority: authority.to_owned(),
        })
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.plain { "http" } else { "https" };
        write!(f, "{scheme}://{}/", self.authority)
    }
}

/// A registry, or a range of addresses, that needs no verified TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsecureRegistry {
    /// `host[:port]`, as references spell it.
    Host(String),
    /// Every registry whose host has an address in the range.
    Range(AddressRange),
}

impl FromStr for InsecureRegistry {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        if text.contains('/') && !text.contains("://") {
            return text
                .parse()
                .map(Self::Range)
                .map_err(|()| InvalidOption::Insecure(text.to_owned()));
        }
        // dockerd accepts a scheme here, with a warning, and cuts it off.
        let host = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"))
            .unwrap_or(text);
        let well_formed = !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b));
        if well_formed {
            Ok(Self::Host(host.to_ascii_lowercase()))
        } else {
            Err(InvalidOption::Insecure(text.to_owned()))
        }
    }
}

/// `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    base: IpAddr,
    prefix_len: u32,
}

impl AddressRange {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let (base, address, bits) = match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => (
                u128::from(base.to_bits()),
                u128::from(address.to_bits()),
                32,
            ),
            (IpAddr::V6(base), IpAddr::V6(address)) => (base.to_bits(), address.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        // A shift by all 128 bits leaves nothing to compare: /0 holds every address.
        (base ^ address)
            .checked_shr(bits - self.prefix_len)
            .unwrap_or(0)
            == 0
    }
}

impl FromStr for AddressRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (base, prefix_len) = text.split_once('/').ok_or(())?;
        let base: IpAddr = base.parse().map_err(|_| ())?;
        let prefix_len: u32 = prefix_len.parse().map_err(|_| ())?;
        let bits = if base.is_ipv4() { 32 } else { 128 };
        if prefix_len > bits {
            return Err(());
        }
        Ok(Self { base, prefix_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors() {
        let check = |text: &str, expected: Option<&str>| {
            let parsed = text.parse::<Mirror>().ok().map(|m| m.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        };
        check("https://mirror.example", Some("https://mirror.example/"));
        check("http://10.0.0.1:5000/", Some("http://10.0.0.1:5000/"));
        check("mirror.example", None);
        check("ftp://mirror.example", None);
        check("https://mirror.example/path", None);
        check("https://user:pass@mirror.example", None);
    }

    #[test]
    fn insecure_registries() {
        let host = |text: &str| InsecureRegistry::Host(text.to_owned());
        assert_eq!("Reg.example:5000".parse(), Ok(host("reg.example:5000")));
        assert_eq!("http://reg.example".parse(), Ok(host("reg.example")));
        "10.0.0.0/33".parse::<InsecureRegistry>().unwrap_err();
        "".parse::<InsecureRegistry>().unwrap_err();
    }

    #[test]
    fn ranges() {
        let check = |range: &str, address: &str, expected: bool| {
            let range: AddressRange = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), expected);
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("0.0.0.0/0", "1.2.3.4", true);
        check("::/0", "::1", true);
        check("::/0", "1.2.3.4", false);
        check("127.0.0.0/8", "::ffff:127.0.0.1", true);
        check("10.0.0.1/32", "10.0.0.1", true);
        check("10.0.0.1/32", "10.0.0.2", false);
    }
}
