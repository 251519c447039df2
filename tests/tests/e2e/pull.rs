//! Pull: every form of image, authentication, broken connections, bad content, sharing.

use std::fs;
use std::process::{Command, Stdio};

use e2e::machine::{Client, Machine};
use e2e::registry::{Options, Registry, copy_storage, spoil_blob};
use e2e::{bootstrap, layout, proxy, scenario, tree, wait_until};

#[test]
fn every_form_of_image() {
    scenario(|machine| {
        for (image, extra) in [
            ("library/busybox", ""),
            ("test/zstd", ""),
            ("test/plain", ""),
            ("docker/schema2", ""),
            ("test/index", "amd64"),
            ("docker/list", "amd64"),
        ] {
            let image = format!("127.0.0.1:5000/{image}");
            let script = "cat /platform 2>/dev/null; busybox true && echo runs";
            for client in Client::ALL {
                let out = machine.client(client, &["run", "--rm", &image, "sh", "-c", script]);
                assert_eq!(out.ok(), format!("{extra}runs"), "{image}");
            }
        }
    });
}

#[test]
fn references_of_every_shape() {
    scenario(|machine| {
        let pulled = machine.docker(&["pull", "busybox"]);
        let digest = pulled
            .ok()
            .lines()
            .find_map(|line| line.strip_prefix("Digest: "))
            .unwrap();
        for name in [
            "busybox".to_owned(),
            "busybox:latest".to_owned(),
            "docker.io/library/busybox".to_owned(),
            format!("busybox@{digest}"),
            format!("busybox:latest@{digest}"),
            "127.0.0.1:5000/library/busybox:latest".to_owned(),
            format!("127.0.0.1:5000/library/busybox@{digest}"),
        ] {
            machine.berth(&["pull", &name]).ok();
            assert_eq!(
                machine.berth(&["run", "--rm", &name, "echo", "ok"]).ok(),
                "ok",
                "{name}"
            );
        }
        let ids = machine.docker(&["images", "-q", "--no-trunc"]);
        let mut ids: Vec<&str> = ids.ok().lines().collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 1, "all names are one image");
    });
}

#[test]
fn another_platform_is_pulled_when_asked_for() {
    scenario(|machine| {
        let image = "127.0.0.1:5000/test/index";
        machine
            .berth(&["pull", "--platform", "linux/arm64", image])
            .ok();
        let inspected = machine.berth(&["image", "inspect", image]);
        assert!(inspected.ok().contains("arm64"));
        machine
            .berth(&["pull", "--platform", "linux/riscv64", image])
            .exits(1)
            .says(&["riscv64"]);
    });
}

#[test]
fn trees_equal_umocis_attribute_by_attribute() {
    // The same layers as gzip, zstd and bare tars must make the same tree.
    for image in ["test/layers", "test/layers-zstd", "test/layers-plain"] {
        scenario(|machine| {
            let name = format!("127.0.0.1:5000/{image}");
            let flags = ["run", "-d", "--name", "box", "--network", "none", &name];
            machine
                .berth(&[&flags[..], &["sleep", "1000"]].concat())
                .ok();
            let pid = machine.inspect("box")["State"]["Pid"].as_u64().unwrap();
            compare(machine, "test/layers:latest", pid);
        });
    }
}

#[test]
fn a_real_debian_equals_umocis() {
    scenario(|machine| {
        machine
            .berth(&[
                "run",
                "-d",
                "--name",
                "box",
                "--network",
                "none",
                "ubuntu",
                "sleep",
                "1000",
            ])
            .ok();
        let pid = machine.inspect("box")["State"]["Pid"].as_u64().unwrap();
        compare(machine, "library/ubuntu:latest", pid);
    });
}

/// Compares the root of process `pid` with umoci's unpacking of the same image.
fn compare(machine: &Machine, tag: &str, pid: u64) {
    let bundle = machine.path("umoci");
    let out = Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:{tag}", bootstrap::cache().layout.display()))
        .arg(&bundle)
        .output()
        .expect("umoci is installed");
    assert!(
        out.status.success(),
        "umoci: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    // What a container's start itself puts over the image.
    let skipped = [
        "proc",
        "sys",
        "dev",
        ".dockerenv",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/mtab",
    ];
    let expected = tree::read(&bundle.join("rootfs"), &skipped);
    let actual = tree::read(std::path::Path::new(&format!("/proc/{pid}/root")), &skipped);
    assert!(expected.len() > 10);
    let mut differences = tree::differences(&expected, &actual);
    // Mount points made in /etc change its time, as they do under docker.
    differences.retain(|line| !line.starts_with("etc\n"));
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

#[test]
fn basic_authentication() {
    scenario(|machine| {
        let _private = Registry::start(
            &machine.namespace,
            &machine.path("registry"),
            Options {
                storage: &bootstrap::cache().registry,
                port: 5001,
                read_only: true,
                basic_auth: true,
            },
        );
        let image = "127.0.0.1:5001/library/busybox";
        for client in Client::ALL {
            let refused = machine.client(client, &["pull", image]);
            assert_ne!(refused.code, 0);
            let said = refused.stderr.to_lowercase();
            assert!(
                said.contains("no basic auth")
                    || said.contains("unauthorized")
                    || said.contains("denied"),
                "{said}"
            );
        }
        let config = machine.path("docker-config/config.json");
        let write = |auth: &str| {
            fs::write(
                &config,
                format!(r#"{{"auths":{{"127.0.0.1:5001":{{"auth":"{auth}"}}}}}}"#),
            )
            .unwrap();
        };
        write("dGVzdGVyOndyb25n");
        machine.berth(&["pull", image]).exits(1);
        write("dGVzdGVyOnNlY3JldA==");
        for client in Client::ALL {
            machine.client(client, &["pull", image]).ok();
            machine.client(client, &["rmi", image]).ok();
        }
        // The same through a credential helper.
        let helper = machine.path("docker-credential-e2e");
        fs::write(&helper, "#!/bin/sh\ncat >/dev/null\necho '{\"ServerURL\":\"127.0.0.1:5001\",\"Username\":\"tester\",\"Secret\":\"secret\"}'\n").unwrap();
        Command::new("chmod")
            .arg("755")
            .arg(&helper)
            .status()
            .unwrap();
        fs::write(&config, r#"{"credHelpers":{"127.0.0.1:5001":"e2e"}}"#).unwrap();
        let mut command = machine.berth_command(&["pull", image]);
        let path = format!(
            "{}:{}",
            helper.parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        command.env("PATH", path);
        e2e::command::run(command, b"").ok();
        assert!(
            !machine.daemon_log().contains("secret"),
            "no password reaches the log"
        );
    });
}

/// Starts a registry on port 5001 whose copy of `test/big` has one layer changed.
fn spoiled(machine: &Machine, change: impl FnOnce(&mut Vec<u8>)) -> Registry {
    let storage = machine.path("spoiled");
    copy_storage(&bootstrap::cache().registry, &storage);
    let digest = &layout::layer_digests(&bootstrap::cache().layout, "test/big:latest")[2];
    spoil_blob(&storage, digest, change);
    let options = Options {
        storage: &storage,
        port: 5001,
        read_only: true,
        basic_auth: false,
    };
    Registry::start(&machine.namespace, &machine.path("registry"), options)
}

/// Nothing of a failed pull may be left: no image, no layer that claims to be whole.
fn nothing_half_made(machine: &Machine) {
    assert_eq!(machine.docker(&["images", "-aq"]).ok(), "");
}

#[test]
fn a_wrong_digest_is_refused() {
    scenario(|machine| {
        let _registry = spoiled(machine, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        for client in Client::ALL {
            let out = machine.client(client, &["pull", "127.0.0.1:5001/test/big"]);
            assert_ne!(out.code, 0);
            out.says(&["digest"]).is_one_clear_line();
        }
        nothing_half_made(machine);
        // The registry heals; so does the image.
        machine.berth(&["pull", "127.0.0.1:5000/test/big"]).ok();
    });
}

#[test]
fn a_truncated_layer_is_refused() {
    scenario(|machine| {
        let _registry = spoiled(machine, |bytes| bytes.truncate(bytes.len() - 1000));
        let out = machine.berth(&["pull", "127.0.0.1:5001/test/big"]);
        out.exits(1).is_one_clear_line();
        nothing_half_made(machine);
    });
}

#[test]
fn a_broken_connection_resumes() {
    scenario(|machine| {
        let behaviour = proxy::start(&machine.namespace, 5002);
        behaviour.break_connections(3, 1_000_000);
        machine.berth(&["pull", "127.0.0.1:5002/test/big"]).ok();
        assert!(
            behaviour.count("ange: bytes=") >= 1,
            "{:?}",
            behaviour.requests.lock().unwrap()
        );
        let out = machine.berth(&[
            "run",
            "--rm",
            "127.0.0.1:5002/test/big",
            "sh",
            "-c",
            "cat /noise-* | wc -c",
        ]);
        assert_eq!(out.ok(), "12582912");
    });
}

#[test]
fn a_connection_that_always_breaks_is_given_up() {
    scenario(|machine| {
        let behaviour = proxy::start(&machine.namespace, 5002);
        behaviour.break_connections(100_000, 3000);
        let out = machine.berth(&["pull", "127.0.0.1:5002/test/big"]);
        out.exits(1).is_one_clear_line();
        nothing_half_made(machine);
        // What had arrived is used by the next try.
        behaviour.break_connections(0, u64::MAX);
        machine.berth(&["pull", "127.0.0.1:5002/test/big"]).ok();
    });
}

#[test]
fn two_simultaneous_pulls_share_the_work() {
    scenario(|machine| {
        let behaviour = proxy::start(&machine.namespace, 5002);
        behaviour
            .stalled
            .store(true, std::sync::atomic::Ordering::SeqCst);
        let pulls: Vec<_> = Client::ALL
            .iter()
            .chain(&Client::ALL)
            .map(|&client| {
                machine
                    .client_command(client, &["pull", "127.0.0.1:5002/test/big"])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        e2e::wait::pause(std::time::Duration::from_millis(500));
        behaviour
            .stalled
            .store(false, std::sync::atomic::Ordering::SeqCst);
        for pull in pulls {
            let out = pull.wait_with_output().unwrap();
            assert!(
                out.status.success(),
                "{}",
                String::from_utf8_lossy(&out.stderr)
            );
        }
        for digest in layout::layer_digests(&bootstrap::cache().layout, "test/big:latest") {
            assert_eq!(
                behaviour.count(&format!("GET /v2/test/big/blobs/{digest}")),
                1,
                "{digest}"
            );
        }
    });
}

#[test]
fn a_cancelled_pull_stops_and_leaves_nothing() {
    scenario(|machine| {
        let behaviour = proxy::start(&machine.namespace, 5002);
        let mut pull = machine
            .berth_command(&["pull", "127.0.0.1:5002/test/big"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("layers are asked for", || {
            (behaviour.count("/blobs/") > 1).then_some(())
        });
        behaviour
            .stalled
            .store(true, std::sync::atomic::Ordering::SeqCst);
        e2e::machine::signal(pull.id(), "INT");
        pull.wait().unwrap();
        behaviour
            .stalled
            .store(false, std::sync::atomic::Ordering::SeqCst);
        e2e::wait::pause(std::time::Duration::from_millis(300));
        nothing_half_made(machine);
        machine.berth(&["pull", "127.0.0.1:5002/test/big"]).ok();
    });
}

#[test]
fn progress_is_drawn_on_a_terminal_and_plain_without() {
    scenario(|machine| {
        let out = machine.berth(&["pull", "127.0.0.1:5000/test/big"]);
        let text = format!("{}{}", out.ok(), out.stderr);
        assert!(
            !text.contains('\x1b'),
            "no escape sequences without a terminal: {text:?}"
        );
        assert!(text.contains("Digest: sha256:"), "{text}");
        assert!(text.contains("127.0.0.1:5000/test/big:latest"), "{text}");
        machine.berth(&["rmi", "127.0.0.1:5000/test/big"]).ok();
        let mut terminal = machine.terminal(Client::Berth, &["pull", "127.0.0.1:5000/test/big"]);
        terminal.expect("127.0.0.1:5000/test/big:latest");
        assert_eq!(terminal.exit(), 0);
        assert!(
            terminal.screen().contains('\x1b'),
            "bars are drawn: {:?}",
            terminal.screen()
        );
    });
}

#[test]
fn hostile_layers_stay_inside_or_are_refused() {
    scenario(|machine| {
        let victim = std::path::Path::new("/tmp/berth-victim");
        fs::write(victim, "must stay").unwrap();
        for name in [
            "dotdot",
            "absolute-link",
            "relative-link",
            "hardlink",
            "hardlink-through-link",
            "absolute-path",
            "whiteout-through-link",
            "whiteout-dotdot",
            "device",
            "bomb",
        ] {
            let image = format!("127.0.0.1:5000/hostile/{name}");
            let out = machine.berth(&["pull", &image]);
            for escaped in ["/tmp/berth-escaped", "/tmp/berth-absolute"] {
                assert!(
                    !std::path::Path::new(escaped).exists(),
                    "{name} wrote {escaped}"
                );
            }
            assert!(victim.exists(), "{name} removed a file of the host");
            if out.code == 0 {
                let script =
                    "cat /passwd 2>/dev/null | grep -c root:; head -c 1 /disk 2>/dev/null | wc -c";
                let out = machine.berth(&["run", "--rm", &image, "sh", "-c", script]);
                assert_eq!(out.ok(), "0\n0", "{name}: nothing of the host is inside");
                assert!(
                    !matches!(name, "dotdot" | "hardlink" | "bomb"),
                    "{name} must be refused"
                );
                machine.berth(&["rmi", &image]).ok();
            } else {
                out.is_one_clear_line();
            }
        }
        fs::remove_file(victim).unwrap();
        nothing_half_made(machine);
    });
}
