//! A network as it is kept on disk: `records/networks/<id>.json`.

use super::types::{NetworkDriver, NetworkOptions};
use model::ipam::{self, Cidr};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The kind under which the store keeps these.
pub(super) const KIND: &str = "networks";
/// Version of the record's shape.
const VERSION: u32 = 1;

/// What is remembered of a network. Who is attached stands in the containers' records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NetworkRecord {
    version: u32,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) driver: NetworkDriver,
    /// Nanoseconds since 1970.
    created_unix_ns: u64,
    /// Set for a bridge.
    #[serde(default)]
    pub(super) bridge: Option<BridgeRecord>,
    #[serde(default)]
    pub(super) internal: bool,
    #[serde(default)]
    pub(super) options: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

/// The device and addresses of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BridgeRecord {
    pub(super) device: String,
    pub(super) subnet: Cidr,
    pub(super) gateway: Ipv4Addr,
}

impl BridgeRecord {
    /// Makes a bridge from its own address, or from a subnet whose first address it gets.
    pub(super) fn new(device: &str, address: Cidr) -> Self {
        let subnet = address.network();
        let gateway = if address == subnet {
            ipam::default_gateway(subnet)
        } else {
            address.address()
        };
        Self {
            device: device.to_owned(),
            subnet,
            gateway,
        }
    }

    /// Returns the bridge's address with the prefix length.
    pub(super) fn address(&self) -> Cidr {
        Cidr::new(self.gateway, self.subnet.prefix_len()).expect("the length is a subnet's")
    }
}

impl NetworkRecord {
    pub(super) fn new(name: &str, driver: NetworkDriver, now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            version: VERSION,
            id: new_id(),
            name: name.to_owned(),
            driver,
            created_unix_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            bridge: None,
            internal: false,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    pub(super) fn created(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.created_unix_ns)
    }

    /// Sets what docker reports as the options of its default bridge.
    pub(super) fn set_default_bridge(&mut self, bridge: BridgeRecord, options: &NetworkOptions) {
        let mtu = options.mtu.unwrap_or(1500).to_string();
        self.options = [
            ("com.docker.network.bridge.default_bridge", "true"),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
            ("com.docker.network.bridge.name", &bridge.device),
            ("com.docker.network.driver.mtu", &mtu),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        self.bridge = Some(bridge);
    }
}

/// Makes an ID of a network or of an endpoint.
pub(super) fn new_id() -> String {
    model::ContainerId::from_random(sys::random::bytes())
        .as_str()
        .to_owned()
}
