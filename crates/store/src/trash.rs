//! Deletion behind the caller's back: a rename into `trash/` makes a tree disappear at once, a
//! thread of its own deletes it.
//!
//! Trees come from layers and containers, so they are deleted as hostile ones (`delete.rs`). An
//! entry that cannot be deleted is left for the next opening instead of being tried for ever.

use crate::delete::{Attic, delete, is_dot};
use crate::files;
use rustix::fs::{CWD, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

/// Handle on the trash directory; clones share its thread, which ends with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct Trash(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    stop: Arc<AtomicBool>,
    wake: Option<Mutex<mpsc::Sender<()>>>,
    thread: Option<JoinHandle<()>>,
}

impl Trash {
    /// Opens the trash and starts to delete what an earlier process left in it.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        files::ensure_dir(dir)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir_fd = rustix::fs::open(dir, flags, Mode::empty())?;
        let stop = Arc::new(AtomicBool::new(false));
        let (wake, woken) = mpsc::channel();
        let stop_in_thread = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("store-trash".into())
            .spawn(move || {
                let mut emptier = Emptier {
                    dir: dir_fd,
                    stop: stop_in_thread,
                    stuck: HashSet::new(),
                };
                emptier.run(&woken);
            })?;
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            stop,
            wake: Some(Mutex::new(wake)),
            thread: Some(thread),
        })))
    }

    /// Makes `path` disappear now; its bytes go later. What is not there is fine.
    pub(crate) fn discard(&self, path: &Path) -> io::Result<()> {
        loop {
            let name = format!("{}-{}", std::process::id(), files::next_number());
            let name = self.0.dir.join(name);
            match rustix::fs::renameat_with(CWD, path, CWD, &name, RenameFlags::NOREPLACE) {
                Ok(()) => break,
                Err(Errno::NOENT) => return Ok(()),
                // Left by an earlier process with our number.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(wake) = &self.0.wake {
            let wake = wake.lock().unwrap_or_else(PoisonError::into_inner);
            if wake.send(()).is_err() {
                tracing::warn!("the trash is not emptied any more; the next start does it");
            }
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The thread's side.
struct Emptier {
    dir: OwnedFd,
    stop: Arc<AtomicBool>,
    /// Names that could not be deleted (an immutable file, say): tried again at the next opening.
    stuck: HashSet<CString>,
}

impl Emptier {
    fn run(&mut self, woken: &mpsc::Receiver<()>) {
        loop {
            if let Err(error) = self.empty() {
                tracing::warn!(%error, "cannot read the trash directory");
            }
            if self.stopped() || woken.recv().is_err() {
                return;
            }
            while woken.try_recv().is_ok() {}
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Deletes until nothing is left but what is stuck. New names may appear meanwhile.
    fn empty(&mut self) -> io::Result<()> {
        let stop = Arc::clone(&self.stop);
        let stopped = move || stop.load(Ordering::Relaxed);
        loop {
            let names = self.names()?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                if stopped() {
                    return Ok(());
                }
                let attic = Attic {
                    dir: self.dir.as_fd(),
                    prefix: "",
                };
                if let Err(error) = delete(self.dir.as_fd(), &name, attic, &stopped) {
                    tracing::warn!(%error, ?name, "cannot delete from the trash");
                    self.stuck.insert(name);
                }
            }
        }
    }

    fn names(&self) -> io::Result<Vec<CString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            if !is_dot(entry.file_name()) && !self.stuck.contains(entry.file_name()) {
                names.push(entry.file_name().to_owned());
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// Waits for the thread by what it does: the directory becomes empty.
    fn wait_until_empty(dir: &Path) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::fs::read_dir(dir).unwrap().next().is_some() {
            assert!(Instant::now() < deadline, "trash was not emptied");
            std::thread::yield_now();
        }
    }

    #[test]
    fn follows_no_link_and_survives_depth() {
        let root = tempfile::tempdir().unwrap();
        let precious = root.path().join("precious");
        std::fs::create_dir(&precious).unwrap();
        std::fs::write(precious.join("file"), b"kept").unwrap();
        let tree = root.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&precious, tree.join("link")).unwrap();
        // Deeper than any path may be long: built relative to descriptors, as a container could.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut fd = rustix::fs::open(&tree, flags, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&fd, "deep", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&fd, "sibling", Mode::RWXU).unwrap();
            fd = rustix::fs::openat(&fd, "deep", flags, Mode::empty()).unwrap();
        }
        let trash = Trash::open(&root.path().join("trash")).unwrap();
        trash.discard(&tree).unwrap();
        assert!(!tree.exists());
        wait_until_empty(&root.path().join("trash"));
        assert_eq!(std::fs::read(precious.join("file")).unwrap(), b"kept");
    }

    #[test]
    fn sweeps_leftovers_and_accepts_what_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("trash");
        std::fs::create_dir_all(dir.join("0/left/over")).unwrap();
        let trash = Trash::open(&dir).unwrap();
        trash.discard(&root.path().join("not there")).unwrap();
        wait_until_empty(&dir);
    }
}
