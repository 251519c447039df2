//! What is mounted in a container, and in which order.

use super::{INIT_PATH, SpecInput};
use crate::settings::NamespaceMode;
use oci_spec::runtime::Mount;
use std::path::PathBuf;

/// Docker's size of `/dev/shm` in bytes.
const DEFAULT_SHM_BYTES: u64 = 64 << 20;

/// A mount whose source is known to exist on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolvedMount {
    /// A file or directory of the host; volumes are such directories too.
    Bind {
        /// Absolute host path.
        source: PathBuf,
        /// Absolute path inside.
        target: String,
        /// Read-only, with everything mounted below it.
        read_only: bool,
        /// `rprivate`, `rslave`, …
        propagation: String,
        /// With what is mounted below the source.
        recursive: bool,
    },
    /// Memory.
    Tmpfs {
        /// Absolute path inside.
        target: String,
        /// Options in mount(8)'s words.
        options: Vec<String>,
    },
}

impl ResolvedMount {
    fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. } | Self::Tmpfs { target, .. } => target,
        }
    }
}

/// Defaults that nobody replaced, then the others, parents before children.
pub(super) fn plan(input: &SpecInput<'_>) -> Vec<Mount> {
    let replaced = |mount: &Mount| {
        input
            .mounts
            .iter()
            .any(|own| mount.destination().to_str() == Some(own.target()))
    };
    let mut mounts: Vec<Mount> = defaults(input)
        .into_iter()
        .filter(|mount| !replaced(mount))
        .collect();
    let mut own: Vec<&ResolvedMount> = input.mounts.iter().collect();
    own.sort_by_key(|mount| {
        mount
            .target()
            .split('/')
            .filter(|part| !part.is_empty())
            .count()
    });
    mounts.extend(own.into_iter().map(mount));
    if input.settings.init {
        let source = input.init_binary.to_str().unwrap_or_default();
        mounts.push(entry("bind", source, INIT_PATH, &["bind", "ro"]));
    }
    mounts
}

fn defaults(input: &SpecInput<'_>) -> Vec<Mount> {
    let settings = input.settings;
    let access = if settings.security.privileged {
        "rw"
    } else {
        "ro"
    };
    let mut mounts = vec![
        entry("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
        entry(
            "tmpfs",
            "tmpfs",
            "/dev",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        entry(
            "devpts",
            "devpts",
            "/dev/pts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        entry(
            "sysfs",
            "sysfs",
            "/sys",
            &["nosuid", "noexec", "nodev", access],
        ),
        entry(
            "cgroup",
            "cgroup",
            "/sys/fs/cgroup",
            &[access, "nosuid", "noexec", "nodev", "relatime"],
        ),
    ];
    match settings.namespaces.ipc {
        // A new mqueue shows the queues of the namespace that it is mounted in: the host's.
        NamespaceMode::Host => {
            mounts.push(mqueue());
            mounts.push(entry("bind", "/dev/shm", "/dev/shm", &["bind"]));
        }
        NamespaceMode::None => mounts.push(mqueue()),
        // The other container's /dev/shm arrives among the resolved mounts.
        NamespaceMode::Container(_) => mounts.push(mqueue()),
        NamespaceMode::Private | NamespaceMode::Shareable => {
            let size = format!(
                "size={}",
                settings.shm_size_bytes.unwrap_or(DEFAULT_SHM_BYTES)
            );
            mounts.push(mqueue());
            mounts.push(entry(
                "tmpfs",
                "shm",
                "/dev/shm",
                &["nosuid", "noexec", "nodev", "mode=1777", &size],
            ));
        }
    }
    mounts
}

fn mqueue() -> Mount {
    entry(
        "mqueue",
        "mqueue",
        "/dev/mqueue",
        &["nosuid", "noexec", "nodev"],
    )
}

fn mount(resolved: &ResolvedMount) -> Mount {
    match resolved {
        ResolvedMount::Bind {
            source,
            target,
            read_only,
            propagation,
            recursive,
        } => {
            let bind = if *recursive { "rbind" } else { "bind" };
            let access = match (read_only, recursive) {
                (false, _) => "rw",
                // What is mounted below stays as it is, as docker has it on kernels before 5.12.
                (true, false) => "ro",
                (true, true) => "rro",
            };
            let mut mount = entry("bind", "", target, &[bind, access, propagation]);
            mount.set_source(Some(source.clone()));
            mount
        }
        ResolvedMount::Tmpfs { target, options } => {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            entry("tmpfs", "tmpfs", target, &options)
        }
    }
}

fn entry(kind: &str, source: &str, target: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_destination(PathBuf::from(target))
        .set_options(Some(
            options.iter().map(|option| (*option).to_owned()).collect(),
        ));
    mount
}

/// The root must not be more private than the mounts that are to be seen through it.
pub(super) fn root_propagation(mounts: &[ResolvedMount]) -> Option<String> {
    let has = |wanted: &str| {
        mounts.iter().any(|mount| match mount {
            ResolvedMount::Bind { propagation, .. } => propagation.ends_with(wanted),
            ResolvedMount::Tmpfs { .. } => false,
        })
    };
    if has("shared") {
        Some("shared".to_owned())
    } else if has("slave") {
        Some("slave".to_owned())
    } else {
        None
    }
}
