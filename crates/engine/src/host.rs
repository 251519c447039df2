//! Facts about the host that go into runtime specs: capabilities, devices, cgroup version.

use crate::containers::StartError;
use model::settings::{DeviceMapping, Resources};
use model::spec::{DeviceNode, HostFacts};
use rustix::fs::{FileType, major, minor};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Nested directories of devices beyond this are not entered.
const MAX_DEPTH: usize = 8;

/// Facts that do not change while the daemon runs.
#[derive(Debug)]
pub(crate) struct Host {
    facts: HostFacts,
}

impl Host {
    pub(crate) fn read() -> Self {
        let bounding = sys::capability::bounding();
        let capabilities = sys::capability::NAMES
            .iter()
            .enumerate()
            .filter(|(number, _)| bounding >> number & 1 == 1)
            .map(|(_, name)| format!("CAP_{name}"))
            .collect();
        Self {
            facts: HostFacts {
                cgroup_v2: std::fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok(),
                capabilities,
                devices: Vec::new(),
                cpus: std::thread::available_parallelism()
                    .ok()
                    .and_then(|cpus| u32::try_from(cpus.get()).ok())
                    .unwrap_or(0),
            },
        }
    }

    /// Returns the facts without the devices.
    pub(crate) fn known(&self) -> &HostFacts {
        &self.facts
    }

    /// Returns the facts; with all devices for a privileged container.
    pub(crate) fn facts(&self, privileged: bool) -> HostFacts {
        let mut facts = self.facts.clone();
        if privileged {
            collect(
                Path::new("/dev"),
                Path::new("/dev"),
                "rwm",
                MAX_DEPTH,
                &mut facts.devices,
            );
        }
        facts
    }
}

/// Returns where a program really lies: a magic link such as `/proc/self/exe` would mean another
/// program to whoever opens it.
pub(crate) fn program(exe: &Path) -> PathBuf {
    std::fs::read_link(exe).unwrap_or_else(|_| exe.to_owned())
}

/// Returns the host's name.
pub(crate) fn hostname() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// Looks up the devices a user asked for; a directory stands for all devices in it.
pub(crate) fn devices(mappings: &[DeviceMapping]) -> Result<Vec<DeviceNode>, StartError> {
    let mut nodes = Vec::new();
    for mapping in mappings {
        let path = &mapping.path_on_host;
        let metadata = std::fs::metadata(path).map_err(|source| StartError::Device {
            path: path.clone(),
            source,
        })?;
        if metadata.is_dir() {
            let inside = &mapping.path_in_container;
            collect(path, inside, &mapping.permissions, MAX_DEPTH, &mut nodes);
        } else if let Some(node) = node(path, &mapping.path_in_container, &mapping.permissions) {
            nodes.push(node);
        } else {
            return Err(StartError::Device {
                path: path.clone(),
                source: std::io::Error::other("not a device node"),
            });
        }
    }
    Ok(nodes)
}

fn collect(
    directory: &Path,
    inside: &Path,
    permissions: &str,
    depth: usize,
    into: &mut Vec<DeviceNode>,
) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // These are the container's own, as in docker.
        let own = ["pts", "shm", "fd", "mqueue", "console", ".lxc"];
        if own.iter().any(|own| name == *own) {
            continue;
        }
        let (path, inside) = (entry.path(), inside.join(&name));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&path, &inside, permissions, depth, into),
            Ok(kind) if kind.is_symlink() => {}
            _ => into.extend(node(&path, &inside, permissions)),
        }
    }
}

fn node(path: &Path, inside: &Path, permissions: &str) -> Option<DeviceNode> {
    let metadata = std::fs::metadata(path).ok()?;
    let kind = FileType::from_raw_mode(metadata.mode());
    let block = match kind {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => false,
        _ => return None,
    };
    Some(DeviceNode {
        path: inside.to_owned(),
        block,
        major: major(metadata.rdev()),
        minor: minor(metadata.rdev()),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        permissions: permissions.to_owned(),
    })
}

/// Looks up the devices that block IO limits name.
pub(crate) fn block_devices(resources: &Resources) -> HashMap<PathBuf, (u32, u32)> {
    [
        &resources.blkio_weight_device,
        &resources.blkio_device_read_bps,
        &resources.blkio_device_write_bps,
        &resources.blkio_device_read_iops,
        &resources.blkio_device_write_iops,
    ]
    .into_iter()
    .flatten()
    .filter_map(|(path, _)| {
        let node = node(path, path, "rwm")?;
        Some((path.clone(), (node.major, node.minor)))
    })
    .collect()
}
