//! Deletion of trees that others built to hurt: follows no symbolic link, holds a bounded number
//! of descriptors and no stack that grows with the tree's depth.

use crate::files;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Depth at which a directory is moved to the attic instead of being entered.
const DEPTH_MAX: usize = 64;

/// Where directories that lie too deep are moved, to be deleted from there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attic<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    /// Before the number in the names given there.
    pub(crate) prefix: &'a str,
}

/// Deletes `name` in `dir` with all it holds; stops early, without an error, if told so.
pub(crate) fn delete(
    dir: BorrowedFd<'_>,
    name: &CStr,
    attic: Attic<'_>,
    stopped: &dyn Fn() -> bool,
) -> io::Result<()> {
    let mut moved = Vec::new();
    delete_to_depth(dir, name, attic, stopped, &mut moved)?;
    while let Some(name) = moved.pop() {
        delete_to_depth(attic.dir, &name, attic, stopped, &mut moved)?;
    }
    Ok(())
}

fn delete_to_depth(
    dir: BorrowedFd<'_>,
    name: &CStr,
    attic: Attic<'_>,
    stopped: &dyn Fn() -> bool,
    moved: &mut Vec<CString>,
) -> io::Result<()> {
    if remove_leaf(dir, name)? {
        return Ok(());
    }
    let mut path = vec![Level::enter(dir, name)?];
    loop {
        let may_enter = path.len() < DEPTH_MAX;
        let Some(level) = path.last_mut() else { break };
        if stopped() {
            return Ok(());
        }
        match level.clear(may_enter)? {
            Step::Enter(child) => path.push(child),
            Step::Move(child) => {
                let name = move_to_attic(level.fd.as_fd(), &child, attic)?;
                moved.push(name);
            }
            Step::Empty => {
                let Some(done) = path.pop() else { break };
                let parent = path.last().map_or(dir, |level| level.fd.as_fd());
                rustix::fs::unlinkat(parent, &done.name, AtFlags::REMOVEDIR)?;
            }
        }
    }
    Ok(())
}

fn move_to_attic(dir: BorrowedFd<'_>, name: &CStr, attic: Attic<'_>) -> io::Result<CString> {
    loop {
        let new = CString::new(format!("{}{}", attic.prefix, files::next_number()))?;
        match rustix::fs::renameat_with(dir, name, attic.dir, &new, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(new),
            // Left by an earlier process, which counted from nought as well.
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A directory that is being cleared.
struct Level {
    name: CString,
    fd: OwnedFd,
    entries: Dir,
}

/// What has to happen before a directory can go on being cleared.
enum Step {
    Enter(Level),
    Move(CString),
    Empty,
}

impl Level {
    fn enter(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        let entries = Dir::read_from(&fd)?;
        Ok(Self {
            name: name.to_owned(),
            fd,
            entries,
        })
    }

    /// Deletes leaves and empty directories until one is met that is not empty.
    fn clear(&mut self, may_enter: bool) -> io::Result<Step> {
        for entry in self.entries.by_ref() {
            let entry = entry?;
            let name = entry.file_name();
            if is_dot(name) {
                continue;
            }
            if entry.file_type() != FileType::Directory && remove_leaf(self.fd.as_fd(), name)? {
                continue;
            }
            match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) if may_enter => {
                    return Self::enter(self.fd.as_fd(), name).map(Step::Enter);
                }
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Step::Move(name.to_owned())),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Step::Empty)
    }
}

/// Unlinks anything but a directory; false if it is one.
fn remove_leaf(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
