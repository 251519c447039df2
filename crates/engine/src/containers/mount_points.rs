//! The lowest layer of every container: the places that the engine mounts over.
//!
//! An image that has them hides these; one that lacks them would get them made in each container's
//! writable directory, at every start, and `diff` would show what nobody changed.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const DIRECTORIES: [&str; 6] = ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];
/// `.dockerenv` is how programs find out that they run in a container.
const FILES: [&str; 4] = [".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// Makes the layer beneath the data root where it is not there, and returns its path.
///
/// # Errors
/// If a part of it cannot be made.
pub(crate) fn ensure(data_root: &Path) -> io::Result<PathBuf> {
    let layer = data_root.join("mount-points");
    for directory in DIRECTORIES {
        fs::create_dir_all(layer.join(directory))?;
    }
    for file in FILES {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o755)
            .open(layer.join(file))?;
    }
    Ok(layer)
}

#[cfg(test)]
mod tests {
    #[test]
    fn made_once_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let layer = super::ensure(root.path()).unwrap();
        std::fs::write(layer.join("etc/hosts"), "kept").unwrap();
        assert_eq!(super::ensure(root.path()).unwrap(), layer);
        assert_eq!(std::fs::read(layer.join("etc/hosts")).unwrap(), b"kept");
        assert!(layer.join("dev/pts").is_dir());
    }
}
