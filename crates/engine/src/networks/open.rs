//! Opening: the predefined networks, the default bridge, the firewall table, and the sweep of what
//! an earlier daemon left.

use super::error::OpenError;
use super::files;
use super::ports::Ephemeral;
use super::record::{self, BridgeRecord, NetworkRecord};
use super::state::{LiveBridge, Network, Shared, State};
use super::types::{NetworkDriver, NetworkOptions};
use super::{Inner, Networks};
use model::firewall::{BridgeRules, FirewallPlan};
use model::ipam::{self, AddressPool, AddressSpace, Cidr};
use network::{Firewall, Links, NamespaceOptions, NamespacePool};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use store::{Records, Store};

/// Name of the default network.
pub(super) const BRIDGE: &str = "bridge";
/// The `--bridge` that asks for no default network.
const NO_BRIDGE: &str = "none";

pub(super) fn open(options: NetworkOptions, store: &Store) -> Result<Networks, OpenError> {
    let records = store.records();
    let mut networks = load(&records)?;
    for (name, driver) in [("host", NetworkDriver::Host), ("none", NetworkDriver::Null)] {
        ensure_predefined(&records, &mut networks, name, driver)?;
    }
    let mut links = Links::open().map_err(OpenError::Host)?;
    let mut plan = FirewallPlan::default();
    if options.bridge == NO_BRIDGE {
        networks.retain(|_, network| network.record.name != BRIDGE);
    } else {
        let (record, outdated) = default_bridge(&options, &records, &mut links, &networks)?;
        let live = raise(&record, outdated, &options, &mut links, &mut plan)?;
        networks.insert(record.id.clone(), network_of(record, Some(live)));
        network::enable_forwarding().map_err(OpenError::Forwarding)?;
    }
    let firewall = open_firewall(&options, &plan)?;
    let shared = Shared::new(State {
        networks,
        plan,
        firewall,
        recovered: false,
        reserved: BTreeMap::new(),
        ephemeral: Ephemeral::new(network::ephemeral_range()),
    });
    let pool = NamespacePool::start(NamespaceOptions {
        spares: options.spare_namespaces,
        mtu: options.mtu,
        addresses: Arc::new(shared.clone()),
    })
    .map_err(OpenError::Namespaces)?;
    Ok(Networks {
        inner: Arc::new(Inner {
            options,
            shared,
            pool,
        }),
    })
}

fn load(records: &Records) -> Result<BTreeMap<String, Network>, OpenError> {
    let all = records.list::<NetworkRecord>(record::KIND)?;
    let networks = all
        .into_iter()
        .map(|(id, record)| (id, network_of(record, None)));
    Ok(networks.collect())
}

fn network_of(record: NetworkRecord, bridge: Option<LiveBridge>) -> Network {
    Network {
        record,
        bridge,
        endpoints: BTreeMap::new(),
    }
}

fn ensure_predefined(
    records: &Records,
    networks: &mut BTreeMap<String, Network>,
    name: &str,
    driver: NetworkDriver,
) -> Result<(), OpenError> {
    if networks.values().all(|n| n.record.name != name) {
        let record = NetworkRecord::new(name, driver, SystemTime::now());
        records.put_durable(record::KIND, &record.id, &record)?;
        networks.insert(record.id.clone(), network_of(record, None));
    }
    Ok(())
}

/// Returns the default bridge's record, made or changed as the options say, and the address that
/// the bridge had by earlier options.
fn default_bridge(
    options: &NetworkOptions,
    records: &Records,
    links: &mut Links,
    networks: &BTreeMap<String, Network>,
) -> Result<(NetworkRecord, Option<Cidr>), OpenError> {
    if !is_device_name(&options.bridge) {
        return Err(OpenError::BridgeName(options.bridge.clone()));
    }
    let known = networks.values().find(|n| n.record.name == BRIDGE);
    let mut record = known.map_or_else(
        || NetworkRecord::new(BRIDGE, NetworkDriver::Bridge, SystemTime::now()),
        |network| network.record.clone(),
    );
    let kept = record.bridge.take().map(|bridge| bridge.address());
    let address = match (options.bip, kept) {
        (Some(bip), _) => bip,
        (None, Some(kept)) => kept,
        (None, None) => choose_address(options, links, networks)?,
    };
    record.set_default_bridge(BridgeRecord::new(&options.bridge, address), options);
    if known.is_none_or(|known| known.record != record) {
        records.put_durable(record::KIND, &record.id, &record)?;
    }
    Ok((record, kept.filter(|kept| *kept != address)))
}

/// Chooses the default bridge's subnet: the device's own if it exists and has one, else the first
/// of the pools that overlaps nothing the host routes and no name server it asks.
fn choose_address(
    options: &NetworkOptions,
    links: &mut Links,
    networks: &BTreeMap<String, Network>,
) -> Result<Cidr, OpenError> {
    let device = links.find(&options.bridge).map_err(OpenError::Host)?;
    let index = device.map(|link| link.index);
    let addresses = links.addresses().map_err(OpenError::Host)?;
    if let Some((_, own)) = addresses.iter().find(|(link, _)| Some(*link) == index) {
        return Ok(*own);
    }
    let routes = links.routes().map_err(OpenError::Host)?;
    let mut taken: Vec<Cidr> = routes.into_iter().map(|(_, subnet)| subnet).collect();
    taken.extend(addresses.into_iter().map(|(_, address)| address));
    taken.extend(
        networks
            .values()
            .filter_map(|n| Some(n.record.bridge.as_ref()?.subnet)),
    );
    let resolv_conf = super::host_files().resolv_conf;
    let servers = files::name_servers(&resolv_conf).filter_map(|(_, ip)| match ip {
        Some(IpAddr::V4(ip)) => Cidr::new(ip, 32),
        _ => None,
    });
    taken.extend(servers);
    let defaults = AddressPool::defaults();
    let pools = match &options.pools[..] {
        [] => &defaults[..],
        pools => pools,
    };
    Ok(ipam::choose_subnet(pools, &taken)?)
}

/// Makes a network's bridge as its record says, and adds it to the firewall's plan.
fn raise(
    record: &NetworkRecord,
    outdated: Option<Cidr>,
    options: &NetworkOptions,
    links: &mut Links,
    plan: &mut FirewallPlan,
) -> Result<LiveBridge, OpenError> {
    let bridge = record.bridge.as_ref().expect("callers have set it");
    let made = network::ensure_bridge(links, &bridge.device, bridge.address(), options.mtu)
        .and_then(|index| {
            // Only our own: the device may be the user's, with other addresses on it.
            for (link, address) in links.addresses()? {
                if link == index && Some(address) == outdated {
                    links.delete_address(index, address)?;
                }
            }
            Ok(index)
        });
    let index = made.map_err(|source| OpenError::Bridge {
        bridge: bridge.device.clone(),
        source,
    })?;
    let rules = BridgeRules {
        subnet: bridge.subnet,
        masquerade: true,
    };
    plan.add_bridge(&bridge.device, rules);
    Ok(LiveBridge {
        index,
        space: AddressSpace::new(bridge.subnet, None, Some(bridge.gateway)),
        gateway: Some(bridge.gateway),
        lingering: Vec::new(),
    })
}

/// Opens the firewall. A table that is there serves containers that may still run; it stays until
/// they are known.
fn open_firewall(options: &NetworkOptions, plan: &FirewallPlan) -> Result<Firewall, OpenError> {
    let open = || {
        let mut firewall = Firewall::open(&options.table_name())?;
        if !firewall.exists()? {
            firewall.install(plan)?;
        }
        Ok(firewall)
    };
    open().map_err(|source| OpenError::Firewall {
        table: options.table_name(),
        source,
    })
}

fn is_device_name(name: &str) -> bool {
    let fits = (1..=network::DEVICE_NAME_MAX).contains(&name.len());
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    fits && name.bytes().all(allowed) && name != "." && name != ".."
}

/// Puts the firewall into the state of the plan and removes links that nobody adopted.
pub(super) fn recovered(inner: &Inner) {
    let mut state = inner.shared.lock();
    if state.recovered {
        return;
    }
    state.recovered = true;
    let State { firewall, plan, .. } = &mut *state;
    if let Err(error) = firewall.install(plan) {
        tracing::error!(%error, table = inner.options.table_name(), "cannot restore the firewall table");
    }
    let adopted: BTreeSet<String> = state
        .networks
        .values()
        .flat_map(|n| n.endpoints.values())
        .map(|(_, endpoint)| endpoint.host_device.clone())
        .collect();
    let bridges = state
        .networks
        .values()
        .filter_map(|n| Some(n.bridge.as_ref()?.index));
    let bridges: Vec<_> = bridges.collect();
    drop(state);
    // Before the pool makes links of its own on the bridges.
    for bridge in bridges {
        if let Err(error) = sweep(bridge, &adopted) {
            tracing::warn!(%error, "cannot remove links that an earlier daemon left");
        }
        inner.pool.add_bridge(bridge);
    }
}

fn sweep(bridge: network::LinkIndex, adopted: &BTreeSet<String>) -> io::Result<()> {
    let mut links = Links::open()?;
    for link in links.list()? {
        let stale = link.master == Some(bridge)
            && link.kind == "veth"
            && network::is_host_device_name(&link.name)
            && !adopted.contains(&link.name);
        if stale {
            links.delete(link.index)?;
        }
    }
    Ok(())
}
