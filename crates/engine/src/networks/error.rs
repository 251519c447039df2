//! What goes wrong with networks, in docker's words where scripts read them.

use model::ErrorKind;
use std::net::IpAddr;

/// Why the networks cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The bridge, its address or the namespace pool cannot be made.
    #[error("cannot set up the bridge {bridge}")]
    Bridge {
        /// The device's name.
        bridge: String,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl OpenError {
    /// Returns the sort of failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// Why a container cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The named network does not exist.
    #[error("network {0} not found")]
    NoNetwork(String),
    /// The subnet has no free address.
    #[error("no available IPv4 addresses on this network's address pools: {network} ({id})")]
    AddressesExhausted {
        /// The network's name.
        network: String,
        /// The network's ID.
        id: String,
    },
    /// Another of our containers publishes the port.
    #[error(
        "driver failed programming external connectivity on endpoint {name} ({endpoint}): \
         Bind for {host_ip}:{host_port} failed: port is already allocated"
    )]
    PortAllocated {
        /// The container's name.
        name: String,
        /// The endpoint's ID.
        endpoint: String,
        /// Host address asked for.
        host_ip: IpAddr,
        /// Host port asked for.
        host_port: u16,
    },
}

impl AttachError {
    /// Returns the sort of failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoNetwork(_) => ErrorKind::NotFound,
            Self::AddressesExhausted { .. } | Self::PortAllocated { .. } => ErrorKind::Internal,
        }
    }
}

/// Why a network cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No network has that name or ID.
    #[error("network {0} not found")]
    NotFound(String),
    /// Several networks match.
    #[error("network {0} is ambiguous")]
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
