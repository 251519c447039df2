//! What goes wrong with networks, in docker's words where scripts read them.

use model::ErrorKind;
use model::firewall::{InvalidTransport, Transport};
use model::ipam::{ClaimError, PoolsExhausted};
use network::BindError;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// Why the networks cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The name of the bridge is no device name.
    #[error("invalid bridge name {0:?}: use 1 to 15 letters, digits, '.', '_' or '-'")]
    BridgeName(String),
    /// The records cannot be read or written.
    #[error("cannot use the records of networks")]
    Records(#[from] store::RecordError),
    /// The host's links and routes cannot be read.
    #[error("cannot read the host's network devices (it takes the capability NET_ADMIN)")]
    Host(#[source] io::Error),
    /// No subnet is free for the default bridge.
    #[error(
        "could not find an available IPv4 address pool for the default bridge; choose one with --bip"
    )]
    Subnet(#[from] PoolsExhausted),
    /// The bridge cannot be made.
    #[error("cannot set up the bridge {bridge}")]
    Bridge {
        /// The device's name.
        bridge: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Forwarding cannot be turned on.
    #[error("cannot turn on IPv4 forwarding")]
    Forwarding(#[source] io::Error),
    /// The firewall table cannot be made.
    #[error("cannot set up the nftables table {table:?}")]
    Firewall {
        /// The table's name.
        table: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread that makes namespaces cannot be started.
    #[error("cannot start making network namespaces")]
    Namespaces(#[source] io::Error),
}

impl OpenError {
    /// Returns the sort of failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::BridgeName(_) => ErrorKind::InvalidParameter,
            Self::Records(_)
            | Self::Host(_)
            | Self::Subnet(_)
            | Self::Bridge { .. }
            | Self::Forwarding(_)
            | Self::Firewall { .. }
            | Self::Namespaces(_) => ErrorKind::Internal,
        }
    }
}

/// Why a container cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The named network does not exist, or is ambiguous.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The container is attached already.
    #[error("container {0} is attached to its networks already")]
    Attached(String),
    /// Something of networks that is not there yet.
    #[error("{0} is not supported yet")]
    Unsupported(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A protocol without ports, or one that is not there yet.
    #[error(transparent)]
    Protocol(#[from] InvalidTransport),
    /// The namespace with its links cannot be made.
    #[error("cannot make a network namespace")]
    Namespace(#[source] io::Error),
    /// The endpoint cannot be configured.
    #[error("cannot configure the endpoint on network {network}")]
    Configure {
        /// The network's name.
        network: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The subnet has no free address.
    #[error("no available IPv4 addresses on this network's address pools: {network} ({id})")]
    AddressesExhausted {
        /// The network's name.
        network: String,
        /// The network's ID.
        id: String,
    },
    /// The address asked for cannot be had.
    #[error("cannot use the address {address} on network {network}")]
    Address {
        /// The network's name.
        network: String,
        /// The address.
        address: Ipv4Addr,
        /// Why.
        source: ClaimError,
    },
    /// A port cannot be published.
    #[error("driver failed programming external connectivity on endpoint {name} ({endpoint})")]
    Publish {
        /// The container's name.
        name: String,
        /// The endpoint's ID.
        endpoint: String,
        /// Why.
        source: PublishError,
    },
}

impl AttachError {
    /// Returns the sort of failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Network(error) => error.kind(),
            Self::Attached(_) => ErrorKind::Conflict,
            Self::Unsupported(_) => ErrorKind::NotImplemented,
            Self::Invalid(_) | Self::Protocol(_) => ErrorKind::InvalidParameter,
            Self::Address { source, .. } => match source {
                ClaimError::InUse => ErrorKind::Forbidden,
                ClaimError::Outside(_) => ErrorKind::InvalidParameter,
            },
            // As docker answers a taken port.
            Self::Namespace(_)
            | Self::Configure { .. }
            | Self::AddressesExhausted { .. }
            | Self::Publish { .. } => ErrorKind::Internal,
        }
    }
}

/// Why a port cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Another of our containers publishes it.
    #[error("Bind for {host_ip}:{host_port} failed: port is already allocated")]
    Allocated {
        /// Host address asked for.
        host_ip: IpAddr,
        /// Host port asked for.
        host_port: u16,
    },
    /// Another program has it, or the host lacks the address.
    #[error("failed to bind host port for {host_ip}:{host_port}:{target}/{transport}")]
    Bind {
        /// Host address asked for.
        host_ip: IpAddr,
        /// Host port asked for.
        host_port: u16,
        /// Where it was to lead.
        target: String,
        /// The protocol.
        transport: Transport,
        /// What the kernel said.
        source: BindError,
    },
    /// Every port of the range is taken.
    #[error("all ports are allocated")]
    RangeExhausted,
    /// The firewall refused.
    #[error("cannot change the firewall")]
    Firewall(#[source] io::Error),
}

/// Why a network cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No network has that name or ID.
    #[error("network {0} not found")]
    NotFound(String),
    /// Several networks match.
    #[error("network {0} is ambiguous (found several)")]
    Ambiguous(String),
}

impl NetworkError {
    /// Returns the sort of failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Ambiguous(_) => ErrorKind::InvalidParameter,
        }
    }
}
