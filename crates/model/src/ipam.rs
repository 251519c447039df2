//! Addresses of networks as data: subnets, the pools they are cut from, and who holds which address.
//!
//! Nothing here asks the kernel: the caller passes in which subnets are taken (other networks,
//! the host's routes), and carries out what is decided. The rules are docker's: the default pools,
//! the first address of a subnet is the gateway, and the lowest free address is handed out next.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 address together with the length of its network's prefix: `172.17.0.1/16`.
///
/// Used both for subnets (host bits zero, see [`Cidr::network`]) and for interface addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: Ipv4Addr,
    prefix_len: u8,
}

/// Why a text is no address with a prefix length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct InvalidCidr(pub String);

impl Cidr {
    /// Puts an address and a prefix length together; none if the length exceeds 32.
    #[must_use]
    pub const fn new(address: Ipv4Addr, prefix_len: u8) -> Option<Self> {
        if prefix_len > 32 {
            return None;
        }
        Some(Self {
            address,
            prefix_len,
        })
    }

    /// Returns the address.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Returns the prefix length.
    #[must_use]
    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// Returns the subnet: the same prefix with the host bits cleared.
    #[must_use]
    pub const fn network(self) -> Self {
        Self {
            address: Ipv4Addr::from_bits(self.address.to_bits() & self.mask_bits()),
            prefix_len: self.prefix_len,
        }
    }

    /// Returns the last address of the subnet: its broadcast address.
    #[must_use]
    pub const fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask_bits())
    }

    /// Tells whether the subnet holds an address.
    #[must_use]
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask_bits() == self.address.to_bits() & self.mask_bits()
    }

    /// Tells whether two subnets share an address.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.contains(other.network().address) || other.contains(self.network().address)
    }

    const fn mask_bits(self) -> u32 {
        match self.prefix_len {
            0 => 0,
            len => u32::MAX << (32 - len),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let parse = || {
            let (address, len) = text.split_once('/')?;
            let plain =
                !len.is_empty() && len.len() <= 2 && len.bytes().all(|b| b.is_ascii_digit());
            let len = plain.then(|| len.parse().ok()).flatten()?;
            Self::new(address.parse().ok()?, len)
        };
        parse().ok_or_else(|| InvalidCidr(text.chars().take(64).collect()))
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A block of addresses that subnets of one size are cut from: `--default-address-pool`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPool {
    /// The block.
    pub base: Cidr,
    /// Prefix length of each subnet.
    pub size: u8,
}
