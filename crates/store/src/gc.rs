//! Collection of blobs and layers that no image and no container needs, and the leases that hold
//! what is being pulled.
//!
//! The caller says what is live; this file knows nothing of images. A pull takes a [`Lease`],
//! names a blob or layer in it *before* it looks whether it is here, and drops the lease *after*
//! the image is recorded. A collection runs with the leases frozen and asks for the live set
//! inside, so nothing can slip from a lease into a record behind its back.
//!
//! After a power cut, blobs and layers of an unacknowledged pull may be incomplete on disk. They
//! are those that no image record names (a record is written after [`Content::sync`]), so the
//! daemon collects once at start, before it answers.

use crate::{Content, ContentError, LayerError, Layers, SnapshotError, Store};
use model::{DiffId, Digest};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the images need. Layers of prepared snapshots are live without being named here.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Manifests, configs and compressed layers.
    pub blobs: HashSet<Digest>,
    /// Unpacked layers.
    pub layers: HashSet<DiffId>,
}

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Layers.
    pub layers: Vec<DiffId>,
    /// Bytes of both.
    pub size_bytes: u64,
}

/// Why a collection stopped. What it removed until then stays removed.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// Blobs could not be listed or removed.
    #[error("cannot collect blobs")]
    Content(#[from] ContentError),
    /// Layers could not be listed or removed.
    #[error("cannot collect layers")]
    Layer(#[from] LayerError),
    /// Snapshots could not be listed.
    #[error("cannot tell which layers are in use")]
    Snapshot(#[from] SnapshotError),
}

impl Store {
    /// Removes every blob and layer that is neither live, nor leased, nor beneath a snapshot.
    ///
    /// `live` runs while no lease can begin to hold or end: it must not use a [`Lease`] itself.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn collect(&self, live: impl FnOnce() -> Live) -> Result<Swept, GcError> {
        let held = self.leases().lock();
        let live = live();
        let mut swept = Swept::default();
        sweep_blobs(&self.content(), &live, &held, &mut swept)?;
        let layers = self.layers();
        let _unused = layers.stop_use();
        let beneath = self.snapshots().layers_in_use()?;
        sweep_layers(&layers, &live, &held, &beneath, &mut swept)?;
        Ok(swept)
    }
}

fn sweep_blobs(
    content: &Content,
    live: &Live,
    held: &Held,
    swept: &mut Swept,
) -> Result<(), ContentError> {
    for (digest, size_bytes) in content.list()? {
        if !live.blobs.contains(&digest) && !held.blobs.contains_key(&digest) {
            content.remove(&digest)?;
            swept.blobs.push(digest);
            swept.size_bytes += size_bytes;
        }
    }
    Ok(())
}

fn sweep_layers(
    layers: &Layers,
    live: &Live,
    held: &Held,
    beneath: &HashSet<DiffId>,
    swept: &mut Swept,
) -> Result<(), LayerError> {
    for diff_id in layers.list()? {
        let needed = live.layers.contains(&diff_id)
            || held.layers.contains_key(&diff_id)
            || beneath.contains(&diff_id);
        if !needed {
            swept.size_bytes += layers.size_bytes(&diff_id).unwrap_or(0);
            layers.remove(&diff_id)?;
            swept.layers.push(diff_id);
        }
    }
    Ok(())
}

/// Counts of holds, by what they hold.
#[derive(Debug, Default)]
struct Held {
    blobs: HashMap<Digest, usize>,
    layers: HashMap<DiffId, usize>,
}

/// The table that all leases of a store share.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<Held>);

impl Leases {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hold against collection, given back when dropped.
#[derive(Debug)]
pub struct Lease {
    leases: Arc<Leases>,
    mine: Mutex<Live>,
}

impl Lease {
    pub(crate) fn new(leases: Arc<Leases>) -> Self {
        Self {
            leases,
            mine: Mutex::default(),
        }
    }

    /// Holds a blob, whether it is here already or not.
    pub fn hold_blob(&self, digest: Digest) {
        let mut held = self.leases.lock();
        if self.mine().blobs.insert(digest) {
            *held.blobs.entry(digest).or_default() += 1;
        }
    }

    /// Holds a layer, whether it is here already or not.
    pub fn hold_layer(&self, diff_id: DiffId) {
        let mut held = self.leases.lock();
        if self.mine().layers.insert(diff_id) {
            *held.layers.entry(diff_id).or_default() += 1;
        }
    }

    fn mine(&self) -> MutexGuard<'_, Live> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.lock();
        let mine = self.mine();
        for digest in &mine.blobs {
            release(&mut held.blobs, digest);
        }
        for diff_id in &mine.layers {
            release(&mut held.layers, diff_id);
        }
    }
}

fn release<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnpackLimits;

    fn layer(store: &Store, name: &str) -> DiffId {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, &b"abc"[..]).unwrap();
        let bytes = tar.into_inner().unwrap();
        let writer = store.layers().begin().unwrap();
        let unpacked = writer
            .unpack(&mut &bytes[..], &UnpackLimits::default())
            .unwrap();
        let diff_id = unpacked.diff_id;
        unpacked.commit(&diff_id).unwrap();
        diff_id
    }

    #[test]
    fn sweeps_all_but_live_leased_and_used() {
        if !crate::testing::is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let [live_blob, leased_blob, lost_blob] =
            [b"a", b"b", b"c"].map(|bytes| store.content().put(bytes).unwrap());
        let [live, leased, used, lost] = ["a", "b", "c", "d"].map(|name| layer(&store, name));
        store.snapshots().prepare("container", &[used]).unwrap();
        let lease = store.lease();
        let other = store.lease();
        for lease in [&lease, &lease, &other] {
            lease.hold_blob(leased_blob);
            lease.hold_layer(leased);
        }
        drop(other);
        let needed = Live {
            blobs: [live_blob].into(),
            layers: [live].into(),
        };
        let swept = store.collect(|| needed.clone()).unwrap();
        assert_eq!(swept.blobs, [lost_blob]);
        assert_eq!(swept.layers, [lost]);
        assert_eq!(swept.size_bytes, 1 + 3);
        drop(lease);
        let swept = store.collect(|| needed).unwrap();
        assert_eq!(swept.blobs, [leased_blob]);
        assert_eq!(swept.layers, [leased]);
        assert!(store.layers().contains(&live) && store.layers().contains(&used));
    }
}
