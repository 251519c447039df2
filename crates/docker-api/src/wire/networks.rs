//! Docker's `Network`, `NetworkSummary` and `EndpointResource`.

use engine::networks::{EndpointInfo, NetworkDriver, NetworkInfo};
use serde::Serialize;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_excessive_bools, reason = "docker's own shape")]
pub(crate) struct Network {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: &'static str,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigReference,
    config_only: bool,
    containers: BTreeMap<String, EndpointResource>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    options: BTreeMap<String, String>,
    config: Vec<IpamConfig>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamConfig {
    subnet: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigReference {
    network: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EndpointResource {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: &'static str,
}

impl Network {
    /// The form in lists, which does not tell who is attached.
    pub(crate) fn summary(info: NetworkInfo) -> Self {
        Self::from_info(NetworkInfo {
            containers: BTreeMap::new(),
            ..info
        })
    }

    /// The form of inspect.
    pub(crate) fn from_info(info: NetworkInfo) -> Self {
        let NetworkInfo {
            id,
            name,
            driver,
            created,
            subnet,
            gateway,
            internal,
            options,
            labels,
            containers,
        } = info;
        let config = subnet.map(|subnet| IpamConfig {
            subnet: subnet.to_string(),
            gateway: gateway.map(|gateway| gateway.to_string()),
        });
        let created = OffsetDateTime::from(created).format(&Rfc3339);
        let containers = containers
            .into_iter()
            .map(|(id, (name, endpoint))| (id.to_string(), resource(name, endpoint)));
        Self {
            name,
            id,
            created: created.unwrap_or_else(|_| "0001-01-01T00:00:00Z".to_owned()),
            scope: "local",
            driver: driver.as_str(),
            enable_ipv4: driver == NetworkDriver::Bridge,
            enable_ipv6: false,
            ipam: Ipam {
                driver: "default",
                options: BTreeMap::new(),
                config: config.into_iter().collect(),
            },
            internal,
            attachable: false,
            ingress: false,
            config_from: ConfigReference { network: "" },
            config_only: false,
            containers: containers.collect(),
            options,
            labels,
        }
    }
}

fn resource(name: String, endpoint: EndpointInfo) -> EndpointResource {
    let EndpointInfo {
        network_id: _,
        network: _,
        endpoint_id,
        ip,
        prefix_len,
        gateway: _,
        mac,
        aliases: _,
        host_device: _,
        ports: _,
    } = endpoint;
    EndpointResource {
        name,
        endpoint_id,
        mac_address: mac,
        ipv4_address: format!("{ip}/{prefix_len}"),
        ipv6_address: "",
    }
}
