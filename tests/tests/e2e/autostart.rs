//! The first command needs no set-up: a client that finds no daemon starts one and says so.

use e2e::command::{self, Output};
use e2e::machine::Machine;
use e2e::{bootstrap, wait_until};

/// A machine whose default paths are its own, and where no daemon runs.
fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.start_registry();
    machine
        .namespace
        .shell("mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mkdir -p /etc");
    machine
}

fn berth(machine: &Machine, args: &[&str]) -> Output {
    let mut command = machine.namespace.command("timeout");
    command
        .args(["--foreground", "--kill-after=2", "60"])
        .arg(bootstrap::berth())
        .args(args)
        .env_remove("BERTH_HOST")
        .env_remove("DOCKER_HOST")
        .env("HOME", machine.path(""));
    command::run(command, b"")
}

#[test]
fn a_daemon_is_started_once_and_announced() {
    let mut machine = machine();
    let image = "127.0.0.1:5000/library/busybox";
    let first = berth(&machine, &["run", "--rm", image, "echo", "hello"]);
    assert_eq!(first.ok(), "hello");
    first.says(&["daemon"]);
    let second = berth(&machine, &["run", "--rm", image, "echo", "again"]);
    assert_eq!(
        (second.ok(), second.stderr.as_str()),
        ("again", ""),
        "nothing to announce twice"
    );
    let pid = machine.namespace.shell("cat /run/berth/berth.pid");
    machine.namespace.shell(&format!("kill {}", pid.trim()));
    wait_until("the daemon ended", || {
        (!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists()).then_some(())
    });
    machine.namespace.shell(
        "for d in /sys/fs/cgroup/berth /sys/fs/cgroup/*/berth; do rmdir $d 2>/dev/null || true; done",
    );
    machine
        .namespace
        .shell("ip link del berth0 2>/dev/null || true");
    machine.finish();
}

#[test]
fn never_for_somebody_elses_daemon() {
    let mut machine = machine();
    for host in ["unix:///run/elsewhere.sock", "tcp://127.0.0.1:2375"] {
        let out = berth(&machine, &["--host", host, "ps"]);
        out.exits(1).is_one_clear_line();
    }
    assert!(!machine.namespace.shell("ls /run").contains("berth"));
    machine.finish();
}
