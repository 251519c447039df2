//! Every verb of a container's life, with both clients on one daemon.

use e2e::machine::Client;
use e2e::{scenario, wait_until};

#[test]
fn create_start_stop_restart_remove() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        for client in Client::ALL {
            let run = |args: &[&str]| machine.client(client, args).ok().to_owned();
            let id = run(&["create", "--name", "box", "busybox", "sleep", "1000"]);
            assert_eq!(machine.inspect("box")["State"]["Status"], "created");
            assert_eq!(run(&["start", "box"]), "box");
            assert_eq!(machine.inspect("box")["State"]["Status"], "running");
            let pid = machine.inspect("box")["State"]["Pid"].as_u64().unwrap();
            assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
            run(&["start", "box"]); // already so: no error
            run(&["stop", "-t", "0", "box"]);
            assert_eq!(machine.inspect("box")["State"]["Status"], "exited");
            run(&["stop", "box"]);
            run(&["restart", "-t", "0", "box"]);
            assert_ne!(
                machine.inspect("box")["State"]["Pid"].as_u64().unwrap(),
                pid
            );
            machine
                .client(client, &["rm", "box"])
                .exits(1)
                .says(&["box", "running"]);
            run(&["rm", "-f", "box"]);
            assert_eq!(
                machine
                    .api("GET", &format!("/containers/{id}/json"), "")
                    .status,
                404
            );
        }
    });
}

#[test]
fn kill_sends_the_signal_asked_for() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        for client in Client::ALL {
            let script = "trap 'echo got hup' HUP; echo ready; while :; do sleep 0.05; done";
            machine
                .client(
                    client,
                    &["run", "-d", "--name", "box", "busybox", "sh", "-c", script],
                )
                .ok();
            let logged = |text: &str| {
                wait_until(text, || {
                    machine
                        .client(client, &["logs", "box"])
                        .stdout
                        .contains(text)
                        .then_some(())
                });
            };
            logged("ready");
            machine.client(client, &["kill", "-s", "HUP", "box"]).ok();
            logged("got hup");
            assert_eq!(machine.inspect("box")["State"]["Running"], true);
            machine.client(client, &["kill", "box"]).ok();
            machine.wait_for_status("box", "exited");
            assert_eq!(machine.inspect("box")["State"]["ExitCode"], 137);
            machine
                .client(client, &["kill", "box"])
                .exits(1)
                .says(&["not running"]);
            machine
                .client(client, &["kill", "-s", "NOSUCH", "box"])
                .exits(1);
            machine.client(client, &["rm", "box"]).ok();
        }
    });
}

#[test]
fn stop_escalates_after_its_time() {
    scenario(|machine| {
        for client in Client::ALL {
            machine
                .berth(&[
                    "run",
                    "-d",
                    "--name",
                    "box",
                    "busybox",
                    "sh",
                    "-c",
                    "trap '' TERM; echo up; while :; do sleep 1; done",
                ])
                .ok();
            wait_until("its trap is set", || {
                machine
                    .berth(&["logs", "box"])
                    .stdout
                    .contains("up")
                    .then_some(())
            });
            let started = std::time::Instant::now();
            machine.client(client, &["stop", "-t", "1", "box"]).ok();
            let took = started.elapsed().as_millis();
            assert!((900..6000).contains(&took), "{took} ms");
            assert_eq!(machine.inspect("box")["State"]["ExitCode"], 137);
            machine.berth(&["rm", "box"]).ok();
        }
    });
}

#[test]
fn exec_runs_beside() {
    scenario(|machine| {
        machine
            .berth(&[
                "run", "-d", "--name", "box", "-e", "FROM=run", "busybox", "sleep", "1000",
            ])
            .ok();
        for client in Client::ALL {
            let run = |args: &[&str]| machine.client(client, args);
            assert_eq!(run(&["exec", "box", "echo", "hi"]).ok(), "hi");
            run(&["exec", "box", "sh", "-c", "exit 12"]).exits(12);
            assert_eq!(
                run(&["exec", "-e", "A=1", "box", "sh", "-c", "echo $FROM $A"]).ok(),
                "run 1"
            );
            assert_eq!(
                run(&[
                    "exec",
                    "-u",
                    "alice",
                    "-w",
                    "/tmp",
                    "box",
                    "sh",
                    "-c",
                    "id -un; pwd"
                ])
                .ok(),
                "alice\n/tmp"
            );
            let out = run(&["exec", "box", "sh", "-c", "echo out; echo err >&2"]);
            assert_eq!(
                (out.stdout.as_str(), out.stderr.as_str()),
                ("out\n", "err\n")
            );
            let status = "grep -E '^(CapEff|Seccomp):' /proc/self/status | cut -f 2 | tr '\\n' ' '";
            assert_eq!(
                run(&["exec", "box", "sh", "-c", status]).ok(),
                "00000000a80425fb 2 "
            );
            let command = machine.client_command(client, &["exec", "-i", "box", "cat"]);
            assert_eq!(
                e2e::command::run(command, b"through stdin").ok(),
                "through stdin"
            );
            run(&["exec", "box", "no-such"]).exits(127);
            run(&["exec", "box", "/etc/passwd"]).exits(126);
            run(&["exec", "nobody", "true"])
                .exits(1)
                .says(&["no such container"]);
            // A detached one goes on by itself.
            run(&["exec", "-d", "box", "sh", "-c", "echo done >/tmp/detached"]).ok();
            wait_until("the detached exec ran", || {
                (run(&["exec", "box", "cat", "/tmp/detached"]).stdout == "done\n").then_some(())
            });
            run(&["exec", "box", "rm", "/tmp/detached"]).ok();
        }
        machine.berth(&["stop", "-t", "0", "box"]).ok();
        machine
            .berth(&["exec", "box", "true"])
            .exits(1)
            .says(&["not running"]);
    });
}

#[test]
fn exec_lives_in_the_same_namespaces_and_cgroup() {
    scenario(|machine| {
        machine
            .berth(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
            .ok();
        let namespaces = "for n in mnt pid uts ipc net cgroup; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done";
        assert_eq!(
            machine.berth(&["exec", "box", "sh", "-c", namespaces]).ok(),
            ""
        );
        assert_eq!(
            machine
                .berth(&[
                    "exec",
                    "box",
                    "sh",
                    "-c",
                    "cut -d : -f 3 /proc/self/cgroup | sort -u"
                ])
                .ok(),
            "/"
        );
        assert_eq!(machine.berth(&["top", "box"]).ok().lines().count(), 2);
        assert_eq!(machine.docker(&["top", "box"]).ok().lines().count(), 2);
    });
}

#[test]
fn lists_and_inspections() {
    scenario(|machine| {
        machine
            .berth(&["run", "-d", "--name", "up", "busybox", "sleep", "1000"])
            .ok();
        machine
            .berth(&["run", "--name", "down", "busybox", "sh", "-c", "exit 3"])
            .exits(3);
        for client in Client::ALL {
            let ps = machine.client(client, &["ps"]).ok().to_owned();
            assert!(
                ps.contains("up") && ps.contains("busybox") && !ps.contains("down"),
                "{ps}"
            );
            let all = machine.client(client, &["ps", "-a"]).ok().to_owned();
            assert!(all.contains("Exited (3)") && all.contains("Up "), "{all}");
            assert_eq!(machine.client(client, &["ps", "-q"]).ok().len(), 12);
            let inspected = machine.client(client, &["inspect", "up"]);
            let json: serde_json::Value = serde_json::from_str(inspected.ok()).unwrap();
            assert_eq!(json[0]["Name"], "/up");
            assert_eq!(
                json[0]["HostConfig"]["NetworkMode"]
                    .as_str()
                    .map(|m| m == "default" || m == "bridge"),
                Some(true)
            );
            let images = machine.client(client, &["images"]).ok().to_owned();
            assert!(
                images.contains("busybox") && images.contains("latest"),
                "{images}"
            );
            machine
                .client(client, &["inspect", "nobody"])
                .exits(1)
                .says(&["nobody"]);
            let info = machine.client(client, &["info"]).ok().to_owned();
            assert!(info.contains("Containers: 2"), "{info}");
            let version = machine.client(client, &["version"]).ok().to_owned();
            assert!(
                version.contains("API version") || version.contains("API Version"),
                "{version}"
            );
        }
    });
}

#[test]
fn images_are_removed_unless_in_use() {
    scenario(|machine| {
        for client in Client::ALL {
            machine
                .berth(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
                .ok();
            machine
                .client(client, &["rmi", "busybox"])
                .exits(1)
                .says(&["conflict", "using"]);
            machine.berth(&["rm", "-f", "box"]).ok();
            let removed = machine.client(client, &["rmi", "busybox"]);
            assert!(
                removed.ok().contains("Untagged: busybox:latest"),
                "{}",
                removed.stdout
            );
            assert!(
                removed.stdout.contains("Deleted: sha256:"),
                "{}",
                removed.stdout
            );
            assert_eq!(machine.client(client, &["images", "-q"]).ok(), "");
            machine
                .client(client, &["rmi", "busybox"])
                .exits(1)
                .says(&["no such image"]);
        }
        wait_until("layers and blobs are gone from the disk", || {
            let data = machine.data_root();
            let script = format!(
                "find {0}/layers {0}/content -type f | head -1",
                data.display()
            );
            machine.namespace.shell(&script).is_empty().then_some(())
        });
    });
}

#[test]
fn rm_removes_on_exit_even_when_nobody_is_attached() {
    scenario(|machine| {
        machine
            .berth(&[
                "run", "-d", "--rm", "--name", "box", "busybox", "sleep", "0.2",
            ])
            .ok();
        wait_until("it is gone", || {
            machine.containers().is_empty().then_some(())
        });
        machine.berth(&["run", "--rm", "busybox", "true"]).ok();
        assert!(
            machine.containers().is_empty(),
            "gone before the client ends"
        );
    });
}

#[test]
fn wait_answers_all_who_wait() {
    scenario(|machine| {
        let id = machine
            .berth(&["run", "-d", "busybox", "sh", "-c", "sleep 1; exit 44"])
            .ok()
            .to_owned();
        std::thread::scope(|scope| {
            for client in [Client::Berth, Client::Docker, Client::Berth] {
                let (machine, id) = (&*machine, id.as_str());
                scope.spawn(move || assert_eq!(machine.client(client, &["wait", id]).ok(), "44"));
            }
        });
        assert_eq!(
            machine.berth(&["wait", &id]).ok(),
            "44",
            "also when it is long over"
        );
        machine
            .berth(&["wait", "nobody"])
            .exits(1)
            .says(&["no such container"]);
    });
}

#[test]
fn many_at_once() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let machine = &*machine;
                scope.spawn(move || {
                    for round in 0..8 {
                        let word = format!("{thread}-{round}");
                        let out = machine.berth(&["run", "--rm", "busybox", "echo", &word]);
                        assert_eq!(out.ok(), word);
                    }
                });
            }
        });
        assert!(machine.containers().is_empty());
    });
}
