//! Adds up a tree that a container may be changing meanwhile, and may have built to hurt.

use super::super::Usage;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Counts what is beneath `root`, `root` itself not. One directory is open at a time, so depth
/// costs no descriptors; what lies deeper than `PATH_MAX` is not counted.
pub(super) fn of(root: &Path) -> io::Result<Usage> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    let mut pending = vec![PathBuf::from(".")];
    while let Some(path) = pending.pop() {
        let dir = match rustix::fs::openat2(&root, &path, flags, Mode::empty(), resolve) {
            Ok(dir) => dir,
            // Gone or replaced meanwhile, or too deep.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => continue,
            Err(error) => return Err(error.into()),
        };
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
            if is_dir {
                pending.push(path.join(OsStr::from_bytes(name.to_bytes())));
            } else if stat.st_nlink > 1 && !linked.insert(stat.st_ino) {
                continue;
            }
            usage.inodes += 1;
            usage.size_bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
    }
    Ok(usage)
}
