//! Small file operations that every part of the store shares: directories, and files that are
//! replaced whole.

use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Docker's mode for its data root: others may pass through to nothing, so that the setuid
/// programs inside layers are out of reach of the host's users.
const PRIVATE_DIR_MODE: u32 = 0o710;

/// How far a write must have got before it is reported as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Visible to every process; a power cut may lose it.
    Visible,
    /// On the disk, name and bytes.
    Durable,
}

/// Makes a directory and its parents, private to root.
pub(crate) fn ensure_dir(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIR_MODE)
        .create(path)
}

/// Returns a number that no other call in this process gets.
pub(crate) fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Prefix of files that [`replace`] has not renamed yet. No name that the store gives starts so.
pub(crate) const TEMPORARY_PREFIX: &str = ".new-";

/// Replaces `dir/name` by `bytes`: a reader sees the old file or the new one, whole.
pub(crate) fn replace(
    dir: &Path,
    name: &str,
    bytes: &[u8],
    durability: Durability,
) -> io::Result<()> {
    let temporary = dir.join(format!("{TEMPORARY_PREFIX}{}", next_number()));
    let result = write_new(&temporary, bytes, durability)
        .and_then(|()| std::fs::rename(&temporary, dir.join(name)));
    if let Err(error) = result {
        // The write failed (no space, say); the leftover is swept at open if this fails as well.
        drop(std::fs::remove_file(&temporary));
        return Err(error);
    }
    match durability {
        Durability::Visible => Ok(()),
        Durability::Durable => sync_dir(dir),
    }
}

fn write_new(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(bytes)?;
    match durability {
        Durability::Visible => Ok(()),
        Durability::Durable => file.sync_all(),
    }
}

/// Puts a directory's entries on the disk.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes what [`replace`] left behind when its process died.
pub(crate) fn sweep_temporaries(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(TEMPORARY_PREFIX.as_bytes())
        {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for durability in [Durability::Visible, Durability::Durable] {
            for bytes in [&b"longer"[..], b"x", b""] {
                replace(dir.path(), "name", bytes, durability).unwrap();
                assert_eq!(std::fs::read(dir.path().join("name")).unwrap(), bytes);
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_replace_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        // A directory in the way makes the rename fail after the write succeeded.
        std::fs::create_dir(dir.path().join("name")).unwrap();
        replace(dir.path(), "name", b"new", Durability::Visible).unwrap_err();
        assert!(dir.path().join("name").is_dir());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn sweeps_what_a_dead_process_left() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".new-7"), b"half").unwrap();
        std::fs::write(dir.path().join("kept.json"), b"{}").unwrap();
        sweep_temporaries(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
