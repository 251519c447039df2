//! What is made once and kept in `target/e2e-cache`: a Debian root file system and the storage of
//! a filled registry. A file lock lets several test processes wait for the one that makes it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::fixtures;
use crate::registry;

/// Changes whenever the fixtures do, so that an old cache is never taken for a new one.
const CACHE_VERSION: &str = "v5";

/// The cache's parts.
#[derive(Debug)]
pub struct Cache {
    /// The storage directory that every test's registry serves, read-only.
    pub registry: PathBuf,
    /// The image layouts the registry was filled from.
    pub layout: PathBuf,
}

/// The cache, made on first use.
pub fn cache() -> &'static Cache {
    static CACHE: OnceLock<Cache> = OnceLock::new();
    CACHE.get_or_init(prepare)
}

/// The directory that cargo builds programs into, found from this very program.
pub fn target_directory() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    // …/<triple>/<profile>/deps/<test>, or …/<triple>/<profile>/<program>
    let directory = program.parent().unwrap();
    if directory.ends_with("deps") || directory.ends_with("examples") {
        directory.parent().unwrap()
    } else {
        directory
    }
    .to_path_buf()
}

/// Where what is dear to make is kept: beside the profiles, so that they share it.
pub fn cache_directory() -> PathBuf {
    target_directory().parent().unwrap().join("e2e-cache")
}

/// The `berth` binary under test: `$BERTH_BIN`, or what cargo builds beside this test.
pub fn berth() -> &'static Path {
    static BERTH: OnceLock<PathBuf> = OnceLock::new();
    BERTH.get_or_init(|| {
        if let Some(path) = std::env::var_os("BERTH_BIN") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        // What the outer cargo says of this package would make the inner one build anew.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG") || name.starts_with("CARGO_MANIFEST") {
                command.env_remove(name);
            }
        }
        let status = command
            .args(["build", "--quiet", "--package", "berth"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "cargo build -p berth failed");
        target_directory().join("berth")
    })
}

fn prepare() -> Cache {
    let root = cache_directory();
    fs::create_dir_all(&root).unwrap();
    let lock = File::create(root.join("lock")).unwrap();
    lock.lock().unwrap();
    let done = root.join(CACHE_VERSION);
    let cache = Cache {
        registry: done.join("registry"),
        layout: done.join("layout"),
    };
    if !done.is_dir() {
        let half = root.join("half-made");
        if half.is_dir() {
            fs::remove_dir_all(&half).unwrap();
        }
        fs::create_dir_all(&half).unwrap();
        let debian = debian_tar(&root);
        fixtures::write(&half.join("layout"), &fs::read(debian).unwrap());
        registry::fill(&half.join("registry"), &half.join("layout"));
        fs::rename(&half, &done).unwrap();
    }
    cache
}

/// A minimal Debian from the machine's own package source, as one tar.
fn debian_tar(root: &Path) -> PathBuf {
    let tar = root.join("debian-bookworm.tar");
    if !tar.is_file() {
        let half = root.join("debian-half.tar");
        let mut command = Command::new("mmdebstrap");
        command
            .args(["--variant=minbase", "--quiet", "bookworm"])
            .arg(&half);
        // Only Debian's own sources: whatever else the machine has configured is not the image's.
        for list in [
            "/etc/apt/sources.list.d/debian.sources",
            "/etc/apt/sources.list",
        ] {
            if fs::metadata(list).is_ok_and(|meta| meta.len() > 0) {
                command.arg(list);
                break;
            }
        }
        let out = command.output().expect("mmdebstrap is installed");
        assert!(
            out.status.success(),
            "mmdebstrap: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        fs::rename(&half, &tar).unwrap();
    }
    tar
}
