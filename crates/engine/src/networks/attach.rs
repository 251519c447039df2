//! Attaching containers to networks, and letting go of them.

use super::Inner;
use super::error::{AttachError, NetworkError, PublishError};
use super::open::BRIDGE;
use super::ports::{self, Reserved, WantedPort};
use super::record;
use super::state::{Network, State};
use super::types::{AttachRequest, Attachment, EndpointInfo, NetworkDriver};
use model::ContainerId;
use model::firewall::{Change, HostPort, Target};
use model::settings::{EndpointSettings, NetworkMode};
use network::{HeldPort, LinkIndex, MacAddress, Prepared, ReadyEndpoint, ReadyNamespace};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// A network as one attach sees it.
struct Choice {
    id: String,
    name: String,
    bridge: LinkIndex,
    /// The address that the user wants.
    address: Option<Ipv4Addr>,
    mac: Option<MacAddress>,
    aliases: Vec<String>,
}

pub(super) fn attach(
    inner: &Inner,
    request: &AttachRequest<'_>,
) -> Result<Attachment, AttachError> {
    let Some(choice) = choose(inner, request)? else {
        let ready = inner.pool.take(None).map_err(AttachError::Namespace)?;
        return Ok(Attachment {
            netns: ready.netns,
            endpoints: Vec::new(),
        });
    };
    let wanted = ports::wanted(request.settings, request.exposed_ports)?;
    let mut ready = inner
        .pool
        .take(Some(choice.bridge))
        .map_err(AttachError::Namespace)?;
    let made = address(inner, &choice, &mut ready)
        .and_then(|(device, prepared)| enter(inner, request, &choice, &wanted, device, prepared));
    match made {
        Ok(endpoint) => Ok(Attachment {
            // The connection inside ends here: it would keep the namespace alive.
            netns: ready.netns,
            endpoints: vec![endpoint],
        }),
        Err(error) => {
            give_back(inner, choice.bridge, &ready);
            Err(error)
        }
    }
}

/// Works out which network is meant; none for loopback only.
fn choose(inner: &Inner, request: &AttachRequest<'_>) -> Result<Option<Choice>, AttachError> {
    let settings = request.settings;
    if !settings.links.is_empty() {
        return Err(AttachError::Unsupported(
            "linking containers (--link)".to_owned(),
        ));
    }
    let reference = match &settings.mode {
        _ if settings.disabled => return Ok(None),
        NetworkMode::None => return Ok(None),
        NetworkMode::Bridge => BRIDGE,
        NetworkMode::Named(name) => name,
        NetworkMode::Host | NetworkMode::Container(_) => {
            let message = "this container has no network namespace of its own";
            return Err(AttachError::Invalid(message.to_owned()));
        }
    };
    let state = inner.shared.lock();
    let network = state.find(reference)?;
    if network.endpoints.contains_key(request.container) {
        return Err(AttachError::Attached(request.container.to_string()));
    }
    let record = &network.record;
    let Some(bridge) = &network.bridge else {
        return match record.driver {
            NetworkDriver::Null => Ok(None),
            NetworkDriver::Host | NetworkDriver::Bridge => {
                Err(NetworkError::NotFound(reference.to_owned()).into())
            }
        };
    };
    let own = [&record.name, &record.id, "default", reference];
    let foreign = |key: &&String| !own.contains(&key.as_str());
    if let Some(other) = settings.endpoints.keys().find(foreign) {
        state.find(other)?;
        return Err(unsupported("a container on several networks"));
    }
    let endpoint = own.into_iter().find_map(|key| settings.endpoints.get(key));
    let none = EndpointSettings::default();
    let endpoint = endpoint.unwrap_or(&none);
    refuse_without_effect(endpoint, record.name == BRIDGE)?;
    let mac = endpoint
        .mac_address
        .as_ref()
        .or(settings.mac_address.as_ref());
    let mac = mac.filter(|mac| !mac.is_empty()).map(|mac| mac.parse());
    Ok(Some(Choice {
        id: record.id.clone(),
        name: record.name.clone(),
        bridge: bridge.index,
        address: wanted_address(endpoint, record.name == BRIDGE)?,
        mac: mac
            .transpose()
            .map_err(|error: network::InvalidMacAddress| AttachError::Invalid(error.to_string()))?,
        aliases: endpoint.aliases.clone(),
    }))
}

fn unsupported(what: &str) -> AttachError {
    AttachError::Unsupported(what.to_owned())
}

/// Refuses, by name, what would be accepted and do nothing.
fn refuse_without_effect(endpoint: &EndpointSettings, is_default: bool) -> Result<(), AttachError> {
    if is_default && !endpoint.aliases.is_empty() {
        let message =
            "network-scoped aliases are only supported for user-defined networks".to_owned();
        return Err(AttachError::Invalid(message));
    }
    if !endpoint.links.is_empty() {
        return Err(unsupported("linking containers (--link)"));
    }
    if !endpoint.link_local_ips.is_empty() {
        return Err(unsupported("a link-local address (--link-local-ip)"));
    }
    match endpoint.driver_opts.keys().next() {
        Some(option) => Err(unsupported(&format!("the endpoint option {option:?}"))),
        None => Ok(()),
    }
}

fn wanted_address(
    endpoint: &EndpointSettings,
    is_default: bool,
) -> Result<Option<Ipv4Addr>, AttachError> {
    let refuse = |message: &str| Err(AttachError::Invalid(message.to_owned()));
    if endpoint.ipv6_address.is_some() {
        return Err(unsupported("a static IPv6 address"));
    }
    if is_default && endpoint.ipv4_address.is_some() {
        return refuse("user specified IP address is supported on user defined networks only");
    }
    match endpoint.ipv4_address {
        None => Ok(None),
        Some(IpAddr::V4(address)) => Ok(Some(address)),
        Some(IpAddr::V6(_)) => refuse("invalid IPv4 address"),
    }
}

/// Sees to it that the endpoint has the address and hardware address it is to have. Ordinarily it
/// has, and nothing is done.
fn address(
    inner: &Inner,
    choice: &Choice,
    ready: &mut ReadyNamespace,
) -> Result<(ReadyEndpoint, Prepared), AttachError> {
    let configure = |source: io::Error| AttachError::Configure {
        network: choice.name.clone(),
        source,
    };
    let endpoint = ready
        .endpoint
        .as_mut()
        .expect("it was taken from a bridge's shelf");
    if let Some(wanted) = choice.address {
        claim(inner, choice, wanted)?;
        if let Some(old) = endpoint.prepared.take() {
            ready
                .links
                .delete_address(endpoint.device, old.address)
                .map_err(configure)?;
            release(inner, choice.bridge, old.address.address());
        }
        let prepared = with_bridge(inner, choice, |bridge| Ok(bridge.prepared(wanted)))?;
        endpoint.prepared = Some(prepared);
        endpoint.mac = MacAddress::of_address(wanted);
        let Prepared { address, gateway } = prepared;
        let mac = Some(choice.mac.unwrap_or(endpoint.mac));
        ready
            .links
            .configure(endpoint.device, mac, address, gateway)
            .map_err(configure)?;
    }
    let Some(prepared) = endpoint.prepared else {
        return Err(AttachError::AddressesExhausted {
            network: choice.name.clone(),
            id: choice.id.clone(),
        });
    };
    if let Some(mac) = choice.mac.filter(|mac| *mac != endpoint.mac) {
        ready
            .links
            .set_mac(endpoint.device, mac)
            .map_err(configure)?;
        endpoint.mac = mac;
    }
    Ok((endpoint.clone(), prepared))
}

/// Takes a certain address, from a ready endpoint if one has it.
fn claim(inner: &Inner, choice: &Choice, address: Ipv4Addr) -> Result<(), AttachError> {
    if inner.pool.discard(choice.bridge, address) {
        return Ok(());
    }
    with_bridge(inner, choice, |bridge| {
        bridge
            .space
            .claim(address)
            .map_err(|source| AttachError::Address {
                network: choice.name.clone(),
                address,
                source,
            })
    })
}

fn with_bridge<T>(
    inner: &Inner,
    choice: &Choice,
    run: impl FnOnce(&mut super::state::LiveBridge) -> Result<T, AttachError>,
) -> Result<T, AttachError> {
    let mut state = inner.shared.lock();
    let network = state.networks.get_mut(&choice.id);
    match network.and_then(|n| n.bridge.as_mut()) {
        Some(bridge) => run(bridge),
        // Removed meanwhile.
        None => Err(NetworkError::NotFound(choice.name.clone()).into()),
    }
}

fn release(inner: &Inner, bridge: LinkIndex, address: Ipv4Addr) {
    use network::AddressSource;
    let prefix_less = model::ipam::Cidr::new(address, 32).expect("32 is a prefix length");
    let prepared = Prepared {
        address: prefix_less,
        gateway: None,
    };
    inner.shared.give_back(bridge, prepared);
}

/// Lets go of an endpoint that was taken and is not used: its address is free when its link is
/// gone.
fn give_back(inner: &Inner, bridge: LinkIndex, ready: &ReadyNamespace) {
    let Some(endpoint) = &ready.endpoint else {
        return;
    };
    let mut state = inner.shared.lock();
    let mut bridges = state
        .networks
        .values_mut()
        .filter_map(|n| n.bridge.as_mut());
    if let (Some(prepared), Some(live)) = (endpoint.prepared, bridges.find(|b| b.index == bridge)) {
        let address = prepared.address.address();
        live.lingering.push((address, endpoint.host_device.clone()));
    }
}

/// Publishes the ports and writes the endpoint down.
fn enter(
    inner: &Inner,
    request: &AttachRequest<'_>,
    choice: &Choice,
    wanted: &[WantedPort],
    device: ReadyEndpoint,
    prepared: Prepared,
) -> Result<EndpointInfo, AttachError> {
    let endpoint_id = record::new_id();
    let ip = prepared.address.address();
    let mut state = inner.shared.lock();
    let reserved = publish(&mut state, wanted, ip).map_err(|source| AttachError::Publish {
        name: request.name.to_owned(),
        endpoint: endpoint_id.clone(),
        source,
    })?;
    let endpoint = EndpointInfo {
        network_id: choice.id.clone(),
        network: choice.name.clone(),
        endpoint_id,
        ip,
        prefix_len: prepared.address.prefix_len(),
        gateway: prepared.gateway,
        mac: device.mac.to_string(),
        aliases: choice.aliases.clone(),
        host_device: device.host_device,
        ports: reserved.iter().map(Reserved::published).collect(),
    };
    let name = request.name.to_owned();
    if let Some(network) = state.networks.get_mut(&choice.id) {
        let entry = (name, endpoint.clone());
        network.endpoints.insert(request.container.clone(), entry);
    }
    let ports: Vec<_> = reserved.iter().map(|r| (r.from, r.to)).collect();
    if !reserved.is_empty() {
        state.reserved.insert(request.container.clone(), reserved);
    }
    drop(state);
    forget_flows(&ports);
    Ok(endpoint)
}

/// Leads UDP clients anew that keep their port. Without it they are late, no more.
fn forget_flows(ports: &[(HostPort, Target)]) {
    if let Err(error) = network::forget_flows(ports) {
        tracing::debug!(%error, "flows through published ports are remembered until they end");
    }
}

/// Reserves ports and opens the firewall for them: all or none.
fn publish(
    state: &mut State,
    wanted: &[WantedPort],
    container: Ipv4Addr,
) -> Result<Vec<Reserved>, PublishError> {
    let mut reserved = Vec::new();
    let mut all = || {
        for port in wanted {
            let State {
                plan, ephemeral, ..
            } = state;
            reserved.push(ports::reserve(port, container, plan, ephemeral)?);
        }
        let changes: Vec<_> = reserved
            .iter()
            .map(|r| Change::Publish(r.from, r.to))
            .collect();
        state
            .change_firewall(&changes)
            .map_err(PublishError::Firewall)
    };
    match all() {
        Ok(()) => Ok(reserved),
        Err(error) => {
            for Reserved { from, .. } in reserved {
                state.plan.withdraw(from);
            }
            Err(error)
        }
    }
}

pub(super) fn adopt(
    inner: &Inner,
    container: &ContainerId,
    name: &str,
    endpoints: &[EndpointInfo],
) -> Result<(), AttachError> {
    let mut state = inner.shared.lock();
    for endpoint in endpoints {
        let network = state.networks.get_mut(&endpoint.network_id);
        let Some(network) = network else {
            return Err(NetworkError::NotFound(endpoint.network.clone()).into());
        };
        if let Some(bridge) = &mut network.bridge {
            bridge
                .space
                .claim(endpoint.ip)
                .map_err(|source| AttachError::Address {
                    network: endpoint.network.clone(),
                    address: endpoint.ip,
                    source,
                })?;
        }
        let entry = (name.to_owned(), endpoint.clone());
        network.endpoints.insert(container.clone(), entry);
        adopt_ports(&mut state, container, name, endpoint)?;
    }
    Ok(())
}

fn adopt_ports(
    state: &mut State,
    container: &ContainerId,
    name: &str,
    endpoint: &EndpointInfo,
) -> Result<(), AttachError> {
    let mut changes = Vec::new();
    for port in &endpoint.ports {
        let from = HostPort {
            transport: port.protocol.parse()?,
            port: port.host_port,
            address: (!port.host_ip.is_unspecified()).then_some(port.host_ip),
        };
        let to = Target {
            address: endpoint.ip,
            port: port.container_port,
        };
        let held = HeldPort::bind(from);
        if let Err(error) = &held {
            // The firewall leads there all the same, as it did while no daemon ran.
            tracing::warn!(%error, container = name, port = from.port, "published port not held");
        }
        state
            .plan
            .publish(from, to)
            .map_err(|_| AttachError::Publish {
                name: name.to_owned(),
                endpoint: endpoint.endpoint_id.clone(),
                source: PublishError::Allocated {
                    host_ip: port.host_ip.into(),
                    host_port: port.host_port,
                },
            })?;
        changes.push(Change::Publish(from, to));
        state
            .reserved
            .entry(container.clone())
            .or_default()
            .push(Reserved {
                from,
                to,
                _held: held.ok(),
            });
    }
    state
        .change_firewall(&changes)
        .map_err(|source| AttachError::Publish {
            name: name.to_owned(),
            endpoint: endpoint.endpoint_id.clone(),
            source: PublishError::Firewall(source),
        })
}

pub(super) fn detach(inner: &Inner, container: &ContainerId) {
    let mut state = inner.shared.lock();
    // The sockets are closed when the firewall leads there no longer.
    let reserved = state.reserved.remove(container).unwrap_or_default();
    let mut changes = Vec::new();
    for Reserved { from, to, .. } in &reserved {
        state.plan.withdraw(*from);
        changes.push(Change::Withdraw(*from, *to));
    }
    if !changes.is_empty()
        && let Err(error) = state.change_firewall(&changes)
    {
        tracing::error!(%error, %container, "cannot withdraw published ports");
    }
    for network in state.networks.values_mut() {
        let Network {
            endpoints, bridge, ..
        } = network;
        if let (Some((_, endpoint)), Some(bridge)) = (endpoints.remove(container), bridge) {
            bridge.lingering.push((endpoint.ip, endpoint.host_device));
        }
    }
    drop(state);
    let ports: Vec<_> = reserved.iter().map(|r| (r.from, r.to)).collect();
    forget_flows(&ports);
}
