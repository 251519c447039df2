//! `berth runtime`: the OCI runtime command line, on a bundle by hand and under podman.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use e2e::command::{self, Output};
use e2e::leak::Kind;
use e2e::machine::Machine;
use e2e::{bootstrap, layout, wait_until};
use serde_json::{Value, json};

/// A machine without a daemon, and a bundle in it.
struct Bundle {
    machine: Machine,
}

impl Bundle {
    fn new(args: &[&str]) -> Self {
        let machine = Machine::new();
        let bundle = machine.path("bundle");
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        let digest =
            &layout::layer_digests(&bootstrap::cache().layout, "library/busybox:latest")[0];
        let blob = bootstrap::cache()
            .layout
            .join("blobs/sha256")
            .join(&digest[7..]);
        let status = Command::new("tar")
            .arg("-xzf")
            .arg(blob)
            .arg("-C")
            .arg(bundle.join("rootfs"))
            .status();
        assert!(status.unwrap().success());
        // crun writes a complete specification; ours must run it as it stands.
        let spec = Command::new("crun")
            .arg("spec")
            .current_dir(&bundle)
            .status();
        assert!(spec.expect("crun is installed").success());
        let bundle = Self { machine };
        bundle.edit(|config| {
            config["process"]["args"] = json!(args);
            config["process"]["terminal"] = json!(false);
            config["linux"]["cgroupsPath"] =
                json!(format!("{}/bundle", bundle.machine.cgroup_parent()));
        });
        bundle
    }

    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let file = self.machine.path("bundle/config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        change(&mut config);
        fs::write(file, serde_json::to_vec(&config).unwrap()).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.machine.namespace.command("timeout");
        command
            .args(["--kill-after=2", "30"])
            .arg(bootstrap::berth())
            .args(["runtime", "--root"])
            .arg(self.machine.path("state"))
            .args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        command::run(self.command(args), b"")
    }

    fn path(&self) -> String {
        self.machine.path("bundle").display().to_string()
    }

    fn state(&self) -> Value {
        serde_json::from_str(self.run(&["state", "box"]).ok()).unwrap()
    }
}

#[test]
fn step_by_step_on_a_bundle() {
    let mut bundle = Bundle::new(&["sh", "-c", "echo started >/started; sleep 1000"]);
    bundle.edit(|config| config["root"]["readonly"] = json!(false));
    let pid_file = bundle.machine.path("pid").display().to_string();
    // A created container keeps its caller's streams, so they must not be this test's pipes.
    let status = bundle
        .command(&[
            "create",
            "--bundle",
            &bundle.path(),
            "--pid-file",
            &pid_file,
            "box",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let state = bundle.state();
    assert_eq!(
        (&state["status"], &state["id"]),
        (&json!("created"), &json!("box"))
    );
    assert_eq!(
        fs::read_to_string(&pid_file).unwrap().trim(),
        state["pid"].to_string()
    );
    let started = bundle.machine.path("bundle/rootfs/started");
    assert!(!started.exists(), "create does not run the command");
    bundle.run(&["start", "box"]).ok();
    wait_until("the command runs", || started.exists().then_some(()));
    assert_eq!(bundle.state()["status"], "running");
    assert_eq!(
        bundle.run(&["exec", "box", "echo", "beside"]).ok(),
        "beside"
    );
    bundle.run(&["exec", "box", "sh", "-c", "exit 5"]).exits(5);
    assert_ne!(bundle.run(&["delete", "box"]).code, 0, "not while it runs");
    bundle.run(&["kill", "box", "KILL"]).ok();
    wait_until("it stops", || {
        (bundle.state()["status"] == "stopped").then_some(())
    });
    bundle.run(&["delete", "box"]).ok();
    assert_ne!(bundle.run(&["state", "box"]).code, 0);
    bundle.machine.finish();
}

#[test]
fn run_in_one_go() {
    let mut bundle = Bundle::new(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let out = bundle.run(&["run", "--bundle", &bundle.path(), "box"]);
    out.exits(7);
    assert_eq!(
        (out.stdout.as_str(), out.stderr.as_str()),
        ("out\n", "err\n")
    );
    bundle.machine.finish();
}

#[test]
fn delete_by_force_and_twice() {
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    let status = bundle
        .command(&["run", "--detach", "--bundle", &bundle.path(), "box"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let again = bundle.run(&["run", "--bundle", &bundle.path(), "box"]);
    assert_ne!(again.code, 0, "the ID is taken");
    bundle.run(&["delete", "--force", "box"]).ok();
    bundle.run(&["delete", "--force", "box"]).ok();
    bundle.machine.finish();
}

#[test]
fn features_are_told() {
    let mut bundle = Bundle::new(&["true"]);
    let features: Value = serde_json::from_str(bundle.run(&["features"]).ok()).unwrap();
    assert!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string());
    let namespaces = features["linux"]["namespaces"].as_array().unwrap();
    for kind in ["mount", "pid", "network", "uts", "ipc", "cgroup"] {
        assert!(namespaces.iter().any(|found| found == kind), "{kind}");
    }
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    bundle.machine.finish();
}

#[test]
fn bad_bundles_fail_clearly() {
    let mut bundle = Bundle::new(&["no-such-command"]);
    let out = bundle.run(&["run", "--bundle", &bundle.path(), "box"]);
    assert_ne!(out.code, 0);
    out.says(&["no-such-command"]);
    bundle.edit(|config| config["root"]["path"] = json!("nowhere"));
    assert_ne!(
        bundle.run(&["run", "--bundle", &bundle.path(), "box"]).code,
        0
    );
    fs::write(bundle.machine.path("bundle/config.json"), "{").unwrap();
    bundle
        .run(&["run", "--bundle", &bundle.path(), "box"])
        .says(&["config.json"]);
    assert_ne!(
        bundle
            .run(&["run", "--bundle", "/no/such/bundle", "box"])
            .code,
        0
    );
    assert_ne!(bundle.run(&["kill", "nobody", "KILL"]).code, 0);
    bundle.machine.finish();
}

#[test]
fn under_podman() {
    let mut machine = Machine::new();
    machine.start_registry();
    // podman knows a runtime by its path; a runtime that is one command of a program gets a script.
    let runtime: PathBuf = machine.path("berth-runtime");
    let script = format!(
        "#!/bin/sh\nexec {} runtime \"$@\"\n",
        bootstrap::berth().display()
    );
    fs::write(&runtime, script).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
    machine.namespace.shell("mount -t tmpfs tmpfs /run");
    let podman = |args: &[&str]| {
        let mut command = machine.namespace.command("timeout");
        command
            .args(["--kill-after=2", "60", "podman"])
            .arg("--root")
            .arg(machine.path("podman"))
            .arg("--runroot")
            .arg(machine.path("podman-run"))
            .arg("--tmpdir")
            .arg(machine.path("podman-tmp"))
            .args([
                "--cgroup-manager",
                "cgroupfs",
                "--events-backend",
                "none",
                "--runtime",
            ])
            .arg(&runtime)
            .args(args);
        command::run(command, b"")
    };
    // podman's own default limits need a capability that not every test machine has.
    let limits = [
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1024:1024",
    ];
    let parent = ["--cgroup-parent", &machine.cgroup_parent()];
    let run = |args: &[&str], command: &[&str]| {
        let image = ["127.0.0.1:5000/library/busybox"];
        let all = [
            &["run", "--network", "none", "--tls-verify=false"],
            &limits[..],
            &parent,
            args,
            &image,
            command,
        ]
        .concat();
        podman(&all)
    };
    assert_eq!(
        run(&["--rm"], &["echo", "through podman"]).ok(),
        "through podman"
    );
    run(&["--rm"], &["sh", "-c", "exit 11"]).exits(11);
    assert_eq!(
        run(&["--rm", "--read-only", "-u", "1000"], &["id", "-u"]).ok(),
        "1000"
    );
    run(&["-d", "--name", "box"], &["sleep", "1000"]).ok();
    assert_eq!(podman(&["exec", "box", "echo", "inside"]).ok(), "inside");
    podman(&["stop", "-t", "0", "box"]).ok();
    podman(&["rm", "box"]).ok();
    run(&["--rm"], &["no-such-command"]).exits(127);
    // podman's own monitors clean up for a while after its commands have ended, and leave a mount
    // and a cgroup.
    let root = machine.path("");
    let unmount = format!(
        "grep -o ' {}podman[^ ]*' /proc/self/mounts | sort -r | xargs -r umount -l || true",
        root.display()
    );
    wait_until("what podman leaves is gone", || {
        machine.namespace.shell(&unmount);
        e2e::leak::remove_cgroups(&machine);
        // The registry, a process, still runs.
        let left = e2e::leak::find(&machine);
        left.iter()
            .all(|leak| leak.kind == Kind::Process)
            .then_some(())
    });
    machine.finish();
}
