//! The leak check can fail: each kind of thing, left on purpose, is found and named.

use std::fs;
use std::process::{Command, Stdio};

use e2e::leak::{self, Kind};
use e2e::machine::Machine;
use e2e::wait_until;

/// Leaves one thing, expects exactly that kind (and what holds it) reported, removes it again.
fn check(
    leave: impl FnOnce(&Machine),
    expected: &[Kind],
    naming: &str,
    clean: impl FnOnce(&Machine),
) {
    let machine = Machine::new();
    assert_eq!(leak::find(&machine), [], "a new machine is clean");
    leave(&machine);
    let report = wait_until("the leak is seen", || {
        let report = leak::find(&machine);
        let seen = |kind| report.iter().any(|leak| leak.kind == kind);
        expected.iter().all(|&kind| seen(kind)).then_some(report)
    });
    let text = leak::describe(&report);
    assert!(text.contains(naming), "{naming:?} is not named in:\n{text}");
    assert!(
        report.iter().all(|leak| expected.contains(&leak.kind)),
        "too much in:\n{text}"
    );
    clean(&machine);
    wait_until("the leak is gone", || {
        leak::find(&machine).is_empty().then_some(())
    });
    leak::force_clean(&machine);
}

#[test]
fn a_mount_is_found() {
    check(
        |machine| {
            let point = machine.path("left");
            fs::create_dir(&point).unwrap();
            machine
                .namespace
                .shell(&format!("mount -t tmpfs left {}", point.display()));
        },
        &[Kind::Mount],
        "/left ",
        |machine| {
            machine
                .namespace
                .shell(&format!("umount {}", machine.path("left").display()));
        },
    );
}

#[test]
fn a_marked_process_is_found() {
    check(
        |machine| {
            // Forked away by the shell, as a daemon's child would be.
            machine
                .namespace
                .shell("sleep 1000 >/dev/null 2>&1 </dev/null &");
        },
        &[Kind::Process],
        "sleep",
        leak::force_clean,
    );
}

#[test]
fn a_namespace_is_found() {
    check(
        |machine| {
            machine
                .namespace
                .shell("unshare --ipc sleep 1000 >/dev/null 2>&1 </dev/null &");
        },
        &[Kind::Process, Kind::Namespace],
        "ipc:[",
        leak::force_clean,
    );
}

#[test]
fn an_unmarked_process_in_the_machines_cgroup_is_found() {
    let mut child = None;
    check(
        |machine| {
            let sleeper = Command::new("sleep")
                .arg("1000")
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            let parent = a_hierarchy().join(&machine.cgroup_parent()[1..]);
            fs::create_dir(&parent).unwrap();
            fs::write(parent.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
            child = Some(sleeper);
        },
        &[Kind::Process],
        "sleep",
        leak::force_clean,
    );
    child.unwrap().wait().unwrap();
}

#[test]
fn a_link_is_found() {
    check(
        |machine| {
            machine
                .namespace
                .shell("ip link add left0 type veth peer name left1");
        },
        &[Kind::Link],
        "left0",
        |machine| {
            machine.namespace.shell("ip link del left0");
        },
    );
}

#[test]
fn a_cgroup_is_found_in_every_hierarchy() {
    let hierarchies = all_hierarchies();
    assert!(!hierarchies.is_empty());
    for hierarchy in hierarchies {
        check(
            |machine| {
                let left = hierarchy.join(&machine.cgroup_parent()[1..]).join("left");
                fs::create_dir_all(left).unwrap();
            },
            &[Kind::Cgroup],
            &hierarchy.to_string_lossy(),
            leak::remove_cgroups,
        );
    }
}

#[test]
fn files_are_found() {
    for left in [
        "run/shims/x/shim.sock",
        "data/records/containers/x.json",
        "data/snapshots/x/upper/f",
    ] {
        check(
            |machine| {
                let path = machine.path(left);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "left").unwrap();
            },
            &[Kind::File],
            left,
            |machine| {
                fs::remove_dir_all(machine.path(left.split_once('/').unwrap().0)).unwrap();
            },
        );
    }
}

fn all_hierarchies() -> Vec<std::path::PathBuf> {
    fs::read_to_string("/proc/self/mounts")
        .unwrap()
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields[2].starts_with("cgroup").then(|| fields[1].into())
        })
        .collect()
}

fn a_hierarchy() -> std::path::PathBuf {
    all_hierarchies()
        .into_iter()
        .find(|path| path.join("cgroup.procs").exists() && !path.ends_with("cpuset"))
        .expect("a cgroup hierarchy is mounted")
}
