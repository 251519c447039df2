//! Carries out what `engine` decides about networks: links, addresses, ready namespaces, the
//! firewall table, host ports that are held.
//!
//! Everything happens in the network namespace of the calling thread, so a daemon works in
//! whichever it was started. Speaks netlink itself, synchronously: a request is answered while it
//! is sent. It may depend on `model` (plans as data) and `sys`; it knows no containers.
//!
//! ```no_run
//! use network::{Firewall, Links, ensure_bridge};
//! let address = "172.17.0.1/16".parse().expect("it is an address");
//! ensure_bridge(&mut Links::open()?, "berth0", address, None)?;
//! Firewall::open("berth")?.install(&model::firewall::FirewallPlan::default())?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod firewall;
mod flows;
mod host;
mod link;
mod namespaces;
mod netlink;
mod ports;

pub use firewall::Firewall;
pub use flows::forget_flows;
pub use host::{enable_forwarding, ensure_bridge, set_device_option};
pub use link::{
    DEVICE_NAME_MAX, InvalidMacAddress, LOOPBACK, Link, LinkIndex, Links, MacAddress, VethPeer,
};
pub use namespaces::{
    AddressSource, NamespaceOptions, NamespacePool, Prepared, ReadyEndpoint, ReadyNamespace,
    is_host_device_name,
};
pub use ports::{BindError, HeldPort, ephemeral_range};
