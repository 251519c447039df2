//! Snapshots as directories for overlayfs: works on every kernel and file system.
//!
//! ```text
//! snapshots/<key>/lower   diff IDs, bottom first, one a line
//! snapshots/<key>/upper/  the changes
//! snapshots/<key>/work/   overlayfs' own
//! snapshots/.spare/<n>/   made ahead, or half-made; swept at open
//! ```

mod spares;
mod usage;

use super::{RootMount, SnapshotError, Snapshots, Usage};
use crate::files;
use crate::trash::Trash;
use crate::{LayerError, Layers};
use model::DiffId;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use spares::Spares;
use std::collections::HashSet;
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
/// No key begins with a dot.
const SPARE: &str = ".spare";

/// Overlay directories below `snapshots/`.
#[derive(Debug)]
pub(crate) struct OverlaySnapshots {
    dir: PathBuf,
    layers: Layers,
    trash: Trash,
    spares: Spares,
}

impl OverlaySnapshots {
    pub(crate) fn open(dir: &Path, layers: Layers, trash: Trash) -> io::Result<Self> {
        let spare = dir.join(SPARE);
        files::ensure_dir(dir)?;
        trash.discard(&spare)?;
        files::ensure_dir(&spare)?;
        Ok(Self {
            dir: dir.to_owned(),
            layers,
            trash,
            spares: Spares::open(spare)?,
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
        let _using = self.layers.begin_use();
        let lower = self.lower(key, layers)?;
        let new = self.spares.take().map_err(at(&self.dir))?;
        let top = lower.first().map(PathBuf::as_path);
        let made = complete(&new, layers, top).and_then(|()| {
            // Refuses to replace: this is also what tells that the key is taken.
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
            if name != SPARE {
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

/// Makes a spare a snapshot. The upper directory becomes `/` of the container, so it takes owner
/// and mode from the topmost layer's root.
fn complete(dir: &Path, layers: &[DiffId], top: Option<&Path>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty())?;
    if let Some(top) = top {
        copy_root_attributes(top, &fd)?;
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&fd, LOWER, flags, Mode::empty())?;
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

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use crate::{Store, UnpackLimits};
    use model::DiffId;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    fn layer(store: &Store, files: &[&str]) -> DiffId {
        let mut tar = tar::Builder::new(Vec::new());
        for file in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            if file.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o1751);
                header.set_uid(3);
            }
            header.as_mut_bytes()[..file.len()].copy_from_slice(file.as_bytes());
            header.set_cksum();
            tar.append(&header, std::io::empty()).unwrap();
        }
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
    fn conforms() {
        if !crate::testing::is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let layers = [layer(&store, &["lower"]), layer(&store, &["upper"])];
        conformance::suite(&*store.snapshots(), layers);
    }

    #[test]
    fn the_root_looks_like_the_topmost_layers() {
        if !crate::testing::is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let layers = [layer(&store, &["lower"]), layer(&store, &["./", "upper"])];
        let upper = store.snapshots().prepare("c", &layers).unwrap().upper;
        let meta = std::fs::metadata(upper).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o1751);
        assert_eq!(meta.uid(), 3);
    }

    #[test]
    fn an_opaque_root_hides_the_layers_beneath() {
        if !crate::testing::is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let layers = [
            layer(&store, &["lowest"]),
            layer(&store, &["opaque", ".wh..wh..opq"]),
            layer(&store, &["top"]),
        ];
        let mount = store.snapshots().prepare("c", &layers).unwrap();
        assert_eq!(mount.lower.len(), 2);
        assert!(mount.lower[0].join("top").exists() && mount.lower[1].join("opaque").exists());
        // What is hidden is still part of the image.
        assert_eq!(store.snapshots().layers_in_use().unwrap().len(), 3);
    }

    #[test]
    fn a_hundred_and_twenty_seven_layers_fit_into_a_page() {
        if !crate::testing::is_root() {
            return;
        }
        let name = Path::new("/var/lib/berth/l/01234567");
        let container = format!("/var/lib/berth/snapshots/{}/", "c".repeat(64));
        let options = format!(
            "lowerdir={},upperdir={container}upper,workdir={container}work,volatile",
            vec![name.to_str().unwrap(); 127].join(":")
        );
        assert!(options.len() < 4096, "{}", options.len());
        // And the names are that short.
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mount = store
            .snapshots()
            .prepare("c", &[layer(&store, &["f"])])
            .unwrap();
        let short = mount.lower[0].strip_prefix(store.root()).unwrap();
        assert_eq!(short.as_os_str().len(), "l/01234567".len());
    }

    #[test]
    fn half_made_snapshots_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        std::fs::create_dir_all(dir.path().join("snapshots/.spare/0/upper/half")).unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(store.snapshots().list().unwrap().is_empty());
        let mount = store.snapshots().prepare("c", &[]).unwrap();
        assert_eq!(std::fs::read_dir(mount.upper).unwrap().count(), 0);
    }

    /// Mounts what is prepared, in a mount namespace of its own: whiteouts and opaque marks do
    /// what the layers meant.
    #[test]
    fn the_kernel_shows_what_the_layers_mean() {
        if !crate::testing::is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let layers = [
            layer(&store, &["kept", "gone", "d/", "d/old", "o/", "o/old"]),
            layer(
                &store,
                &[".wh.gone", "d/new", "o/", "o/.wh..wh..opq", "o/new"],
            ),
        ];
        let mount = store.snapshots().prepare("c", &layers).unwrap();
        let lower: Vec<_> = mount
            .lower
            .iter()
            .map(|path| path.to_str().unwrap())
            .collect();
        let target = dir.path().join("target");
        std::fs::create_dir(&target).unwrap();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            mount.upper.display(),
            mount.work.display()
        );
        let script = "mount -t overlay overlay -o \"$1\" \"$2\" && cd \"$2\" && find . | sort";
        let output = std::process::Command::new("unshare")
            .args([
                "-m",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
                "sh",
                &options,
            ])
            .arg(&target)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let shown = String::from_utf8(output.stdout).unwrap();
        let shown: Vec<_> = shown.lines().collect();
        assert_eq!(
            shown,
            [".", "./d", "./d/new", "./d/old", "./kept", "./o", "./o/new"]
        );
    }
}
