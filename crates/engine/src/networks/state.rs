//! What the daemon knows of its networks while it runs: who holds which address and port.

use super::error::NetworkError;
use super::ports::{Ephemeral, Reserved};
use super::record::NetworkRecord;
use super::types::{EndpointInfo, NetworkInfo};
use model::ContainerId;
use model::firewall::{Change, FirewallPlan};
use model::ipam::{AddressSpace, Cidr};
use network::{AddressSource, Firewall, LinkIndex, Links, Prepared};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Everything that changes, behind one lock that is held for microseconds.
#[derive(Debug)]
pub(super) struct State {
    /// By ID.
    pub(super) networks: BTreeMap<String, Network>,
    pub(super) plan: FirewallPlan,
    pub(super) firewall: Firewall,
    /// False until the survivors of an earlier daemon are known: the table is theirs till then.
    pub(super) recovered: bool,
    pub(super) reserved: BTreeMap<ContainerId, Vec<Reserved>>,
    pub(super) ephemeral: Ephemeral,
}

/// One network.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) record: NetworkRecord,
    pub(super) bridge: Option<LiveBridge>,
    /// Name and endpoint of each container.
    pub(super) endpoints: BTreeMap<ContainerId, (String, EndpointInfo)>,
}

/// The device of a network and its addresses.
#[derive(Debug)]
pub(super) struct LiveBridge {
    pub(super) index: LinkIndex,
    pub(super) space: AddressSpace,
    pub(super) gateway: Option<Ipv4Addr>,
    /// Addresses of endpoints that were detached, with the host's end of each. The kernel may
    /// take some time to take a namespace apart; until then the address is in use.
    pub(super) lingering: Vec<(Ipv4Addr, String)>,
}

/// The state as the attaching side and the pool's thread share it.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Changes are whole before anything that can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Finds a network by name, ID or the beginning of an ID.
    pub(super) fn find(&self, reference: &str) -> Result<&Network, NetworkError> {
        if let Some(network) = self.networks.get(reference) {
            return Ok(network);
        }
        let named = self.networks.values().find(|n| n.record.name == reference);
        if let Some(network) = named {
            return Ok(network);
        }
        let mut matching = self
            .networks
            .values()
            .filter(|n| !reference.is_empty() && n.record.id.starts_with(reference));
        match (matching.next(), matching.next()) {
            (Some(network), None) => Ok(network),
            (Some(_), Some(_)) => Err(NetworkError::Ambiguous(reference.to_owned())),
            (None, _) => Err(NetworkError::NotFound(reference.to_owned())),
        }
    }

    /// Carries changes of the plan out, or all of it if somebody removed our table.
    pub(super) fn change_firewall(&mut self, changes: &[Change]) -> io::Result<()> {
        if !self.recovered {
            return Ok(());
        }
        match self.firewall.apply(changes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!("the firewall table was changed or removed by others; restored");
                self.firewall.install(&self.plan)
            }
            other => other,
        }
    }

    fn bridge(&mut self, index: LinkIndex) -> Option<&mut LiveBridge> {
        let bridges = self.networks.values_mut().filter_map(|n| n.bridge.as_mut());
        bridges.into_iter().find(|b| b.index == index)
    }
}

impl LiveBridge {
    pub(super) fn prepared(&self, address: Ipv4Addr) -> Prepared {
        let prefix_len = self.space.subnet().prefix_len();
        Prepared {
            address: Cidr::new(address, prefix_len).expect("the length is a subnet's"),
            gateway: self.gateway,
        }
    }
}

impl Network {
    pub(super) fn info(&self) -> NetworkInfo {
        let bridge = self.record.bridge.as_ref();
        NetworkInfo {
            id: self.record.id.clone(),
            name: self.record.name.clone(),
            driver: self.record.driver,
            created: self.record.created(),
            subnet: bridge.map(|b| b.subnet),
            gateway: bridge.map(|b| b.gateway),
            internal: self.record.internal,
            options: self.record.options.clone(),
            labels: self.record.labels.clone(),
            containers: self.endpoints.clone(),
        }
    }
}

impl AddressSource for Shared {
    fn take(&self, bridge: LinkIndex) -> Option<Prepared> {
        let lingering = self.lock().bridge(bridge)?.lingering.clone();
        let gone = if lingering.is_empty() {
            Vec::new()
        } else {
            let links = Links::open().ok()?;
            let is_gone =
                |(_, device): &(Ipv4Addr, String)| matches!(links.index_of(device), Ok(None));
            lingering.into_iter().filter(is_gone).collect::<Vec<_>>()
        };
        let mut state = self.lock();
        let live = state.bridge(bridge)?;
        live.lingering.retain(|entry| !gone.contains(entry));
        for (address, _) in gone {
            live.space.release(address);
        }
        let address = live.space.allocate().ok()?;
        Some(live.prepared(address))
    }

    fn give_back(&self, bridge: LinkIndex, prepared: Prepared) {
        if let Some(live) = self.lock().bridge(bridge) {
            live.space.release(prepared.address.address());
        }
    }
}
