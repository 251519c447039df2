//! Snapshots as directories for overlayfs: works on every kernel and file system.
//!
//! ```text
//! snapshots/<key>/lower   diff IDs, bottom first, one a line
//! snapshots/<key>/upper/  the changes
//! snapshots/<key>/work/   overlayfs' own
//! snapshots/.new-<n>/     half-made; swept at open
//! ```

mod usage;

use super::{RootMount, SnapshotError, Snapshots, Usage};
use crate::files::{self, TEMPORARY_PREFIX};
use crate::trash::Trash;
use crate::{LayerError, Layers};
use model::DiffId;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// `OVL_MAX_STACK` of the kernel.
const LAYERS_MAX: usize = 500;
/// Longest key: a file name, with room for a prefix.
const KEY_BYTES_MAX: usize = 128;
const LOWER: &str = "lower";
const UPPER: &str = "upper";
const WORK: &str = "work";

/// Overlay directories below `snapshots/`.
#[derive(Debug)]
pub(crate) struct OverlaySnapshots {
    dir: PathBuf,
    layers: Layers,
    trash: Trash,
}

impl OverlaySnapshots {
    pub(crate) fn open(dir: &Path, layers: Layers, trash: Trash) -> io::Result<Self> {
        files::ensure_dir(dir)?;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if is_temporary(&entry.file_name()) {
                trash.discard(&entry.path())?;
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            layers,
            trash,
        })
    }

    fn path(&self, key: &str) -> Result<PathBuf, SnapshotError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if key.is_empty()
            || key.len() > KEY_BYTES_MAX
            || key.starts_with('.')
            || !key.bytes().all(plain)
        {
            return Err(SnapshotError::InvalidKey(key.chars().take(64).collect()));
        }
        Ok(self.dir.join(key))
    }

    /// The layers' directories, topmost first, down to one that hides all beneath it.
    fn lower(&self, key: &str, layers: &[DiffId]) -> Result<Vec<PathBuf>, SnapshotError> {
        if layers.len() > LAYERS_MAX {
            return Err(SnapshotError::TooManyLayers {
                key: key.to_owned(),
                count: layers.len(),
                limit: LAYERS_MAX,
            });
        }
        let mut lower = Vec::with_capacity(layers.len());
        let mut hidden = false;
        for diff_id in layers.iter().rev() {
            let info = self.layers.info(diff_id).map_err(of_layer(key))?;
            if !hidden {
                lower.push(self.layers.short_path(&info));
            }
            hidden |= info.opaque;
        }
        if lower.is_empty() {
            lower.push(self.layers.empty_path());
        }
        Ok(lower)
    }

    fn read_layers(&self, key: &str) -> Result<Vec<DiffId>, SnapshotError> {
        let path = self.path(key)?.join(LOWER);
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SnapshotError::NotFound(key.to_owned()),
            _ => at(&path)(error),
        })?;
        text.lines()
            .map(|line| {
                line.parse()
                    .map_err(|error| at(&path)(io::Error::new(io::ErrorKind::InvalidData, error)))
            })
            .collect()
    }
}

impl Snapshots for OverlaySnapshots {
    fn prepare(&self, key: &str, layers: &[DiffId]) -> Result<RootMount, SnapshotError> {
        let dir = self.path(key)?;
        let lower = self.lower(key, layers)?;
        let new = self
            .dir
            .join(format!("{TEMPORARY_PREFIX}{}", files::next_number()));
        let made = make(&new, layers, lower.first().map(PathBuf::as_path)).and_then(|()| {
            Ok(rustix::fs::renameat_with(
                CWD,
                &new,
                CWD,
                &dir,
                RenameFlags::NOREPLACE,
            )?)
        });
        if let Err(error) = made {
            self.trash.discard(&new).map_err(at(&new))?;
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists => SnapshotError::Exists(key.to_owned()),
                _ => at(&dir)(error),
            });
        }
        Ok(root_mount(&dir, lower))
    }

    fn mount(&self, key: &str) -> Result<RootMount, SnapshotError> {
        let layers = self.read_layers(key)?;
        Ok(root_mount(&self.path(key)?, self.lower(key, &layers)?))
    }

    fn remove(&self, key: &str) -> Result<(), SnapshotError> {
        let dir = self.path(key)?;
        self.trash.discard(&dir).map_err(at(&dir))
    }

    fn usage(&self, key: &str) -> Result<Usage, SnapshotError> {
        let upper = self.path(key)?.join(UPPER);
        usage::of(&upper).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SnapshotError::NotFound(key.to_owned()),
            _ => at(&upper)(error),
        })
    }

    fn list(&self) -> Result<Vec<String>, SnapshotError> {
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(at(&self.dir))? {
            let name = entry.map_err(at(&self.dir))?.file_name();
            if !is_temporary(&name) {
                keys.extend(name.into_string());
            }
        }
        keys.sort();
        Ok(keys)
    }

    fn layers_in_use(&self) -> Result<HashSet<DiffId>, SnapshotError> {
        let mut layers = HashSet::new();
        for key in self.list()? {
            match self.read_layers(&key) {
                Ok(beneath) => layers.extend(beneath),
                // Removed since the directory was read.
                Err(SnapshotError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(layers)
    }
}

/// Makes the three parts. The upper directory becomes `/` of the container, so it takes owner
/// and mode from the topmost layer's root.
fn make(dir: &Path, layers: &[DiffId], top: Option<&Path>) -> io::Result<()> {
    rustix::fs::mkdir(dir, Mode::from_raw_mode(0o710))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty())?;
    rustix::fs::mkdirat(&fd, UPPER, Mode::from_raw_mode(0o755))?;
    rustix::fs::mkdirat(&fd, WORK, Mode::from_raw_mode(0o700))?;
    if let Some(top) = top {
        copy_root_attributes(top, &fd)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&fd, LOWER, flags, Mode::from_raw_mode(0o600))?;
    let lines: String = layers
        .iter()
        .map(|diff_id| format!("{diff_id}\n"))
        .collect();
    File::from(file).write_all(lines.as_bytes())
}

fn copy_root_attributes(top: &Path, dir: &OwnedFd) -> io::Result<()> {
    use rustix::fs::{AtFlags, Gid, Uid};
    let wanted = rustix::fs::stat(top)?;
    let upper = rustix::fs::statat(dir, UPPER, AtFlags::SYMLINK_NOFOLLOW)?;
    if (wanted.st_uid, wanted.st_gid) != (upper.st_uid, upper.st_gid) {
        let owner = Some(Uid::from_raw(wanted.st_uid));
        let group = Some(Gid::from_raw(wanted.st_gid));
        rustix::fs::chownat(dir, UPPER, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if wanted.st_mode != upper.st_mode {
        let mode = Mode::from_raw_mode(wanted.st_mode & 0o7777);
        rustix::fs::chmodat(dir, UPPER, mode, AtFlags::empty())?;
    }
    Ok(())
}

fn root_mount(dir: &Path, lower: Vec<PathBuf>) -> RootMount {
    RootMount {
        lower,
        upper: dir.join(UPPER),
        work: dir.join(WORK),
    }
}

fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes()
        .starts_with(TEMPORARY_PREFIX.as_bytes())
}

fn of_layer(key: &str) -> impl FnOnce(LayerError) -> SnapshotError + '_ {
    move |source| SnapshotError::Layer {
        key: key.to_owned(),
        source,
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError + '_ {
    move |source| SnapshotError::Io {
        path: path.to_owned(),
        source,
    }
}
