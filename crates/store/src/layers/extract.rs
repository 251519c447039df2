//! Makes files of tar entries, beneath a directory descriptor and nowhere else.
//!
//! Owns what an entry means on disk: whiteouts in overlayfs' form, what replaces what, owners,
//! modes, times and extended attributes. Knows nothing of tar's bytes. Every path is resolved by
//! the kernel inside the root (`openat2` with `RESOLVE_IN_ROOT`): a symbolic link in a parent
//! leads where it would lead in the container, never out. Only this thread changes the tree.
//!
//! | In the layer | On disk |
//! | --- | --- |
//! | `d/.wh.x` | `d/x`, a character device 0:0; if the layer has a directory `d/x`, that is opaque |
//! | `d/.wh..wh..opq` | `trusted.overlay.opaque=y` on `d` |
//! | other `.wh..wh.*` | nothing: marks of aufs |

mod attributes;
mod parents;
mod paths;

use super::tar::{Entry, Kind, Reader};
use super::{Sizes, UnpackError, UnpackLimits};
use crate::delete::{Attic, delete};
use attributes::{Applier, Attributes, is_whiteout, make_whiteout, mark_opaque};
use parents::Parents;
use paths::{clean, split};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
/// Name, completed by a number, of what is being deleted. No entry can have such a name.
const ATTIC_PREFIX: &str = ".wh..wh.attic-";

/// The tree so far.
pub(super) struct Extractor<'a> {
    root: BorrowedFd<'a>,
    limits: &'a UnpackLimits,
    parents: Parents<'a>,
    applier: Applier,
    /// What directories get at the end: times, because every child changes them, and modes,
    /// because setgid would rub off on the children.
    directories: BTreeMap<Vec<u8>, Attributes>,
    directories_bytes: usize,
    entries: u64,
    sizes: Sizes,
}

/// Where an entry goes.
struct Place<'e> {
    /// Cleaned path, relative to the root.
    path: &'e [u8],
    dir: Rc<OwnedFd>,
    name: &'e [u8],
}

impl<'a> Extractor<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, limits: &'a UnpackLimits) -> Result<Self, UnpackError> {
        let applier = Applier::new(root).map_err(|error| UnpackError::io(b".", error))?;
        let root_copy = root.try_clone_to_owned();
        Ok(Self {
            root,
            limits,
            parents: Parents::new(
                root,
                Rc::new(root_copy.map_err(|error| UnpackError::io(b".", error))?),
                applier.umask(),
            ),
            applier,
            directories: BTreeMap::new(),
            directories_bytes: 0,
            entries: 0,
            sizes: Sizes::default(),
        })
    }

    /// Makes one entry.
    pub(super) fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        data: &mut Reader<'_, R>,
    ) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.entries_max {
            return Err(UnpackError::TooManyEntries(self.limits.entries_max));
        }
        let path = clean(&entry.path)
            .ok_or_else(|| UnpackError::PathEscapes(super::error::to_path(&entry.path)))?;
        let Some((parent, name)) = split(&path) else {
            return self.root_entry(entry);
        };
        if parent
            .split(|byte| *byte == b'/')
            .any(|part| part.starts_with(META_PREFIX))
        {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            return self.whiteout(&path, parent, name, hidden);
        }
        let place = Place {
            path: &path,
            dir: self.parents.ensure(parent)?,
            name,
        };
        match entry.kind {
            Kind::Directory => self.directory(entry, &place),
            Kind::File => self.file(entry, &place, data),
            Kind::HardLink => self.hard_link(entry, &place),
            Kind::Symlink => self.symlink(entry, &place),
            Kind::CharDevice => self.node(entry, &place, FileType::CharacterDevice),
            Kind::BlockDevice => self.node(entry, &place, FileType::BlockDevice),
            Kind::Fifo => self.node(entry, &place, FileType::Fifo),
        }
    }

    /// Gives directories what had to wait.
    pub(super) fn finish(mut self) -> Result<Sizes, UnpackError> {
        // Children first: a directory may be shut by its own mode.
        for (path, attributes) in self.directories.iter().rev() {
            let Some(dir) = self
                .parents
                .open(path)
                .map_err(|e| UnpackError::io(path, e))?
            else {
                // Something else took its place.
                continue;
            };
            self.applier
                .directory(dir.as_fd(), attributes)
                .map_err(|error| UnpackError::io(path, error))?;
        }
        Ok(self.sizes)
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        match entry.kind {
            Kind::Directory => self.defer(b"", entry),
            _ => Err(invalid(b".", "the root is a directory")),
        }
    }

    fn whiteout(
        &mut self,
        path: &[u8],
        parent: &[u8],
        name: &[u8],
        hidden: &[u8],
    ) -> Result<(), UnpackError> {
        if name == OPAQUE_NAME {
            let dir = self.parents.ensure(parent)?;
            // Overlayfs does not look at the mark on a layer's root; the snapshot does.
            self.sizes.opaque |= parent.is_empty();
            return mark_opaque(dir.as_fd()).map_err(|error| UnpackError::io(parent, error));
        }
        if name.starts_with(META_PREFIX) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(invalid(path, "it hides nothing that could be there"));
        }
        let dir = self.parents.ensure(parent)?;
        match make_whiteout(dir.as_fd(), hidden) {
            Ok(()) => Ok(()),
            // A whiteout hides what lies beneath, not what the same layer has.
            Err(Errno::EXIST) => match open_dir(dir.as_fd(), hidden) {
                Ok(existing) => mark_opaque(existing.as_fd()),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(error) => Err(error),
            }
            .map_err(|error| UnpackError::io(path, error)),
            Err(error) => Err(UnpackError::io(path, error)),
        }
    }

    fn directory(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), UnpackError> {
        let make = || rustix::fs::mkdirat(&place.dir, place.name, Mode::from_raw_mode(0o755));
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let existing = self.stat(place)?;
                if !FileType::from_raw_mode(existing.st_mode).is_dir() {
                    self.clear(place)?;
                    make().map_err(|error| UnpackError::io(place.path, error))?;
                    if is_whiteout(&existing) {
                        open_dir(place.dir.as_fd(), place.name)
                            .and_then(|dir| mark_opaque(dir.as_fd()))
                            .map_err(|error| UnpackError::io(place.path, error))?;
                    }
                }
            }
            Err(error) => return Err(UnpackError::io(place.path, error)),
        }
        self.defer(place.path, entry)
    }

    fn defer(&mut self, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let attributes = Attributes::of(entry);
        let limit = self.limits.directories_bytes_max;
        self.directories_bytes = self
            .directories_bytes
            .saturating_add(path.len() + attributes.bytes());
        if self.directories_bytes > limit {
            return Err(UnpackError::TooManyDirectories(limit));
        }
        self.directories.insert(path.to_vec(), attributes);
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        place: &Place<'_>,
        data: &mut Reader<'_, R>,
    ) -> Result<(), UnpackError> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(place, || {
            rustix::fs::openat(&place.dir, place.name, flags, mode)
        })?;
        write_data(&file, entry, place.path, data)?;
        self.sizes.bytes = self.sizes.bytes.saturating_add(entry.size_bytes);
        self.applier
            .file(file.as_fd(), entry)
            .map_err(|error| UnpackError::io(place.path, error))
    }

    fn hard_link(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), UnpackError> {
        let names = || {
            (
                super::error::to_path(&entry.path),
                super::error::to_path(&entry.link),
            )
        };
        let missing = || {
            let (path, target) = names();
            UnpackError::LinkTargetMissing { path, target }
        };
        let target = clean(&entry.link).ok_or_else(|| {
            let (path, target) = names();
            UnpackError::LinkEscapes { path, target }
        })?;
        let (target_parent, target_name) = split(&target).ok_or_else(missing)?;
        let target_dir = self
            .parents
            .open(target_parent)
            .map_err(|error| UnpackError::io(place.path, error))?
            .ok_or_else(missing)?;
        if target == place.path {
            // A link to itself would be deleted to make room for it.
            return match self.stat(place) {
                Err(UnpackError::Io { .. }) => Err(missing()),
                result => result.map(drop),
            };
        }
        let linked = self.make(place, || {
            let flags = AtFlags::empty();
            match rustix::fs::linkat(&target_dir, target_name, &place.dir, place.name, flags) {
                // Told apart from a failure to make room.
                Err(error @ (Errno::NOENT | Errno::PERM)) => Ok(Err(error)),
                result => result.map(Ok),
            }
        })?;
        match linked {
            Ok(()) => Ok(()),
            Err(Errno::PERM) => Err(invalid(place.path, "it is a hard link to a directory")),
            Err(_) => Err(missing()),
        }
    }

    fn symlink(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), UnpackError> {
        if entry.link.is_empty() {
            return Err(invalid(place.path, "it is a symbolic link to nothing"));
        }
        self.make(place, || {
            rustix::fs::symlinkat(&entry.link[..], &place.dir, place.name)
        })?;
        self.applier
            .symlink(place.dir.as_fd(), place.name, entry)
            .map_err(|error| UnpackError::io(place.path, error))
    }

    fn node(
        &mut self,
        entry: &Entry,
        place: &Place<'_>,
        kind: FileType,
    ) -> Result<(), UnpackError> {
        let (major, minor) = entry.device;
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.make(place, || {
            rustix::fs::mknodat(&place.dir, place.name, kind, mode, device)
        })?;
        self.applier
            .node(place.dir.as_fd(), place.name, entry)
            .map_err(|error| UnpackError::io(place.path, error))
    }

    /// Makes something new in a place; what is there goes first, as in docker.
    fn make<T>(
        &mut self,
        place: &Place<'_>,
        mut make: impl FnMut() -> rustix::io::Result<T>,
    ) -> Result<T, UnpackError> {
        let made = match make() {
            Err(Errno::EXIST) => {
                self.clear(place)?;
                make()
            }
            made => made,
        };
        made.map_err(|error| UnpackError::io(place.path, error))
    }

    fn clear(&mut self, place: &Place<'_>) -> Result<(), UnpackError> {
        self.parents.forget();
        let beneath = [place.path, b"/"].concat();
        self.directories.remove(place.path);
        self.directories
            .retain(|path, _| !path.starts_with(&beneath));
        let attic = Attic {
            dir: self.root,
            prefix: ATTIC_PREFIX,
        };
        CString::new(place.name)
            .map_err(Into::into)
            .and_then(|name| delete(place.dir.as_fd(), &name, attic, &|| false))
            .map_err(|error| UnpackError::io(place.path, error))
    }

    fn stat(&self, place: &Place<'_>) -> Result<rustix::fs::Stat, UnpackError> {
        rustix::fs::statat(&place.dir, place.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| UnpackError::io(place.path, error))
    }
}

/// Writes a file's data straight from the reader's buffer; holes stay holes.
fn write_data<R: BufRead>(
    file: &OwnedFd,
    entry: &Entry,
    path: &[u8],
    data: &mut Reader<'_, R>,
) -> Result<(), UnpackError> {
    let failed = |error| UnpackError::io(path, error);
    let Some(segments) = &entry.sparse else {
        let mut offset = 0;
        return write_segment(file, &mut offset, entry.size_bytes, path, data);
    };
    for segment in segments {
        let mut offset = segment.offset;
        write_segment(file, &mut offset, segment.length, path, data)?;
    }
    rustix::fs::ftruncate(file, entry.size_bytes).map_err(failed)
}

fn write_segment<R: BufRead>(
    file: &OwnedFd,
    offset: &mut u64,
    mut length: u64,
    path: &[u8],
    data: &mut Reader<'_, R>,
) -> Result<(), UnpackError> {
    while length > 0 {
        let bytes = data.data()?;
        let bytes = bytes
            .get(..usize::try_from(length).unwrap_or(usize::MAX))
            .unwrap_or(bytes);
        if bytes.is_empty() {
            return Err(UnpackError::Truncated);
        }
        let written = match rustix::io::pwrite(file, bytes, *offset) {
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(UnpackError::io(path, error)),
        };
        data.consume(written);
        *offset += written as u64;
        length -= written as u64;
    }
    Ok(())
}

fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn invalid(path: &[u8], reason: &'static str) -> UnpackError {
    UnpackError::InvalidEntry {
        path: super::error::to_path(path),
        reason,
    }
}

#[cfg(test)]
mod tests;
