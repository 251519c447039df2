//! Descriptors of the directories that entries go into.
//!
//! Entries come directory by directory, so the last few parents are kept open. Whoever replaces
//! a directory calls [`Parents::forget`].

use super::super::UnpackError;
use super::super::error::to_path;
use super::attributes::{is_whiteout, mark_opaque};
use super::open_dir;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Open directories kept: a daemon that unpacks many layers at once has many of these.
const OPEN_MAX: usize = 32;
/// Mode of directories that the layer has no entry for.
const IMPLICIT_MODE: Mode = Mode::from_raw_mode(0o755);
/// How often the kernel may ask to look again because something was renamed, anywhere on the
/// machine, while `..` in a link was resolved.
const TRIES_MAX: usize = 128;

pub(super) struct Parents<'a> {
    root: BorrowedFd<'a>,
    root_owned: Rc<OwnedFd>,
    umask: u32,
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
}

impl<'a> Parents<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, root_owned: Rc<OwnedFd>, umask: u32) -> Self {
        Self {
            root,
            root_owned,
            umask,
            last: None,
            open: HashMap::new(),
        }
    }

    /// Closes all; paths may lead elsewhere now.
    pub(super) fn forget(&mut self) {
        self.last = None;
        self.open.clear();
    }

    /// Opens a directory, making it and its parents if needed.
    pub(super) fn ensure(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, UnpackError> {
        if let Some((last, dir)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(dir));
        }
        let dir = match self.open(path) {
            Ok(Some(dir)) => dir,
            Ok(None) => self.make(path)?,
            Err(error) => return Err(UnpackError::io(path, error)),
        };
        self.last = Some((path.to_vec(), Rc::clone(&dir)));
        Ok(dir)
    }

    /// Opens a directory; nothing if there is no such directory.
    pub(super) fn open(&mut self, path: &[u8]) -> rustix::io::Result<Option<Rc<OwnedFd>>> {
        if path.is_empty() {
            return Ok(Some(Rc::clone(&self.root_owned)));
        }
        if let Some(dir) = self.open.get(path) {
            return Ok(Some(Rc::clone(dir)));
        }
        let dir = match self.open_in_root(path) {
            Ok(dir) => Rc::new(dir),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.open.len() == OPEN_MAX {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), Rc::clone(&dir));
        Ok(Some(dir))
    }

    fn open_in_root(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES_MAX => tries += 1,
                result => return result,
            }
        }
    }

    /// Makes the directories of a path that are not there.
    fn make(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, UnpackError> {
        let mut dir = Rc::clone(&self.root_owned);
        let mut start = 0;
        for part in path.split(|byte| *byte == b'/') {
            let end = start + part.len();
            let prefix = path.get(..end).unwrap_or(path);
            let failed = |error| UnpackError::io(prefix, error);
            dir = match self.open(prefix).map_err(failed)? {
                Some(next) => next,
                None => {
                    self.make_one(dir.as_fd(), part, prefix)?;
                    self.open(prefix)
                        .map_err(failed)?
                        .ok_or_else(|| UnpackError::ParentNotDirectory(to_path(prefix)))?
                }
            };
            start = end + 1;
        }
        Ok(dir)
    }

    fn make_one(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), UnpackError> {
        let failed = |error| UnpackError::io(path, error);
        let made = rustix::fs::mkdirat(dir, name, IMPLICIT_MODE);
        let whiteout = made == Err(Errno::EXIST)
            && is_whiteout(
                &rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?,
            );
        match made {
            Ok(()) => {}
            // The layer hides the directory beneath and has a new one.
            Err(Errno::EXIST) if whiteout => {
                rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(failed)?;
                rustix::fs::mkdirat(dir, name, IMPLICIT_MODE).map_err(failed)?;
            }
            // A file, or a link that leads nowhere: opening tells.
            Err(Errno::EXIST) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        let fd = open_dir(dir, name).map_err(failed)?;
        if self.umask & IMPLICIT_MODE.as_raw_mode() != 0 {
            rustix::fs::fchmod(&fd, IMPLICIT_MODE).map_err(failed)?;
        }
        if whiteout {
            mark_opaque(fd.as_fd()).map_err(failed)?;
        }
        Ok(())
    }
}
