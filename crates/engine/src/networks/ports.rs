//! Which host ports a container's mappings get.
//!
//! What is asked for is worked out first, as data; then each port is tried: against the ports
//! that our own containers publish, and against the host by really binding it.

use super::error::{AttachError, PublishError};
use super::types::PublishedPort;
use model::firewall::{FirewallPlan, HostPort, Target, Transport};
use model::settings::{NetworkSettings, PortMapping};
use network::HeldPort;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

/// One port that is to be published, and which host ports will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantedPort {
    transport: Transport,
    container_port: u16,
    address: Option<Ipv4Addr>,
    /// None: any free one.
    range: Option<RangeInclusive<u16>>,
}

/// One port that is published and held.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) from: HostPort,
    pub(super) to: Target,
    /// None for one that another program took while no daemon ran.
    pub(super) _held: Option<HeldPort>,
}

impl Reserved {
    pub(super) fn published(&self) -> PublishedPort {
        PublishedPort {
            protocol: self.from.transport.to_string(),
            container_port: self.to.port,
            host_ip: self.from.address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            host_port: self.from.port,
        }
    }
}

/// Works out what is to be published: the mappings, and with `--publish-all` every exposed port
/// that no mapping names.
pub(super) fn wanted(
    settings: &NetworkSettings,
    exposed: &[String],
) -> Result<Vec<WantedPort>, AttachError> {
    let mut all = Vec::new();
    for mapping in &settings.ports {
        all.push(of_mapping(mapping)?);
    }
    if settings.publish_all {
        for text in exposed {
            let (transport, ports) = parse_exposed(text)?;
            for container_port in ports {
                let named =
                    |w: &WantedPort| w.transport == transport && w.container_port == container_port;
                if !all.iter().any(named) {
                    all.push(WantedPort {
                        transport,
                        container_port,
                        address: None,
                        range: None,
                    });
                }
            }
        }
    }
    Ok(all)
}

fn of_mapping(mapping: &PortMapping) -> Result<WantedPort, AttachError> {
    let address = match mapping.host_ip {
        None => None,
        Some(IpAddr::V4(ip)) => (!ip.is_unspecified()).then_some(ip),
        Some(IpAddr::V6(ip)) => {
            return Err(AttachError::Unsupported(format!(
                "publishing a port on the IPv6 address {ip}"
            )));
        }
    };
    Ok(WantedPort {
        transport: mapping.protocol.parse()?,
        container_port: mapping.container_port,
        address,
        range: (mapping.host_port != 0)
            .then(|| mapping.host_port..=mapping.host_port_end.max(mapping.host_port)),
    })
}

/// Reads an exposed port: `80`, `80/udp`, `8000-8010/tcp`.
fn parse_exposed(text: &str) -> Result<(Transport, RangeInclusive<u16>), AttachError> {
    let (ports, transport) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first > 0 && first <= last => {
            Ok((transport.parse()?, first..=last))
        }
        _ => Err(AttachError::Invalid(format!(
            "invalid port specification: {text:?}"
        ))),
    }
}

/// Where unasked-for ports are taken from, in turn, so that one just freed is not given out again
/// at once.
#[derive(Debug)]
pub(super) struct Ephemeral {
    range: RangeInclusive<u16>,
    next: u16,
}

impl Ephemeral {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        Self {
            next: *range.start(),
            range,
        }
    }

    /// Every port once, from the next one on.
    fn candidates(&self) -> impl Iterator<Item = u16> + use<> {
        (self.next..=*self.range.end()).chain(*self.range.start()..self.next)
    }

    fn took(&mut self, port: u16) {
        self.next = if port == *self.range.end() {
            *self.range.start()
        } else {
            port + 1
        };
    }
}

/// Reserves a port: in the plan and on the host.
pub(super) fn reserve(
    wanted: &WantedPort,
    container: Ipv4Addr,
    plan: &mut FirewallPlan,
    ephemeral: &mut Ephemeral,
) -> Result<Reserved, PublishError> {
    let to = Target {
        address: container,
        port: wanted.container_port,
    };
    let candidates: Box<dyn Iterator<Item = u16>> = match &wanted.range {
        Some(range) => Box::new(range.clone()),
        None => Box::new(ephemeral.candidates()),
    };
    let mut refused = PublishError::RangeExhausted;
    for port in candidates {
        let from = HostPort {
            transport: wanted.transport,
            port,
            address: wanted.address,
        };
        match try_port(from, to, plan) {
            Ok(reserved) => {
                if wanted.range.is_none() {
                    ephemeral.took(port);
                }
                return Ok(reserved);
            }
            // Another port of the range would fail in the same way.
            Err(error @ PublishError::Bind { .. }) if !is_taken(&error) => return Err(error),
            Err(error) => refused = error,
        }
    }
    let several = wanted.range.as_ref().is_none_or(|r| r.start() < r.end());
    Err(if several {
        PublishError::RangeExhausted
    } else {
        refused
    })
}

fn try_port(from: HostPort, to: Target, plan: &mut FirewallPlan) -> Result<Reserved, PublishError> {
    let host_ip = IpAddr::V4(from.address.unwrap_or(Ipv4Addr::UNSPECIFIED));
    if plan.collision(from).is_some() {
        return Err(PublishError::Allocated {
            host_ip,
            host_port: from.port,
        });
    }
    let held = HeldPort::bind(from).map_err(|source| PublishError::Bind {
        host_ip,
        host_port: from.port,
        target: format!("{}:{}", to.address, to.port),
        transport: from.transport,
        source,
    })?;
    plan.publish(from, to)
        .map_err(|_| PublishError::Allocated {
            host_ip,
            host_port: from.port,
        })?;
    Ok(Reserved {
        from,
        to,
        _held: Some(held),
    })
}

fn is_taken(error: &PublishError) -> bool {
    match error {
        PublishError::Bind { source, .. } => source.source.kind() == std::io::ErrorKind::AddrInUse,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed_ports_parse() {
        let check = |text: &str, expected: Option<(Transport, RangeInclusive<u16>)>| {
            assert_eq!(parse_exposed(text).ok(), expected, "{text}");
        };
        check("80", Some((Transport::Tcp, 80..=80)));
        check("53/udp", Some((Transport::Udp, 53..=53)));
        check("8000-8010/TCP", Some((Transport::Tcp, 8000..=8010)));
        for bad in ["", "0", "80/", "80/sctp", "9-8", "65536", "x"] {
            check(bad, None);
        }
    }

    #[test]
    fn publish_all_adds_what_no_mapping_names() {
        let settings = NetworkSettings {
            publish_all: true,
            ports: vec![PortMapping {
                protocol: "tcp".to_owned(),
                container_port: 80,
                host_ip: Some(IpAddr::from([0, 0, 0, 0])),
                host_port: 8080,
                host_port_end: 8080,
            }],
            ..NetworkSettings::default()
        };
        let exposed = ["80/tcp", "80/udp", "443"].map(str::to_owned);
        let wanted = wanted(&settings, &exposed).unwrap();
        let ports: Vec<_> = wanted
            .iter()
            .map(|w| (w.transport, w.container_port))
            .collect();
        let expected = [
            (Transport::Tcp, 80),
            (Transport::Udp, 80),
            (Transport::Tcp, 443),
        ];
        assert_eq!(ports, expected);
        assert_eq!(
            (&wanted[0].range, wanted[0].address),
            (&Some(8080..=8080), None)
        );
    }

    #[test]
    fn ephemeral_ports_go_round() {
        let mut ephemeral = Ephemeral::new(10..=12);
        ephemeral.took(11);
        assert_eq!(ephemeral.candidates().collect::<Vec<_>>(), [12, 10, 11]);
        ephemeral.took(12);
        assert_eq!(ephemeral.candidates().collect::<Vec<_>>(), [10, 11, 12]);
    }
}
