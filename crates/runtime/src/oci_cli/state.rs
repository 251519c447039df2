//! What the command line remembers of a container between its calls.
//!
//! ```text
//! <root>/<id>/state.json   written once, when the container is created
//! <root>/<id>/start.sock   where its process waits for the start; gone afterwards
//! ```
//!
//! The status is never stored: it is what the kernel says now.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use oci_spec::runtime::Hook;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;

/// A container on record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) oci_version: String,
    pub(super) id: String,
    pub(super) pid: i32,
    /// The process's start time, which with the pid names it for ever.
    pub(super) start_time: u64,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    /// RFC 3339.
    pub(super) created: String,
    pub(super) cgroup: PathBuf,
    #[serde(default)]
    pub(super) annotations: HashMap<String, String>,
    #[serde(default)]
    pub(super) poststart: Vec<Hook>,
    #[serde(default)]
    pub(super) poststop: Vec<Hook>,
}

/// The state that others see (OCI runtime specification, "State").
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'a> {
    pub(super) oci_version: &'a str,
    pub(super) id: &'a str,
    pub(super) pid: i32,
    pub(super) status: Status,
    pub(super) bundle: &'a Path,
    pub(super) rootfs: &'a Path,
    pub(super) created: &'a str,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub(super) annotations: &'a HashMap<String, String>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Record {
    pub(super) fn shown(&self, status: Status) -> Shown<'_> {
        Shown {
            oci_version: &self.oci_version,
            id: &self.id,
            pid: if status == Status::Stopped {
                0
            } else {
                self.pid
            },
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
        }
    }

    /// The state as JSON, as hooks and `state` get it.
    pub(super) fn json(&self, status: Status) -> String {
        serde_json::to_string_pretty(&self.shown(status)).unwrap_or_default()
    }

    pub(super) fn cgroup(&self) -> Result<Cgroup, String> {
        Cgroup::at(&self.cgroup).map_err(|error| error.to_string())
    }

    /// What the kernel says.
    pub(super) fn status(&self, directory: &Path) -> Status {
        if start_time(self.pid) != Some(self.start_time) {
            return Status::Stopped;
        }
        if directory.join(SOCKET).symlink_metadata().is_ok() {
            return Status::Created;
        }
        match self.cgroup() {
            Ok(cgroup) if cgroup.is_frozen() => Status::Paused,
            _ => Status::Running,
        }
    }
}

pub(super) const SOCKET: &str = "start.sock";

/// A process's start time; `None` when it has ended, and a zombie has.
pub(super) fn start_time(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything; what follows its last parenthesis does not.
    let mut fields = text.get(text.rfind(')')? + 2..)?.split(' ');
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Where records are.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) root: PathBuf,
}

impl Store {
    pub(super) fn directory(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Takes the id. The directory is the lock: only one call can make it.
    pub(super) fn claim(&self, id: &str) -> Result<PathBuf, String> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o711);
        let failed = |path: &Path, error: io::Error| format!("mkdir {}: {error}", path.display());
        builder
            .recursive(true)
            .create(&self.root)
            .map_err(|error| failed(&self.root, error))?;
        let directory = self.directory(id);
        match builder.recursive(false).create(&directory) {
            Ok(()) => Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err("container with given ID already exists".to_owned())
            }
            Err(error) => Err(failed(&directory, error)),
        }
    }

    pub(super) fn save(&self, record: &Record) -> Result<(), String> {
        let directory = self.directory(&record.id);
        let (temporary, path) = (
            directory.join("state.json.new"),
            directory.join("state.json"),
        );
        let bytes = serde_json::to_vec(record).map_err(|error| error.to_string())?;
        std::fs::write(&temporary, bytes)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(|error| format!("write {}: {error}", path.display()))
    }

    pub(super) fn load(&self, id: &str) -> Result<Record, String> {
        let path = self.directory(id).join("state.json");
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "container does not exist".to_owned(),
            _ => format!("read {}: {error}", path.display()),
        })?;
        serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(super) fn remove(&self, id: &str) -> Result<(), String> {
        let directory = self.directory(id);
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("remove {}: {error}", directory.display()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn ids(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten();
        let mut ids: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        ids.sort();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_name_processes() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(own).is_some());
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(i32::MAX), None);
    }
}
