//! The leak check: what may be left of a machine when its containers are removed and its daemon
//! has ended. That is nothing: no mount, process, namespace, link, cgroup or file.
//!
//! Everything is looked for in the kernel and on disk, not asked of the daemon. A test proves
//! that each kind is found when it is left on purpose.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::machine::{Machine, signal};
use crate::namespace::MARKER;

/// A kind of thing that can be left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A mount below the machine's roots, in the host's or the machine's mount namespace.
    Mount,
    /// A process with the machine's mark, cgroup, or namespaces.
    Process,
    /// A namespace that only such a process keeps alive.
    Namespace,
    /// A network link in the machine's namespace beside loopback and the bridge.
    Link,
    /// A cgroup below the machine's parent, in any hierarchy.
    Cgroup,
    /// A file below the execution root, or a container's file below the data root.
    File,
}

/// One thing left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// What it is.
    pub kind: Kind,
    /// Which one.
    pub what: String,
}

/// Looks everywhere.
pub fn find(machine: &Machine) -> Vec<Leak> {
    let mut leaks = Vec::new();
    mounts(machine, &mut leaks);
    processes(machine, &mut leaks);
    links(machine, &mut leaks);
    cgroups(machine, &mut leaks);
    files(machine, &mut leaks);
    leaks
}

/// One line per leak.
pub fn describe(leaks: &[Leak]) -> String {
    leaks
        .iter()
        .map(|leak| format!("  {:?}: {}", leak.kind, leak.what))
        .collect::<Vec<_>>()
        .join("\n")
}

fn mounts(machine: &Machine, leaks: &mut Vec<Leak>) {
    let root = machine.path("");
    let root = root.to_string_lossy();
    let root = root.trim_end_matches('/');
    for (whose, table) in [
        ("the host's", "/proc/self/mountinfo".to_owned()),
        (
            "the machine's",
            format!("/proc/{}/mountinfo", machine.namespace.pid()),
        ),
    ] {
        for line in fs::read_to_string(table).unwrap_or_default().lines() {
            if line.contains(root) {
                leaks.push(Leak {
                    kind: Kind::Mount,
                    what: format!("in {whose} table: {line}"),
                });
            }
        }
    }
}

fn processes(machine: &Machine, leaks: &mut Vec<Leak>) {
    let holder = machine.namespace.pid();
    let own = namespaces(holder);
    let host = namespaces(std::process::id());
    for pid in processes_of(machine) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        leaks.push(Leak {
            kind: Kind::Process,
            what: format!("{pid} {}", name.trim()),
        });
        for namespace in namespaces(pid) {
            if !own.contains(&namespace) && !host.contains(&namespace) {
                leaks.push(Leak {
                    kind: Kind::Namespace,
                    what: format!("{namespace} of {pid}"),
                });
            }
        }
    }
}

/// Every process that belongs to the machine, except the namespaces' holder.
fn processes_of(machine: &Machine) -> Vec<u32> {
    let holder = machine.namespace.pid();
    let mark = format!("{MARKER}={}", machine.name);
    let cgroup = machine.cgroup_parent();
    let netns = netns(holder);
    let mut found: Vec<u32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| pid != holder && is_running(pid))
        .filter(|&pid| {
            contains(&format!("/proc/{pid}/environ"), &mark)
                || contains(&format!("/proc/{pid}/cgroup"), &cgroup)
                || self::netns(pid) == netns
        })
        .collect();
    found.sort_unstable();
    found
}

/// A zombie is its parent's to collect and holds nothing any more.
fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(") ")
                .map(|(_, rest)| !rest.starts_with(['Z', 'X']))
        })
        .unwrap_or(false)
}

fn netns(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

fn namespaces(pid: u32) -> BTreeSet<String> {
    ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
        .iter()
        .filter_map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

fn contains(path: &str, text: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}

fn links(machine: &Machine, leaks: &mut Vec<Leak>) {
    let bridge = machine.bridge();
    for line in machine.namespace.shell("ip -oneline link show").lines() {
        let name = line.split(": ").nth(1).unwrap_or(line);
        if name != "lo" && name != bridge {
            leaks.push(Leak {
                kind: Kind::Link,
                what: name.to_owned(),
            });
        }
    }
}

/// Where the machine's cgroups are: its parent in every hierarchy that is mounted.
pub fn cgroup_directories(machine: &Machine) -> Vec<PathBuf> {
    let parent = machine.cgroup_parent();
    fs::read_to_string("/proc/self/mounts")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
            kind.starts_with("cgroup")
                .then(|| Path::new(point).join(&parent[1..]))
        })
        .filter(|path| path.is_dir())
        .collect()
}

fn cgroups(machine: &Machine, leaks: &mut Vec<Leak>) {
    for parent in cgroup_directories(machine) {
        for child in subdirectories(&parent) {
            leaks.push(Leak {
                kind: Kind::Cgroup,
                what: child.display().to_string(),
            });
        }
    }
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .map(|entries| {
            entries
                .filter_map(|e| Some(e.ok()?.path()))
                .filter(|path| path.is_dir())
                .collect()
        })
        .unwrap_or_default()
}

fn files(machine: &Machine, leaks: &mut Vec<Leak>) {
    let mut left = Vec::new();
    files_below(&machine.exec_root(), &mut left);
    // Images may stay; what belonged to containers may not.
    for of_containers in ["containers", "snapshots", "records/containers"] {
        files_below(&machine.data_root().join(of_containers), &mut left);
        for directory in subdirectories(&machine.data_root().join(of_containers)) {
            if fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_none()) {
                left.push(directory);
            }
        }
    }
    // A lock's file stays (removing it would race with the next daemon), and so do the few empty
    // snapshots that are kept ready; the next daemon takes both over.
    let kept = [
        machine.exec_root().join("daemon.lock"),
        machine.data_root().join("snapshots/.spare"),
    ];
    left.retain(|path| !kept.iter().any(|kept| path.starts_with(kept)));
    for path in left {
        leaks.push(Leak {
            kind: Kind::File,
            what: path.display().to_string(),
        });
    }
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files_below(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// Removes the (empty) parent cgroups that the daemon made for this machine.
pub fn remove_cgroups(machine: &Machine) {
    for directory in cgroup_directories(machine) {
        remove_cgroup(&directory);
    }
}

fn remove_cgroup(directory: &Path) {
    for child in subdirectories(directory) {
        remove_cgroup(&child);
    }
    let _busy = fs::remove_dir(directory);
}

/// After a failed test: kills what is left and removes it, so that the next test starts clean.
pub fn force_clean(machine: &Machine) {
    let gone = crate::wait::wait_within(std::time::Duration::from_secs(5), || {
        let left = processes_of(machine);
        for &pid in &left {
            // A frozen process dies only once it is thawed.
            for directory in cgroup_directories(machine) {
                for child in subdirectories(&directory) {
                    let _not_a_freezer = fs::write(child.join("freezer.state"), "THAWED");
                }
            }
            signal(pid, "KILL");
        }
        left.is_empty().then_some(())
    });
    if gone.is_none() {
        eprintln!("could not end {:?}", processes_of(machine));
    }
    remove_cgroups(machine);
}
