//! Opening the data root: taking its lock, sweeping what a dead process left, handing out the
//! parts.

use crate::files;
use crate::gc::Leases;
use crate::snapshots::OverlaySnapshots;
use crate::trash::Trash;
use crate::{Content, Layers, Lease, Records, Snapshots};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long to wait for a daemon that is just going away (killed, its memory being torn down).
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// Everything on disk. Clones are cheap and share one state.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    records: Records,
    content: Content,
    layers: Layers,
    snapshots: Arc<OverlaySnapshots>,
    leases: Arc<Leases>,
    _lock: OwnedFd,
}

/// Why the data root could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("data root {} is in use by another daemon", .0.display())]
    InUse(PathBuf),
    /// The file system refused.
    #[error("cannot open data root at {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Store {
    /// Opens the data root, making it if needed. What a dead process left half-made is swept;
    /// partial blobs stay, to be resumed.
    ///
    /// # Errors
    /// Another process has it, or the file system refuses.
    pub fn open(data_root: &Path) -> Result<Self, OpenError> {
        files::ensure_dir(data_root).map_err(at(data_root))?;
        // Short names and mount options are made of absolute paths.
        let root = std::fs::canonicalize(data_root).map_err(at(data_root))?;
        let lock = lock(&root)?;
        let part = |name: &str| root.join(name);
        let trash = Trash::open(&part("trash")).map_err(at(&part("trash")))?;
        let records = Records::open(&part("records")).map_err(at(&part("records")))?;
        let content =
            Content::open_at(&part("content"), trash.clone()).map_err(at(&part("content")))?;
        let layers = Layers::open(&root, trash.clone()).map_err(at(&part("layers")))?;
        let snapshots = OverlaySnapshots::open(&part("snapshots"), layers.clone(), trash)
            .map_err(at(&part("snapshots")))?;
        Ok(Self(Arc::new(Inner {
            root,
            records,
            content,
            layers,
            snapshots: Arc::new(snapshots),
            leases: Arc::default(),
            _lock: lock,
        })))
    }

    /// The data root, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> Records {
        self.0.records.clone()
    }

    /// The blobs.
    #[must_use]
    pub fn content(&self) -> Content {
        self.0.content.clone()
    }

    /// The unpacked layers.
    #[must_use]
    pub fn layers(&self) -> Layers {
        self.0.layers.clone()
    }

    /// The containers' root file systems.
    #[must_use]
    pub fn snapshots(&self) -> Arc<dyn Snapshots> {
        Arc::clone(&self.0.snapshots) as Arc<dyn Snapshots>
    }

    /// Starts a lease: what it names survives [`Self::collect`] until it is dropped.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease::new(Arc::clone(&self.0.leases))
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.0.leases
    }
}

/// Locks the data root for as long as the descriptor is open.
fn lock(root: &Path) -> Result<OwnedFd, OpenError> {
    let path = root.join("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let open = || rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600));
    let fd = open().map_err(|error| at(&path)(error.into()))?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(fd),
        Err(Errno::WOULDBLOCK) => {}
        Err(error) => return Err(at(&path)(error.into())),
    }
    // The kernel wakes a blocked flock; a thread of its own gives it a deadline.
    let (sender, locked) = mpsc::channel();
    std::thread::Builder::new()
        .name("store-lock".into())
        .spawn(move || {
            let result = rustix::fs::flock(&fd, FlockOperation::LockExclusive);
            // Nobody listens after the deadline; the lock goes with the descriptor then.
            drop(sender.send(result.map(|()| fd)));
        })
        .map_err(at(&path))?;
    match locked.recv_timeout(LOCK_WAIT) {
        Ok(result) => result.map_err(|error| at(&path)(io::Error::from(error))),
        Err(_) => Err(OpenError::InUse(root.to_owned())),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
    move |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_owns_the_data_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let store = Store::open(&root).unwrap();
        assert!(matches!(Store::open(&root), Err(OpenError::InUse(_))));
        drop(store);
        Store::open(&root).unwrap();
    }

    #[test]
    fn waits_for_an_owner_that_is_going_away() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let opening = {
            let root = dir.path().to_owned();
            std::thread::spawn(move || Store::open(&root).map(drop))
        };
        drop(store);
        opening.join().unwrap().unwrap();
    }
}
