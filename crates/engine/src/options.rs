//! What the daemon's flags and `daemon.json` say to the engine, parsed.

use crate::networks::NetworkOptions;
use crate::{OpenError, Traces};
use model::ipam::{AddressPool, Cidr};
use std::net::IpAddr;
use std::path::PathBuf;

/// Where the engine keeps things and how it treats networks and registries.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Images, records, volumes: what survives a reboot.
    pub data_root: PathBuf,
    /// Sockets and exit records: what does not.
    pub exec_root: PathBuf,
    /// The program that is started as a shim; ourselves.
    pub exe: PathBuf,
    /// Cgroup under which containers get theirs.
    pub cgroup_parent: String,
    /// Mirrors, asked before the registry itself: URLs.
    pub registry_mirrors: Vec<String>,
    /// Registries (`host[:port]` or CIDR) that may be spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// Name of the default bridge; `none` turns networking off.
    pub bridge: String,
    /// The default bridge's own address, `172.17.0.1/16`; none: from the pools.
    pub bip: Option<String>,
    /// `(base, size)` of the pools that networks are cut from; empty: docker's.
    pub address_pools: Vec<(String, u8)>,
    /// DNS servers of containers that name none.
    pub dns: Vec<IpAddr>,
    /// DNS search domains of containers that name none.
    pub dns_search: Vec<String>,
    /// DNS options of containers that name none.
    pub dns_options: Vec<String>,
    /// How many shims and network namespaces are kept ready.
    pub pool_size: usize,
    /// Where the steps of traced requests are collected.
    pub traces: Traces,
}

impl EngineOptions {
    /// Makes the defaults for two roots.
    #[must_use]
    pub fn new(data_root: PathBuf, exec_root: PathBuf) -> Self {
        Self {
            data_root,
            exec_root,
            exe: "/proc/self/exe".into(),
            cgroup_parent: "/berth".to_owned(),
            registry_mirrors: Vec::new(),
            insecure_registries: Vec::new(),
            bridge: "berth0".to_owned(),
            bip: None,
            address_pools: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            pool_size: 2,
            traces: Traces::default(),
        }
    }
}

impl EngineOptions {
    /// Says the network part in the networks' terms.
    pub(crate) fn network_options(&self) -> Result<NetworkOptions, OpenError> {
        let cidr = |text: &str| {
            text.parse::<Cidr>()
                .map_err(|error| OpenError::Option(format!("{text:?}: {error}")))
        };
        let pools = self
            .address_pools
            .iter()
            .map(|(base, size)| {
                Ok(AddressPool {
                    base: cidr(base)?,
                    size: *size,
                })
            })
            .collect::<Result<_, OpenError>>()?;
        Ok(NetworkOptions {
            bridge: self.bridge.clone(),
            bip: self.bip.as_deref().map(cidr).transpose()?,
            pools,
            spare_namespaces: self.pool_size,
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_options.clone(),
            ..NetworkOptions::default()
        })
    }
}
