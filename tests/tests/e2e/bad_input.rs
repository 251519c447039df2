//! Bad input and bad circumstances: each answered with one clear line, nothing left half-made.

use std::fs;

use e2e::machine::{Client, Machine};
use e2e::{command, scenario};

/// Runs our client and expects one clear line that has every one of `parts`.
#[track_caller]
fn check(machine: &Machine, args: &[&str], code: i32, parts: &[&str]) {
    machine
        .berth(args)
        .exits(code)
        .says(parts)
        .is_one_clear_line();
}

#[test]
fn images_that_are_not_there() {
    scenario(|machine| {
        let registry = "127.0.0.1:5000";
        check(
            machine,
            &["pull", &format!("{registry}/no/such")],
            1,
            &["no/such", "not found"],
        );
        check(
            machine,
            &["pull", &format!("{registry}/library/busybox:nope")],
            1,
            &["nope", "not found"],
        );
        check(machine, &["pull", "upper/CASE"], 1, &["lowercase"]);
        check(machine, &["pull", "a//b"], 1, &["invalid reference format"]);
        check(machine, &["pull", ""], 1, &["invalid reference format"]);
        check(
            machine,
            &["run", "busy box", "true"],
            125,
            &["invalid reference format"],
        );
        check(
            machine,
            &["pull", "127.0.0.1:5999/library/busybox"],
            1,
            &["127.0.0.1:5999", "connection refused"],
        );
        check(
            machine,
            &[
                "pull",
                "127.0.0.1:5000/library/busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            ],
            1,
            &["not found"],
        );
        assert_eq!(machine.docker(&["images", "-aq"]).ok(), "");
    });
}

#[test]
fn no_registry_at_all_says_what_to_do() {
    scenario(|machine| {
        // Nothing answers to this name in the machine's namespace, which has no way out.
        let out = machine.berth(&["run", "--rm", "registry.invalid/ubuntu", "true"]);
        out.exits(125).says(&["registry.invalid"]);
        let out = machine.berth(&["pull", "ubuntu:no-mirror-has-it"]);
        out.exits(1).says(&["berth image bootstrap"]);
    });
}

#[test]
fn commands_and_flags_that_are_not_there() {
    scenario(|machine| {
        check(machine, &["frobnicate"], 1, &["frobnicate"]);
        check(
            machine,
            &["run", "--no-such-flag", "busybox"],
            125,
            &["--no-such-flag"],
        );
        machine.berth(&["run"]).exits(1);
        machine.berth(&["stop"]).exits(1);
    });
}

#[test]
fn containers_that_are_not_there() {
    scenario(|machine| {
        for verb in [
            "start", "stop", "kill", "rm", "logs", "attach", "wait", "inspect",
        ] {
            machine
                .berth(&[verb, "nobody"])
                .exits(1)
                .says(&["nobody"])
                .is_one_clear_line();
        }
        // Several names: those that exist are dealt with, the others are told.
        machine
            .berth(&["create", "--name", "one", "busybox", "true"])
            .ok();
        let out = machine.berth(&["rm", "nobody", "one"]);
        out.exits(1).says(&["nobody"]);
        assert_eq!(out.stdout.trim(), "one");
        assert!(machine.containers().is_empty());
    });
}

#[test]
fn settings_that_make_no_sense() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        for (flags, said) in [
            (&["--memory", "nonsense"][..], "nonsense"),
            (&["--memory", "1k"], "memory"),
            (&["--cpus=-1"], "cpu"),
            (&["--cpus", "10000"], "cpu"),
            (&["-v", "relative/path:/x:badmode"], "badmode"),
            (&["--network", "no-such-network"], "no-such-network"),
            (&["--ulimit", "nofile=10:5"], "ulimit"),
            (&["-w", "relative"], "absolute"),
            (&["--security-opt", "nonsense=1"], "nonsense"),
            (&["--name=-bad"], "name"),
            (&["-e", "=x"], "="),
            (&["-p", "99999:80"], "99999"),
            (&["--stop-signal", "NOPE"], "NOPE"),
        ] {
            let args = [&["run", "--rm"], flags, &["busybox", "true"]].concat();
            machine
                .berth(&args)
                .exits(125)
                .says(&[said])
                .is_one_clear_line();
        }
        // docker's client takes any "no such file or directory" for the command's.
        let args = ["run", "--rm", "--device", "/dev/no-such", "busybox", "true"];
        machine
            .berth(&args)
            .exits(127)
            .says(&["/dev/no-such"])
            .is_one_clear_line();
        assert!(machine.containers().is_empty(), "nothing is left half-made");
    });
}

#[test]
fn no_permission_on_the_socket() {
    scenario(|machine| {
        let mut command = command::limited(20, "setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(e2e::bootstrap::berth())
            .args([
                "--host",
                &format!("unix://{}", machine.socket().display()),
                "ps",
            ]);
        let copy = machine.path("berth-copy");
        fs::copy(e2e::bootstrap::berth(), &copy).unwrap();
        // The roots of the test are root's alone: let the user as far as the socket itself.
        std::process::Command::new("chmod")
            .arg("755")
            .arg(machine.path(""))
            .status()
            .unwrap();
        std::process::Command::new("chmod")
            .arg("755")
            .arg(&copy)
            .arg(machine.exec_root())
            .status()
            .unwrap();
        let mut command = command::limited(20, "setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&copy)
            .args([
                "--host",
                &format!("unix://{}", machine.socket().display()),
                "ps",
            ]);
        let out = command::run(command, b"");
        out.exits(1)
            .says(&["permission denied", "berth.sock"])
            .is_one_clear_line();
    });
}

#[test]
fn no_daemon_where_one_was_named() {
    scenario(|machine| {
        let host = format!("unix://{}", machine.path("nowhere.sock").display());
        let out = machine.berth(&["--host", &host, "ps"]);
        out.exits(1).says(&["nowhere.sock"]).is_one_clear_line();
        assert!(
            !machine.path("nowhere.sock").exists(),
            "a named daemon is never started"
        );
        let mut command = machine.berth_command(&["ps"]);
        command
            .env("BERTH_HOST", "tcp://127.0.0.1:1")
            .env("DOCKER_HOST", "tcp://127.0.0.1:1");
        command::run(command, b"")
            .exits(1)
            .says(&["127.0.0.1:1"])
            .is_one_clear_line();
    });
}

#[test]
fn a_second_daemon_on_the_same_roots_is_refused() {
    scenario(|machine| {
        let out = command::run(machine.daemon_command(), b"");
        assert_ne!(out.code, 0);
        out.says(&["another daemon uses"]).is_one_clear_line();
        machine.berth(&["ps"]).ok();
    });
}

#[test]
fn no_space() {
    scenario(|machine| {
        // A small file system of its own below the data root, in the daemon's mount namespace.
        machine.stop_daemon();
        let data = machine.data_root();
        machine.namespace.shell(&format!(
            "mount -t tmpfs -o size=12m small {}",
            data.display()
        ));
        machine.start_daemon();
        let out = machine.berth(&["pull", "127.0.0.1:5000/test/big"]);
        out.exits(1).says(&["no space left"]).is_one_clear_line();
        assert_eq!(machine.docker(&["images", "-aq"]).ok(), "");
        // What the failed pull wrote is given back: a small image fits.
        assert_eq!(
            machine
                .berth(&["run", "--rm", "busybox", "echo", "fits"])
                .ok(),
            "fits"
        );
        machine.stop_daemon();
        machine
            .namespace
            .shell(&format!("umount {}", data.display()));
        machine.start_daemon();
    });
}

#[test]
fn both_clients_get_the_same_codes() {
    scenario(|machine| {
        for args in [
            &["rm", "nobody"][..],
            &["run", "--rm", "busybox:nope", "true"],
            &["run", "--rm", "busybox", "nope"],
            &["logs", "nobody"],
            &["exec", "nobody", "true"],
            &["stop", "nobody"],
            &["rmi", "nothing-here"],
            &["inspect", "nobody"],
        ] {
            let ours = machine.client(Client::Berth, args);
            let theirs = machine.client(Client::Docker, args);
            assert_eq!(
                ours.code, theirs.code,
                "{args:?}: {} / {}",
                ours.stderr, theirs.stderr
            );
        }
    });
}
