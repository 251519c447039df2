//! Root file systems of containers: a writable directory on a stack of layers.
//!
//! A snapshotter decides where the parts lie and says so as data ([`RootMount`]); mounting them
//! is the runtime's business, in the container's own mount namespace. Every implementation
//! passes the suite in `conformance.rs`.

#[cfg(test)]
mod conformance;
mod overlay;

pub(crate) use overlay::OverlaySnapshots;

use crate::LayerError;
use model::DiffId;
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

/// What the runtime mounts with overlayfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootMount {
    /// Read-only directories, the topmost first. May be symbolic links with short names.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// Overlayfs' own, on the same file system as `upper`.
    pub work: PathBuf,
}

/// What a snapshot's changes take on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Allocated bytes.
    pub size_bytes: u64,
    /// Files, directories and all else.
    pub inodes: u64,
}

/// Keeper of the containers' root file systems, by key (a container ID).
pub trait Snapshots: std::fmt::Debug + Send + Sync {
    /// Makes a snapshot on `layers`, bottom first. On the start path: some tens of microseconds.
    ///
    /// # Errors
    /// The key is taken or unusable, a layer is missing, or the file system refuses.
    fn prepare(&self, key: &str, layers: &[DiffId]) -> Result<RootMount, SnapshotError>;

    /// Says again what [`Self::prepare`] said.
    ///
    /// # Errors
    /// There is no such snapshot, a layer is missing, or the file system refuses.
    fn mount(&self, key: &str) -> Result<RootMount, SnapshotError>;

    /// Makes a snapshot disappear at once and deletes it behind; one that is not there is fine.
    ///
    /// # Errors
    /// The file system refuses.
    fn remove(&self, key: &str) -> Result<(), SnapshotError>;

    /// Adds up what a snapshot's changes take. Reads the whole tree.
    ///
    /// # Errors
    /// There is no such snapshot, or the file system refuses.
    fn usage(&self, key: &str) -> Result<Usage, SnapshotError>;

    /// Every key, sorted.
    ///
    /// # Errors
    /// The file system refuses.
    fn list(&self) -> Result<Vec<String>, SnapshotError>;

    /// Every layer that some snapshot stands on.
    ///
    /// # Errors
    /// The file system refuses.
    fn layers_in_use(&self) -> Result<HashSet<DiffId>, SnapshotError>;
}

/// Why a snapshot could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A key that cannot be a file name.
    #[error("invalid snapshot key {0:?}")]
    InvalidKey(String),
    /// The key is taken.
    #[error("snapshot {0} exists already")]
    Exists(String),
    /// No such snapshot.
    #[error("no snapshot {0}")]
    NotFound(String),
    /// A layer it stands on is not here.
    #[error("snapshot {key} has no use of its layers")]
    Layer {
        /// The snapshot.
        key: String,
        /// Which layer, and why.
        source: LayerError,
    },
    /// More layers than the kernel stacks.
    #[error("snapshot {key} has {count} layers; the kernel stacks at most {limit}")]
    TooManyLayers {
        /// The snapshot.
        key: String,
        /// Its layers.
        count: usize,
        /// The bound.
        limit: usize,
    },
    /// The file system refused.
    #[error("cannot access snapshot at {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
