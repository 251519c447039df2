//! What the firewall is to let through and to rewrite, as data.
//!
//! The plan says which bridges there are and which host ports lead where; `network` turns it into
//! one nftables table. A change is as large as what changed, whatever else is in the plan.

use crate::ipam::Cidr;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Returns the number in the IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Why a text is no protocol that ports can be published for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid or unsupported protocol {0:?}: use tcp or udp")]
pub struct InvalidTransport(pub String);

impl FromStr for Transport {
    type Err = InvalidTransport;

    fn from_str(text: &str) -> Result<Self, InvalidTransport> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(InvalidTransport(text.chars().take(32).collect())),
        }
    }
}

/// A port on the host that leads into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The protocol.
    pub transport: Transport,
    /// The port.
    pub port: u16,
    /// The host's address it is bound to; none: all of them. Last, so that all that can collide
    /// stands together in the plan's order.
    pub address: Option<Ipv4Addr>,
}

impl HostPort {
    /// Tells whether no two containers may have both: same port and protocol, and the same
    /// address or all addresses on either side.
    #[must_use]
    pub fn collides(self, other: Self) -> bool {
        self.transport == other.transport
            && self.port == other.port
            && (self.address.is_none() || other.address.is_none() || self.address == other.address)
    }
}

/// Where a published port leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The container's address.
    pub address: Ipv4Addr,
    /// The port inside.
    pub port: u16,
}

/// How a bridge is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BridgeRules {
    /// The addresses of those behind it.
    pub subnet: Cidr,
    /// Connections that leave through another device get the host's address.
    pub masquerade: bool,
}

/// Everything that one daemon wants of the firewall.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirewallPlan {
    bridges: BTreeMap<String, BridgeRules>,
    published: BTreeMap<HostPort, Target>,
}

/// One difference between two plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A bridge comes.
    AddBridge(String, BridgeRules),
    /// A bridge goes.
    RemoveBridge(String, BridgeRules),
    /// A port is published.
    Publish(HostPort, Target),
    /// A port is published no longer.
    Withdraw(HostPort, Target),
}

/// The port is published already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("port is already allocated")]
pub struct PortTaken(pub HostPort);

impl FirewallPlan {
    /// Returns the bridges by device name.
    #[must_use]
    pub fn bridges(&self) -> &BTreeMap<String, BridgeRules> {
        &self.bridges
    }

    /// Returns the published ports.
    #[must_use]
    pub fn published(&self) -> &BTreeMap<HostPort, Target> {
        &self.published
    }

    /// Adds a bridge, or changes how it is treated.
    pub fn add_bridge(&mut self, device: &str, rules: BridgeRules) {
        self.bridges.insert(device.to_owned(), rules);
    }

    /// Removes a bridge.
    pub fn remove_bridge(&mut self, device: &str) {
        self.bridges.remove(device);
    }

    /// Publishes a port.
    ///
    /// # Errors
    /// If a published port collides with it; the plan stays as it was.
    pub fn publish(&mut self, from: HostPort, to: Target) -> Result<(), PortTaken> {
        match self.collision(from) {
            Some(other) => Err(PortTaken(other)),
            None => {
                self.published.insert(from, to);
                Ok(())
            }
        }
    }

    /// Withdraws a published port; returns where it led.
    pub fn withdraw(&mut self, from: HostPort) -> Option<Target> {
        self.published.remove(&from)
    }

    /// Returns a published port that collides with one, if there is any.
    #[must_use]
    pub fn collision(&self, wanted: HostPort) -> Option<HostPort> {
        let with = |address| HostPort { address, ..wanted };
        self.published
            .range(with(None)..=with(Some(Ipv4Addr::BROADCAST)))
            .map(|(port, _)| *port)
            .find(|port| port.collides(wanted))
    }

    /// Lists what makes `self` into `wanted`: removals first, so that what moves does not collide.
    #[must_use]
    pub fn changes_to(&self, wanted: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (&from, &to) in &self.published {
            if wanted.published.get(&from) != Some(&to) {
                changes.push(Change::Withdraw(from, to));
            }
        }
        for (device, &rules) in &self.bridges {
            if wanted.bridges.get(device) != Some(&rules) {
                changes.push(Change::RemoveBridge(device.clone(), rules));
            }
        }
        for (device, &rules) in &wanted.bridges {
            if self.bridges.get(device) != Some(&rules) {
                changes.push(Change::AddBridge(device.clone(), rules));
            }
        }
        for (&from, &to) in &wanted.published {
            if self.published.get(&from) != Some(&to) {
                changes.push(Change::Publish(from, to));
            }
        }
        changes
    }

    /// Lists what makes an empty table into this plan.
    #[must_use]
    pub fn all(&self) -> Vec<Change> {
        Self::default().changes_to(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_host_port() -> impl Strategy<Value = HostPort> {
        (any::<bool>(), proptest::option::of(1_u8..4), 1_u16..6).prop_map(|(tcp, address, port)| {
            HostPort {
                transport: if tcp { Transport::Tcp } else { Transport::Udp },
                address: address.map(|a| Ipv4Addr::new(10, 0, 0, a)),
                port,
            }
        })
    }

    fn any_plan() -> impl Strategy<Value = FirewallPlan> {
        let bridges = proptest::collection::btree_map("[a-c]", any::<bool>(), 0..3);
        let ports = proptest::collection::vec((any_host_port(), 1_u16..9), 0..12);
        (bridges, ports).prop_map(|(bridges, ports)| {
            let mut plan = FirewallPlan::default();
            for (device, masquerade) in bridges {
                let subnet = "172.17.0.0/16".parse().unwrap();
                plan.add_bridge(&device, BridgeRules { subnet, masquerade });
            }
            for (from, port) in ports {
                let address = Ipv4Addr::new(172, 17, 0, 2);
                if plan.publish(from, Target { address, port }).is_err() {
                    assert!(plan.collision(from).is_some());
                }
            }
            plan
        })
    }

    fn apply(plan: &mut FirewallPlan, change: Change) {
        match change {
            Change::AddBridge(device, rules) => {
                assert_eq!(plan.bridges.insert(device, rules), None);
            }
            Change::RemoveBridge(device, rules) => {
                assert_eq!(plan.bridges.remove(&device), Some(rules));
            }
            Change::Publish(from, to) => plan.publish(from, to).unwrap(),
            Change::Withdraw(from, to) => assert_eq!(plan.withdraw(from), Some(to)),
        }
    }

    proptest! {
        #[test]
        fn changes_lead_from_one_plan_to_the_other(from in any_plan(), to in any_plan()) {
            let mut plan = from.clone();
            for change in from.changes_to(&to) {
                apply(&mut plan, change);
            }
            prop_assert_eq!(plan, to);
        }

        #[test]
        fn no_two_published_ports_collide(plan in any_plan()) {
            let ports: Vec<_> = plan.published().keys().collect();
            for (i, a) in ports.iter().enumerate() {
                for b in &ports[i + 1..] {
                    prop_assert!(!a.collides(**b));
                }
            }
        }
    }
}
