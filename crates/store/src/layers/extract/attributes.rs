//! Owners, modes, extended attributes and times, with as few system calls as they take.
//!
//! Order matters: a change of owner clears setuid and capabilities, a write clears capabilities,
//! and all of them change times.

use super::super::tar::{Entry, Kind, Time};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// Attributes that are orders to overlayfs. A layer gives such orders by whiteouts only; taken
/// from its attributes they could redirect a directory.
const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// What an entry says of itself, apart from its content.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    atime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            atime: entry.atime,
            xattrs: entry.xattrs.clone(),
        }
    }

    /// Memory it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let xattrs = self
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len());
        size_of::<Self>() + xattrs.sum::<usize>()
    }
}

/// Gives new files their attributes. Knows what the kernel gives by itself, to leave that out.
#[derive(Debug)]
pub(super) struct Applier {
    umask: u32,
    /// Owner and group of what this thread creates; nothing if the tree says otherwise.
    creator: Option<(u32, u32)>,
    warned: bool,
}

impl Applier {
    pub(super) fn new(root: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = rustix::fs::fstat(root)?;
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        // A setgid or bsdgroups root would pass its group on.
        let inherits = stat.st_mode & 0o2000 != 0 || stat.st_gid != gid;
        Ok(Self {
            umask: read_umask()?,
            creator: (!inherits).then_some((uid, gid)),
            warned: false,
        })
    }

    pub(super) fn umask(&self) -> u32 {
        self.umask
    }

    pub(super) fn file(&mut self, file: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
        if self.needs_owner(entry.uid, entry.gid) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        if self.needs_mode(entry.mode) {
            rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
        }
        for (name, value) in &entry.xattrs {
            let set = |name: &[u8]| rustix::fs::fsetxattr(file, name, value, XattrFlags::empty());
            self.set_xattr(name, true, set)?;
        }
        rustix::fs::futimens(file, &times(entry.mtime, entry.atime))?;
        Ok(())
    }

    pub(super) fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        attributes: &Attributes,
    ) -> io::Result<()> {
        let stat = rustix::fs::fstat(dir)?;
        if (stat.st_uid, stat.st_gid) != (attributes.uid, attributes.gid) {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            rustix::fs::fchown(dir, Some(uid), Some(gid))?;
        }
        // Not told from the stat: the change of owner may have cleared bits.
        if stat.st_mode & 0o7777 != attributes.mode || attributes.mode & 0o6000 != 0 {
            rustix::fs::fchmod(dir, Mode::from_raw_mode(attributes.mode))?;
        }
        for (name, value) in &attributes.xattrs {
            let set = |name: &[u8]| rustix::fs::fsetxattr(dir, name, value, XattrFlags::empty());
            self.set_xattr(name, true, set)?;
        }
        rustix::fs::futimens(dir, &times(attributes.mtime, attributes.atime))?;
        Ok(())
    }

    pub(super) fn symlink(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> io::Result<()> {
        self.own_at(dir, name, entry)?;
        self.finish_at(dir, name, entry)
    }

    pub(super) fn node(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> io::Result<()> {
        self.own_at(dir, name, entry)?;
        if self.needs_mode(entry.mode) {
            let mode = Mode::from_raw_mode(entry.mode);
            rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?;
        }
        self.finish_at(dir, name, entry)
    }

    fn own_at(&self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> io::Result<()> {
        if self.needs_owner(entry.uid, entry.gid) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), flags)?;
        }
        Ok(())
    }

    fn finish_at(&mut self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> io::Result<()> {
        if !entry.xattrs.is_empty() {
            // There is no lsetxattrat before Linux 6.13; this path is the descriptor's.
            let start = format!("/proc/self/fd/{}/", dir.as_raw_fd());
            let path = [start.as_bytes(), name].concat();
            for (name, value) in &entry.xattrs {
                let set = |name: &[u8]| {
                    rustix::fs::lsetxattr(&path[..], name, value, XattrFlags::empty())
                };
                self.set_xattr(name, entry.kind == Kind::File, set)?;
            }
        }
        let times = times(entry.mtime, entry.atime);
        rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Sets one attribute. What the file system or the file type cannot have is left out with a
    /// warning, as docker does.
    fn set_xattr(
        &mut self,
        name: &[u8],
        holds_user: bool,
        set: impl FnOnce(&[u8]) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        if OVERLAY_XATTRS.iter().any(|prefix| name.starts_with(prefix)) {
            return Ok(());
        }
        match set(name) {
            Ok(()) => Ok(()),
            Err(error @ (Errno::NOTSUP | Errno::PERM))
                if error == Errno::NOTSUP || (!holds_user && name.starts_with(b"user.")) =>
            {
                if !self.warned {
                    let name = String::from_utf8_lossy(name);
                    tracing::warn!(%name, %error, "extended attributes were left out of a layer");
                    self.warned = true;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn needs_owner(&self, uid: u32, gid: u32) -> bool {
        self.creator != Some((uid, gid))
    }

    /// Creation takes the permission bits, less the umask.
    fn needs_mode(&self, mode: u32) -> bool {
        mode & (0o7000 | self.umask) != 0
    }
}

/// Reads the process's umask; asking `umask(2)` would change it for all threads.
fn read_umask() -> io::Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let umask = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    // Where it is not told, every mode is set by itself.
    Ok(umask.unwrap_or(0o777))
}

fn times(mtime: Time, atime: Option<Time>) -> Timestamps {
    let spec = |time: Time| Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    Timestamps {
        last_access: spec(atime.unwrap_or(mtime)),
        last_modification: spec(mtime),
    }
}

/// Marks a directory so that overlayfs hides what lies beneath it.
pub(super) fn mark_opaque(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(dir, OPAQUE_XATTR, b"y", XattrFlags::empty())
}

/// Makes the device by which overlayfs hides a name.
pub(super) fn make_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
}

pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
