//! CPU time of everything an engine does, daemons and containers included, by cgroup.
//!
//! Each engine has a cgroup in the hierarchy that counts CPU time; its daemon and, for the time of
//! one run, this program's children live in it, and its containers are placed below it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The parent of all engines' cgroups of this run.
#[derive(Debug)]
pub(crate) struct CpuGroups {
    hierarchy: PathBuf,
    /// Path of the parent inside every hierarchy: `/berth-bench-1234`.
    pub(crate) name: String,
}

/// One engine's cgroup.
#[derive(Debug, Clone)]
pub(crate) struct CpuGroup {
    directory: PathBuf,
    /// Its path inside the hierarchy, as the engines' `--cgroup-parent` takes it.
    pub(crate) path: String,
}

impl CpuGroups {
    /// Finds the hierarchy: `cpuacct` of version 1, else version 2's.
    pub(crate) fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let find = |wanted: &dyn Fn(&str, &str) -> bool| {
            mounts.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                wanted(fields[2], fields[3]).then(|| PathBuf::from(fields[1]))
            })
        };
        let hierarchy = find(&|kind, options| {
            kind == "cgroup" && options.split(',').any(|option| option == "cpuacct")
        })
        .or_else(|| find(&|kind, _| kind == "cgroup2"))
        .expect("a cgroup hierarchy is mounted");
        Self {
            hierarchy,
            name: format!("/berth-bench-{}", std::process::id()),
        }
    }

    /// Makes one engine's group.
    pub(crate) fn group(&self, engine: &str) -> CpuGroup {
        let path = format!("{}/{engine}", self.name);
        let directory = self.hierarchy.join(&path[1..]);
        fs::create_dir_all(&directory).unwrap();
        CpuGroup { directory, path }
    }

    /// Moves this program (and so its next children) out of every group.
    pub(crate) fn leave(&self) {
        enter(&self.hierarchy);
    }
}

impl Drop for CpuGroups {
    fn drop(&mut self) {
        self.leave();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for point in mounts.lines().filter(|line| line.contains(" cgroup")) {
            let point = point.split(' ').nth(1).unwrap_or("/");
            remove(&Path::new(point).join(&self.name[1..]));
        }
    }
}

impl CpuGroup {
    /// Moves this program in.
    pub(crate) fn enter(&self) {
        enter(&self.directory);
    }

    /// CPU time used by it and everything below, so far.
    pub(crate) fn used(&self) -> Duration {
        if let Ok(text) = fs::read_to_string(self.directory.join("cpuacct.usage")) {
            return Duration::from_nanos(text.trim().parse().unwrap());
        }
        let text = fs::read_to_string(self.directory.join("cpu.stat")).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "))
            .unwrap();
        Duration::from_micros(line.parse().unwrap())
    }

    /// The processes in the group itself: daemons and shims, not containers.
    pub(crate) fn processes(&self) -> Vec<u32> {
        fs::read_to_string(self.directory.join("cgroup.procs"))
            .unwrap()
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|&pid| pid != std::process::id())
            .collect()
    }
}

fn enter(directory: &Path) {
    fs::write(
        directory.join("cgroup.procs"),
        std::process::id().to_string(),
    )
    .unwrap();
}

fn remove(directory: &Path) {
    if let Ok(entries) = fs::read_dir(directory) {
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            remove(&entry.path());
        }
        let _busy = fs::remove_dir(directory);
    }
}
