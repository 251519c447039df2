//! The values that networks exchange with the rest of the engine.

use model::ContainerId;
use model::ipam::{AddressPool, Cidr};
use model::settings::{NetworkMode, NetworkSettings};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::time::SystemTime;

/// How the daemon's networks are set up: its flags, parsed.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Device of the default network (`--bridge`), at most 15 bytes.
    pub bridge: String,
    /// Address and prefix of the default bridge (`--bip`); none: chosen from the pools.
    pub bip: Option<Cidr>,
    /// What subnets are chosen from (`--default-address-pool`); empty: docker's.
    pub pools: Vec<AddressPool>,
    /// `--mtu`; none: the kernel's 1500.
    pub mtu: Option<u32>,
    /// Name of the nftables table, one for each daemon in a network namespace; none: after the
    /// bridge, which is one for each daemon too.
    pub table: Option<String>,
    /// How many namespaces of each sort are kept ready.
    pub spare_namespaces: usize,
    /// `--dns`.
    pub dns: Vec<IpAddr>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--dns-opt`.
    pub dns_options: Vec<String>,
    /// `--host-gateway-ip`; none: the default bridge's address.
    pub host_gateway: Option<IpAddr>,
}

/// Device of the default network, unless told otherwise.
const DEFAULT_BRIDGE: &str = "berth0";

impl NetworkOptions {
    /// Returns the name of the nftables table: `berth` beside the bridge `berth0`, `berth-<bridge>`
    /// beside another.
    #[must_use]
    pub fn table_name(&self) -> String {
        match &self.table {
            Some(table) => table.clone(),
            None if self.bridge == DEFAULT_BRIDGE => "berth".to_owned(),
            None => format!("berth-{}", self.bridge),
        }
    }
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            bridge: DEFAULT_BRIDGE.to_owned(),
            bip: None,
            pools: Vec::new(),
            mtu: None,
            table: None,
            spare_namespaces: 2,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            host_gateway: None,
        }
    }
}

/// Who is to be attached, and how.
#[derive(Debug, Clone, Copy)]
pub struct AttachRequest<'a> {
    /// The container.
    pub container: &'a ContainerId,
    /// Its name, for messages and inspect.
    pub name: &'a str,
    /// What the user asked for.
    pub settings: &'a NetworkSettings,
    /// Exposed ports (`80/tcp`), the image's and the user's, for `--publish-all`.
    pub exposed_ports: &'a [String],
}

/// A container's network side, ready for its processes.
#[derive(Debug)]
pub struct Attachment {
    /// The namespace. Whoever holds the descriptor holds the namespace and its links: hand it to
    /// the shim and drop it.
    pub netns: OwnedFd,
    /// One for each network; empty for mode `none`. Belongs into the container's record.
    pub endpoints: Vec<EndpointInfo>,
}

/// One container's place on one network, as recorded and as inspect shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointInfo {
    /// The network's ID.
    pub network_id: String,
    /// The network's name: the key in docker's `NetworkSettings.Networks`.
    pub network: String,
    /// The endpoint's ID, 64 hex digits.
    pub endpoint_id: String,
    /// Address inside the container.
    pub ip: Ipv4Addr,
    /// Prefix length of the network.
    pub prefix_len: u8,
    /// Default gateway; none on internal networks.
    pub gateway: Option<Ipv4Addr>,
    /// MAC address, `02:42:ac:11:00:02`.
    pub mac: String,
    /// Aliases asked for.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Name of the device on the host.
    pub host_device: String,
    /// Published ports as they turned out.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
}

/// One published port, with the host port it really got.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Port inside the container.
    pub container_port: u16,
    /// Address on the host, `0.0.0.0` for all.
    pub host_ip: Ipv4Addr,
    /// Port on the host.
    pub host_port: u16,
}

/// What kind of network it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkDriver {
    /// A bridge on the host.
    Bridge,
    /// The host's own network.
    Host,
    /// Loopback only; docker calls its driver `null`.
    Null,
}

impl NetworkDriver {
    /// Returns docker's name for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// A network as list and inspect show it.
#[derive(Debug, Clone)]
pub struct NetworkInfo {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: NetworkDriver,
    /// When it was made.
    pub created: SystemTime,
    /// Subnet, if it has addresses.
    pub subnet: Option<Cidr>,
    /// The bridge's address, if it has addresses.
    pub gateway: Option<Ipv4Addr>,
    /// True if it has no way out.
    pub internal: bool,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Attached containers: name and endpoint.
    pub containers: BTreeMap<ContainerId, (String, EndpointInfo)>,
}

/// Whose files are to be written.
#[derive(Debug, Clone, Copy)]
pub struct FilesRequest<'a> {
    /// The container's host name.
    pub hostname: &'a str,
    /// Its domain name, or empty.
    pub domainname: &'a str,
    /// Its network settings; the mode decides whether the host's files are copied.
    pub settings: &'a NetworkSettings,
    /// Its endpoints, from the attachment.
    pub endpoints: &'a [EndpointInfo],
}

impl FilesRequest<'_> {
    /// Tells whether the container shares the host's network.
    #[must_use]
    pub fn on_host_network(&self) -> bool {
        self.settings.mode == NetworkMode::Host
    }
}

/// Contents of the three files that docker gives each container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkFiles {
    /// `/etc/hosts`.
    pub hosts: String,
    /// `/etc/hostname`.
    pub hostname: String,
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
}
