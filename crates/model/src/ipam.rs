//! Addresses of networks as data: subnets, the pools they are cut from, and who holds which address.
//!
//! Nothing here asks the kernel: the caller passes in which subnets are taken (other networks,
//! the host's routes), and carries out what is decided. The rules are docker's: the default pools,
//! the first address of a subnet is the gateway, and the lowest free address is handed out next.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
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

impl AddressPool {
    /// Returns the pools that docker chooses from by default.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let pool = |a, b, len, size| Self {
            base: Cidr {
                address: Ipv4Addr::new(a, b, 0, 0),
                prefix_len: len,
            },
            size,
        };
        vec![
            pool(172, 17, 16, 16),
            pool(172, 18, 16, 16),
            pool(172, 19, 16, 16),
            pool(172, 20, 14, 16),
            pool(172, 24, 14, 16),
            pool(172, 28, 14, 16),
            pool(192, 168, 16, 20),
        ]
    }

    /// Returns the pool's subnets in order; none if its size does not fit its base.
    pub fn subnets(self) -> impl Iterator<Item = Cidr> {
        let fits = self.size >= self.base.prefix_len && self.size <= 32;
        let count = if fits {
            1_u64 << (self.size - self.base.prefix_len)
        } else {
            0
        };
        let first = u64::from(self.base.network().address.to_bits());
        (0..count).filter_map(move |i| {
            let bits = first + (i << (32 - self.size));
            Cidr::new(Ipv4Addr::from_bits(u32::try_from(bits).ok()?), self.size)
        })
    }
}

/// Every subnet of the pools is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all predefined address pools have been fully subnetted")]
pub struct PoolsExhausted;

/// Chooses the first subnet of the pools that overlaps nothing in `taken`: other networks, and
/// what the host routes already.
///
/// # Errors
/// If there is none.
pub fn choose_subnet(pools: &[AddressPool], taken: &[Cidr]) -> Result<Cidr, PoolsExhausted> {
    pools
        .iter()
        .flat_map(|pool| pool.subnets())
        .find(|subnet| !taken.iter().any(|t| t.overlaps(*subnet)))
        .ok_or(PoolsExhausted)
}

/// The addresses of one network: who is free, lowest first, as docker hands them out.
///
/// The network's own address, its broadcast address and the gateway are never handed out.
#[derive(Debug, Clone)]
pub struct AddressSpace {
    subnet: Cidr,
    range: Cidr,
    taken: BTreeSet<u32>,
    /// All addresses of the range below this one are taken.
    lowest_free: u32,
}

/// Why a certain address cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Somebody has it.
    #[error("Address already in use")]
    InUse,
    /// It is not one of the network's.
    #[error("no configured subnet or ip-range contain the IP address {0}")]
    Outside(Ipv4Addr),
}

/// Every address is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no available IPv4 addresses on this network's address pools")]
pub struct AddressesExhausted;

impl AddressSpace {
    /// Makes the space of a subnet; `range` (`--ip-range`) limits what is handed out unasked.
    #[must_use]
    pub fn new(subnet: Cidr, range: Option<Cidr>, gateway: Option<Ipv4Addr>) -> Self {
        let subnet = subnet.network();
        let range = range.map_or(subnet, Cidr::network);
        let mut taken = BTreeSet::new();
        // A /31 and a /32 have neither a network nor a broadcast address (RFC 3021).
        if subnet.prefix_len < 31 {
            taken.insert(subnet.address.to_bits());
            taken.insert(subnet.last().to_bits());
        }
        taken.extend(gateway.map(Ipv4Addr::to_bits));
        Self {
            subnet,
            range,
            taken,
            lowest_free: range.address.to_bits(),
        }
    }

    /// Returns the subnet.
    #[must_use]
    pub fn subnet(&self) -> Cidr {
        self.subnet
    }

    /// Takes the lowest free address.
    ///
    /// # Errors
    /// If there is none.
    pub fn allocate(&mut self) -> Result<Ipv4Addr, AddressesExhausted> {
        let last = self.range.last().to_bits();
        let mut candidate = self.lowest_free;
        for &taken in self.taken.range(self.lowest_free..) {
            if taken != candidate {
                break;
            }
            candidate = taken.checked_add(1).ok_or(AddressesExhausted)?;
        }
        self.lowest_free = candidate;
        if candidate > last {
            return Err(AddressesExhausted);
        }
        self.taken.insert(candidate);
        Ok(Ipv4Addr::from_bits(candidate))
    }

    /// Takes a certain address.
    ///
    /// # Errors
    /// If it is taken or not the network's.
    pub fn claim(&mut self, address: Ipv4Addr) -> Result<(), ClaimError> {
        if !self.subnet.contains(address) {
            return Err(ClaimError::Outside(address));
        }
        if self.taken.insert(address.to_bits()) {
            Ok(())
        } else {
            Err(ClaimError::InUse)
        }
    }

    /// Gives an address back that [`Self::allocate`] or [`Self::claim`] took.
    pub fn release(&mut self, address: Ipv4Addr) {
        let bits = address.to_bits();
        if self.taken.remove(&bits) && self.range.contains(address) {
            self.lowest_free = self.lowest_free.min(bits);
        }
    }
}

/// Returns the first address of a subnet that a gateway may have, as docker chooses it.
#[must_use]
pub fn default_gateway(subnet: Cidr) -> Ipv4Addr {
    let first = subnet.network().address;
    if subnet.prefix_len < 31 {
        Ipv4Addr::from_bits(first.to_bits() | 1)
    } else {
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn cidrs_parse_strictly() {
        assert_eq!(cidr("172.17.0.1/16").network(), cidr("172.17.0.0/16"));
        assert_eq!(cidr("0.0.0.0/0").last(), Ipv4Addr::BROADCAST);
        for bad in [
            "",
            "1.2.3.4",
            "1.2.3.4/33",
            "1.2.3.4/+8",
            "1.2.3/8",
            "1.2.3.4/",
            "x/8",
        ] {
            bad.parse::<Cidr>().unwrap_err();
        }
    }

    #[test]
    fn subnets_are_chosen_around_what_is_taken() {
        let pools = AddressPool::defaults();
        let check = |taken: &[&str], expected: &str| {
            let taken: Vec<_> = taken.iter().map(|t| cidr(t)).collect();
            assert_eq!(choose_subnet(&pools, &taken), Ok(cidr(expected)));
        };
        check(&[], "172.17.0.0/16");
        check(&["172.17.5.0/24"], "172.18.0.0/16");
        check(&["172.16.0.0/12"], "192.168.0.0/20");
        check(
            &["172.16.0.0/12", "192.168.17.0/24", "192.168.0.0/28"],
            "192.168.32.0/20",
        );
        assert_eq!(
            choose_subnet(&pools, &[cidr("128.0.0.0/1")]),
            Err(PoolsExhausted)
        );
    }

    #[test]
    fn lowest_free_address_comes_first() {
        let mut space =
            AddressSpace::new(cidr("10.0.0.0/29"), None, Some("10.0.0.1".parse().unwrap()));
        let mut next = || space.allocate().map(|a| a.octets()[3]);
        assert_eq!((next(), next(), next()), (Ok(2), Ok(3), Ok(4)));
        space.release("10.0.0.3".parse().unwrap());
        space.claim("10.0.0.6".parse().unwrap()).unwrap();
        let mut next = || space.allocate().map(|a| a.octets()[3]);
        assert_eq!(
            (next(), next(), next()),
            (Ok(3), Ok(5), Err(AddressesExhausted))
        );
        assert_eq!(
            space.claim("10.0.0.1".parse().unwrap()),
            Err(ClaimError::InUse)
        );
        let outside = "10.0.0.8".parse().unwrap();
        assert_eq!(space.claim(outside), Err(ClaimError::Outside(outside)));
    }

    #[test]
    fn a_range_limits_what_is_handed_out_unasked() {
        let mut space = AddressSpace::new(cidr("10.0.0.0/24"), Some(cidr("10.0.0.128/30")), None);
        let all: Vec<_> = std::iter::from_fn(|| space.allocate().ok()).collect();
        assert_eq!(all.len(), 4);
        assert_eq!(all[0], Ipv4Addr::new(10, 0, 0, 128));
        space.claim("10.0.0.7".parse().unwrap()).unwrap();
    }

    #[derive(Debug, Clone)]
    enum Op {
        Allocate,
        Claim(u8),
        Release(usize),
    }

    proptest! {
        #[test]
        fn no_address_is_held_twice(
            prefix_len in 24_u8..=32,
            ops in proptest::collection::vec(prop_oneof![
                3 => Just(Op::Allocate),
                1 => any::<u8>().prop_map(Op::Claim),
                2 => any::<usize>().prop_map(Op::Release),
            ], 0..400),
        ) {
            let subnet = Cidr::new(Ipv4Addr::new(10, 1, 2, 0), prefix_len).unwrap();
            let gateway = default_gateway(subnet);
            let mut space = AddressSpace::new(subnet, None, Some(gateway));
            let mut held: Vec<Ipv4Addr> = Vec::new();
            for op in ops {
                match op {
                    Op::Allocate => match space.allocate() {
                        Ok(address) => {
                            prop_assert!(!held.contains(&address));
                            prop_assert!(subnet.contains(address));
                            prop_assert_ne!(address, gateway);
                            held.push(address);
                        }
                        Err(AddressesExhausted) => {
                            let size = 1_usize << (32 - prefix_len);
                            let reserved = if prefix_len < 31 { 3 } else { 1 };
                            prop_assert_eq!(held.len(), size - reserved);
                        }
                    },
                    Op::Claim(last) => {
                        let address = Ipv4Addr::new(10, 1, 2, last);
                        if space.claim(address).is_ok() {
                            prop_assert!(!held.contains(&address));
                            prop_assert!(subnet.contains(address));
                            held.push(address);
                        }
                    }
                    Op::Release(which) if !held.is_empty() => {
                        let address = held.swap_remove(which % held.len());
                        space.release(address);
                    }
                    Op::Release(_) => {}
                }
            }
        }

        #[test]
        fn chosen_subnets_never_overlap(
            taken in proptest::collection::vec((any::<u32>(), 4_u8..=32), 0..6),
        ) {
            let mut taken: Vec<Cidr> = taken
                .into_iter()
                .map(|(bits, len)| Cidr::new(Ipv4Addr::from_bits(bits), len).unwrap())
                .collect();
            while let Ok(subnet) = choose_subnet(&AddressPool::defaults(), &taken) {
                prop_assert!(!taken.iter().any(|t| t.overlaps(subnet)));
                taken.push(subnet);
            }
            prop_assert!(taken.len() <= 6 + 15 + 16);
        }
    }
}
