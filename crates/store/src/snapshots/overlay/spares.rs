//! Snapshot directories made ahead, so that the start of a container only renames one.
//!
//! Making four inodes costs some 50 µs, and a file system that is busy with deletions has been
//! seen to take a millisecond over it (ext4 without a journal does not reuse an inode that was
//! deleted a moment ago, and searches). A thread refills off the path, in batches.

use super::{LOWER, UPPER, WORK};
use crate::files;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

/// Directories kept: enough for a burst of starts, three inodes each.
const READY_MAX: usize = 8;
/// Refilled from here on, so that a lone start is not followed by a refill each time.
const READY_MIN: usize = 4;

#[derive(Debug)]
pub(super) struct Spares {
    shared: Arc<Shared>,
    wake: Option<Mutex<mpsc::Sender<()>>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    ready: Mutex<Vec<PathBuf>>,
}

impl Spares {
    /// Starts to make spares below `dir`, which is there and empty.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            dir,
            ready: Mutex::default(),
        });
        let (wake, woken) = mpsc::channel();
        let in_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-spares".into())
            .spawn(move || {
                in_thread.refill();
                while woken.recv().is_ok() {
                    in_thread.refill();
                }
            })?;
        Ok(Self {
            shared,
            wake: Some(Mutex::new(wake)),
            thread: Some(thread),
        })
    }

    /// A directory with an empty `lower`, `upper` and `work`, for the caller to rename or to discard.
    pub(super) fn take(&self) -> io::Result<PathBuf> {
        let mut ready = self.shared.ready();
        let spare = ready.pop();
        let low = ready.len() < READY_MIN;
        drop(ready);
        if low && let Some(wake) = &self.wake {
            let sent = wake.lock().unwrap_or_else(PoisonError::into_inner).send(());
            if sent.is_err() {
                tracing::warn!("snapshots are not prepared ahead any more");
            }
        }
        spare.map_or_else(|| self.shared.make(), Ok)
    }
}

impl Shared {
    fn ready(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refill(&self) {
        while self.ready().len() < READY_MAX {
            match self.make() {
                Ok(spare) => self.ready().push(spare),
                // Whoever needs one now meets the same error, and reports it to somebody.
                Err(error) => {
                    tracing::debug!(%error, "cannot prepare a snapshot ahead");
                    return;
                }
            }
        }
    }

    fn make(&self) -> io::Result<PathBuf> {
        let dir = self.dir.join(files::next_number().to_string());
        make(&dir)?;
        Ok(dir)
    }
}

fn make(dir: &Path) -> io::Result<()> {
    rustix::fs::mkdir(dir, Mode::from_raw_mode(0o710))?;
    rustix::fs::mkdir(dir.join(UPPER), Mode::from_raw_mode(0o755))?;
    rustix::fs::mkdir(dir.join(WORK), Mode::from_raw_mode(0o700))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::open(dir.join(LOWER), flags, Mode::from_raw_mode(0o600))?;
    Ok(())
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
