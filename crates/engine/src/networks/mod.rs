//! Networks: what containers are attached to, and which addresses and ports they hold.
//!
//! Owns the network records, address allocation and port reservation, and tells the `network`
//! crate what to make: bridges, endpoints, firewall tables. Refuses to know about containers
//! beyond their ID, name and settings: who runs, and when, is decided in `containers`.
//!
//! ```text
//! open ─ adopt* ─ recovered ─┬─ attach ─ (container runs) ─ detach
//!                            └─ list, inspect, files
//! ```
//!
//! All calls are synchronous and short (an attach takes well under a millisecond while the pool
//! of ready namespaces is not empty), so they may be made from an async task. Who is attached is
//! written in the containers' records, by their owner; networks have records of their own.

mod attach;
mod error;
mod files;
mod open;
mod ports;
mod record;
mod state;
mod types;

pub use error::{AttachError, NetworkError, OpenError, PublishError};
pub use types::{
    AttachRequest, Attachment, EndpointInfo, FilesRequest, NetworkDriver, NetworkFiles,
    NetworkInfo, NetworkOptions, PublishedPort,
};

use files::HostFiles;
use model::ContainerId;
use network::NamespacePool;
use state::{Network, Shared};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The handle; cheap to clone. The last one dropped ends the pool; running containers, links and
/// the firewall stay as they are.
#[derive(Debug, Clone)]
pub struct Networks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: NetworkOptions,
    shared: Shared,
    pool: NamespacePool,
}

impl Networks {
    /// Loads the records and makes the default bridge and the firewall table if they are missing.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: NetworkOptions, store: &store::Store) -> Result<Self, OpenError> {
        open::open(options, store)
    }

    /// Takes over the endpoints of a container that survived a daemon, as its record tells them:
    /// their addresses and ports are held again.
    ///
    /// # Errors
    /// If an address or a port is held by another container already.
    pub fn adopt(
        &self,
        container: &ContainerId,
        name: &str,
        endpoints: &[EndpointInfo],
    ) -> Result<(), AttachError> {
        attach::adopt(&self.inner, container, name, endpoints)
    }

    /// Says that every surviving container has been adopted: links and firewall entries that
    /// nobody adopted are swept, and the pool begins to keep endpoints ready. Call it before the
    /// first [`Self::attach`].
    pub fn recovered(&self) {
        open::recovered(&self.inner);
    }

    /// Gives a container its network namespace with its endpoints and published ports.
    ///
    /// For the modes `none`, `bridge` and a named network; `host` and `container:` have no
    /// namespace of their own and are the caller's. A failed attach leaves nothing behind.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&self, request: &AttachRequest<'_>) -> Result<Attachment, AttachError> {
        attach::attach(&self.inner, request)
    }

    /// Releases all that a container holds; does nothing if it holds nothing.
    ///
    /// Returns at once: the kernel removes the links when the namespace's last process and
    /// descriptor are gone, and only then are the addresses given out again.
    pub fn detach(&self, container: &ContainerId) {
        attach::detach(&self.inner, container);
    }

    /// Returns all networks, the predefined ones too, by name.
    #[must_use]
    pub fn list(&self) -> Vec<NetworkInfo> {
        let state = self.inner.shared.lock();
        let mut all: Vec<_> = state.networks.values().map(Network::info).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Returns one network by name, ID or unambiguous ID prefix.
    ///
    /// # Errors
    /// If none or several match.
    pub fn inspect(&self, reference: &str) -> Result<NetworkInfo, NetworkError> {
        let state = self.inner.shared.lock();
        state.find(reference).map(Network::info)
    }

    /// Returns what belongs into `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
    #[must_use]
    pub fn files(&self, request: &FilesRequest<'_>) -> NetworkFiles {
        let options = &self.inner.options;
        let gateway = options.host_gateway.or_else(|| self.default_gateway());
        files::plan(request, options, &host_files(), gateway)
    }

    /// Waits until the pool of ready namespaces is full; false if that takes longer.
    #[must_use]
    pub fn wait_until_ready(&self, timeout: Duration) -> bool {
        self.inner.pool.wait_until_full(timeout)
    }

    fn default_gateway(&self) -> Option<IpAddr> {
        let default = self.inspect(open::BRIDGE).ok()?;
        default.gateway.map(IpAddr::V4)
    }
}

/// Reads the host's files as they are now; a missing one is an empty one.
fn host_files() -> HostFiles {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let own = read("/etc/resolv.conf");
    // systemd-resolved's own listener; the servers that it asks are in another file.
    let is_stub = |ip: Option<IpAddr>| ip == Some(IpAddr::from([127, 0, 0, 53]));
    let servers: Vec<_> = files::name_servers(&own).map(|(_, ip)| ip).collect();
    let only_stub = !servers.is_empty() && servers.into_iter().all(is_stub);
    let behind = only_stub.then(|| read("/run/systemd/resolve/resolv.conf"));
    let resolv_conf = behind.filter(|text| !text.is_empty()).unwrap_or(own);
    HostFiles {
        hosts: read("/etc/hosts"),
        resolv_conf,
    }
}
