//! Unpacked layers, named by diff ID.
//!
//! Owns `layers/` and the short names in `l/`. A layer is unpacked into a directory of its own,
//! independent of what lies beneath it, so layers unpack side by side and one that two images
//! share is unpacked once. A layer that has its name is whole: it gets it by a rename, after its
//! diff ID was checked.
//!
//! ```text
//! begin ─▶ LayerWriter ──unpack──▶ UnpackedLayer ──commit──▶ layer
//!              │ dropped               │ dropped
//!              └────────▶ trash ◀──────┘
//! ```
//!
//! One pass over the bytes: `stream` decompresses and hashes, `tar` reads entries,
//! `extract` makes files.

mod error;
mod extract;
mod limits;
mod stream;
mod tar;
mod writer;

pub use error::{CommitError, LayerError, UnpackError};
pub use limits::UnpackLimits;
pub use writer::{LayerWriter, UnpackedLayer, unpack_into};

use crate::content::digest_from_name;
use crate::files::{self, Durability};
use crate::trash::Trash;
use model::DiffId;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Directory of short names, straight below the data root: with the default root and 8 digits a
/// name takes 26 bytes, so that 127 of them fit into the one page of mount(2)'s options.
const SHORT_DIR: &str = "l";
/// Digits of a short name; more are taken if two layers begin alike.
const SHORT_DIGITS: usize = 8;
/// Name in [`SHORT_DIR`] of a directory that is empty: overlayfs wants a lower layer even where
/// an image has none.
const EMPTY_NAME: &str = "empty";
/// The tree inside a layer's directory.
const TREE: &str = "fs";
const INFO: &str = "layer.json";

/// Handle on the layers; clones share what was learned about them.
#[derive(Debug, Clone)]
pub struct Layers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    layers: PathBuf,
    unpacking: PathBuf,
    short: PathBuf,
    trash: Trash,
    /// What `layer.json` says, for layers asked for before.
    known: Mutex<HashMap<DiffId, LayerInfo>>,
    /// Read while a snapshot is put onto layers, written while unneeded layers are removed: so
    /// no layer goes between the look whether it is here and the record that it is in use.
    in_use: RwLock<()>,
}

/// What is kept beside a layer's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayerInfo {
    /// Sum of the sizes of its files.
    pub(crate) size_bytes: u64,
    /// True if the layer hides everything beneath it. Overlayfs does not look for the mark on
    /// the root of a layer, so the snapshot leaves out what is beneath instead.
    pub(crate) opaque: bool,
    /// Its name in `l/`.
    pub(crate) short: String,
}

impl Layers {
    pub(crate) fn open(data_root: &Path, trash: Trash) -> io::Result<Self> {
        let root = data_root.join("layers");
        let inner = Inner {
            layers: root.join("sha256"),
            unpacking: root.join("unpacking"),
            short: data_root.join(SHORT_DIR),
            trash,
            known: Mutex::default(),
            in_use: RwLock::default(),
        };
        for dir in [&inner.layers, &inner.unpacking] {
            files::ensure_dir(dir)?;
        }
        files::ensure_dir(&inner.short.join(EMPTY_NAME))?;
        let layers = Self(Arc::new(inner));
        layers.sweep()?;
        Ok(layers)
    }

    /// Clears half-made layers, and short names that lead nowhere.
    fn sweep(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.0.unpacking)? {
            self.0.trash.discard(&entry?.path())?;
        }
        for entry in std::fs::read_dir(&self.0.short)? {
            let path = entry?.path();
            if std::fs::metadata(&path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Whether the layer is here, whole.
    #[must_use]
    pub fn contains(&self, diff_id: &DiffId) -> bool {
        self.info(diff_id).is_ok()
    }

    /// Sum of the sizes of the layer's files.
    ///
    /// # Errors
    /// [`LayerError::NotFound`], or its description cannot be read.
    pub fn size_bytes(&self, diff_id: &DiffId) -> Result<u64, LayerError> {
        self.info(diff_id).map(|info| info.size_bytes)
    }

    /// Where the layer's tree is, or would be.
    #[must_use]
    pub fn path(&self, diff_id: &DiffId) -> PathBuf {
        self.dir(diff_id).join(TREE)
    }

    /// Starts a layer in a directory of its own.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn begin(&self) -> Result<LayerWriter, LayerError> {
        LayerWriter::new(self.clone())
    }

    /// Every layer.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<DiffId>, LayerError> {
        let dir = &self.0.layers;
        let mut layers = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(LayerError::at(dir))? {
            let entry = entry.map_err(LayerError::at(dir))?;
            layers.extend(digest_from_name(&entry.file_name()).map(DiffId));
        }
        Ok(layers)
    }

    /// Makes a layer disappear; one that is not there is fine. Whether something still needs it
    /// is the caller's to know (see [`crate::Store::collect`]).
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self, diff_id: &DiffId) -> Result<(), LayerError> {
        let short = self.info(diff_id).map(|info| info.short);
        let dir = self.dir(diff_id);
        self.known().remove(diff_id);
        self.0.trash.discard(&dir).map_err(LayerError::at(&dir))?;
        if let Ok(short) = short {
            let link = self.0.short.join(short);
            match std::fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(LayerError::at(&link)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What is known of a layer that is here.
    pub(crate) fn info(&self, diff_id: &DiffId) -> Result<LayerInfo, LayerError> {
        if let Some(info) = self.known().get(diff_id) {
            return Ok(info.clone());
        }
        let path = self.dir(diff_id).join(INFO);
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LayerError::NotFound(*diff_id),
            _ => LayerError::at(&path)(error),
        })?;
        let info: LayerInfo = serde_json::from_slice(&bytes)
            .map_err(|source| LayerError::Damaged { path, source })?;
        self.known().insert(*diff_id, info.clone());
        Ok(info)
    }

    /// While this is held, no collection removes a layer.
    pub(crate) fn begin_use(&self) -> RwLockReadGuard<'_, ()> {
        self.0.in_use.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// While this is held, nothing begins to use a layer.
    pub(crate) fn stop_use(&self) -> RwLockWriteGuard<'_, ()> {
        self.0
            .in_use
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The path that mount options take for a layer.
    pub(crate) fn short_path(&self, info: &LayerInfo) -> PathBuf {
        self.0.short.join(&info.short)
    }

    /// An empty directory that may stand beneath a snapshot.
    pub(crate) fn empty_path(&self) -> PathBuf {
        self.0.short.join(EMPTY_NAME)
    }

    fn dir(&self, diff_id: &DiffId) -> PathBuf {
        self.0.layers.join(diff_id.0.hex())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<DiffId, LayerInfo>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a finished tree its name. Another writer may have been first: then the layer is
    /// there, and ours goes.
    fn adopt(&self, half_made: &Path, diff_id: &DiffId, size: Sizes) -> io::Result<()> {
        let info = LayerInfo {
            size_bytes: size.bytes,
            opaque: size.opaque,
            short: self.take_short_name(diff_id)?,
        };
        let json = serde_json::to_vec(&info)?;
        files::replace(half_made, INFO, &json, Durability::Visible)?;
        match std::fs::rename(half_made, self.dir(diff_id)) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                self.0.trash.discard(half_made)
            }
            result => result,
        }
    }

    /// Links the shortest free name to where the layer is going to be.
    fn take_short_name(&self, diff_id: &DiffId) -> io::Result<String> {
        let hex = diff_id.0.hex();
        let target = Path::new("../layers/sha256").join(&hex).join(TREE);
        for digits in SHORT_DIGITS..=hex.len() {
            let name = hex.get(..digits).unwrap_or(&hex);
            let link = self.0.short.join(name);
            match std::os::unix::fs::symlink(&target, &link) {
                Ok(()) => return Ok(name.to_owned()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if std::fs::read_link(&link)? == target {
                        return Ok(name.to_owned());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// What an unpacked tree amounts to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Sum of the sizes of regular files.
    pub(crate) bytes: u64,
    /// The layer's root is opaque.
    pub(crate) opaque: bool,
}

#[cfg(test)]
mod tests;
