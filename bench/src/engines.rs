//! The engines under measurement, each with its own roots, and the stage they stand on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::namespace::Namespace;
use e2e::registry::{Options, Registry};
use e2e::wait::wait_within;
use serde_json::json;
use tempfile::TempDir;

use crate::cpu::{CpuGroup, CpuGroups};
use crate::image;

/// The registry's address; every engine takes loopback without TLS.
pub(crate) const REGISTRY: &str = "127.0.0.1:5000";

/// Roots, registry and root file system that all engines share.
#[derive(Debug)]
pub(crate) struct Bench {
    scratch: TempDir,
    groups: CpuGroups,
    _registry: Registry,
}

/// One engine, ready to run containers.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Its CPU group.
    pub(crate) group: CpuGroup,
    client: Vec<String>,
    root: PathBuf,
    daemon: Option<Child>,
}

/// With which network a container is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Net {
    None,
    Bridge,
}

impl Bench {
    /// Prepares the stage, inside the program's own namespaces.
    pub(crate) fn start() -> Self {
        // crun refuses a hybrid cgroup tree whose second version has controllers.
        shell(
            "ip link set lo up; mount -t tmpfs tmpfs /run; \
             ! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified",
        );
        let scratch = tempfile::Builder::new()
            .prefix("bb-")
            .tempdir_in("/tmp")
            .unwrap();
        let storage = scratch.path().join("storage");
        image::fill_registry(&storage);
        let namespace = Namespace::current();
        let registry = Registry::start(
            &namespace,
            &scratch.path().join("registry"),
            Options {
                storage: &storage,
                port: 5000,
                read_only: true,
                basic_auth: false,
            },
        );
        let bench = Self {
            scratch,
            groups: CpuGroups::new(),
            _registry: registry,
        };
        image::unpack_busybox(&bench.rootfs());
        bench
    }

    /// The plain root file system that the floor and crun use.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.scratch.path().join("rootfs")
    }

    /// A scratch directory.
    pub(crate) fn scratch(&self, below: &str) -> PathBuf {
        self.scratch.path().join(below)
    }

    /// Leaves every engine's CPU group.
    pub(crate) fn leave_groups(&self) {
        self.groups.leave();
    }

    /// Starts the engines asked for, or all; one that the machine lacks is named and left out.
    pub(crate) fn engines(&self, only: &[String]) -> Vec<Engine> {
        ["floor", "crun", "berth", "podman", "docker"]
            .into_iter()
            .filter(|name| only.is_empty() || only.iter().any(|wanted| wanted == name))
            .filter_map(|name| {
                let engine = self.engine(name);
                if engine.is_none() {
                    eprintln!("bench: {name} is not here, left out");
                }
                engine
            })
            .collect()
    }

    fn engine(&self, name: &'static str) -> Option<Engine> {
        let root = self.scratch.path().join(name);
        fs::create_dir_all(root.join("run")).unwrap();
        let group = self.groups.group(name);
        let path = |below: &str| root.join(below).display().to_string();
        let mut engine = Engine {
            name,
            group,
            client: Vec::new(),
            root: root.clone(),
            daemon: None,
        };
        match name {
            "floor" => {}
            "crun" => {
                installed("crun")?;
                self.write_bundle(&root, &engine.group.path);
            }
            "berth" => {
                let berth = berth().display().to_string();
                let host = format!("unix://{}", path("run/berth.sock"));
                engine.client = vec![berth.clone(), "--host".into(), host.clone()];
                engine.start_daemon(&[
                    &berth,
                    "daemon",
                    "--data-root",
                    &path("data"),
                    "--exec-root",
                    &path("run"),
                    "--host",
                    &host,
                    "--cgroup-parent",
                    &engine.group.path.clone(),
                    "--bridge",
                    "bbberth0",
                    "--bip",
                    "10.211.0.1/16",
                ]);
            }
            "docker" => {
                installed("dockerd")?;
                let host = format!("unix://{}", path("run/docker.sock"));
                engine.client = vec!["docker".into(), "-H".into(), host.clone()];
                engine.start_daemon(&[
                    "dockerd",
                    "--data-root",
                    &path("data"),
                    "--exec-root",
                    &path("run/exec"),
                    "--pidfile",
                    &path("run/pid"),
                    "--host",
                    &host,
                    "--cgroup-parent",
                    &engine.group.path.clone(),
                    "--bip",
                    "10.212.0.1/16",
                ]);
            }
            "podman" => {
                installed("podman")?;
                engine.client = [
                    "podman",
                    "--root",
                    &path("data"),
                    "--runroot",
                    &path("run"),
                    "--tmpdir",
                    &path("run/tmp"),
                    "--cgroup-manager",
                    "cgroupfs",
                    "--events-backend",
                    "none",
                    "--storage-driver",
                    "overlay",
                ]
                .map(str::to_owned)
                .to_vec();
            }
            _ => panic!("there is no engine {name}"),
        }
        engine.pull("library/busybox:latest");
        Some(engine)
    }

    fn write_bundle(&self, root: &Path, cgroup: &str) {
        let spec = Command::new("crun")
            .arg("spec")
            .current_dir(root)
            .status()
            .unwrap();
        assert!(spec.success());
        let file = root.join("config.json");
        let mut config: serde_json::Value =
            serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config["root"] = json!({"path": self.rootfs(), "readonly": true});
        config["process"]["args"] = json!(["true"]);
        config["process"]["terminal"] = json!(false);
        config["linux"]["cgroupsPath"] = json!(format!("{cgroup}/bench"));
        fs::write(file, serde_json::to_vec(&config).unwrap()).unwrap();
    }
}

impl Engine {
    /// Whether it pulls images and keeps containers, or only runs a process.
    pub(crate) fn is_engine(&self) -> bool {
        !self.client.is_empty()
    }

    /// The command that runs `true` in a new container; `None` where that network is not its job.
    pub(crate) fn run_true(&self, bench: &Bench, net: Net) -> Option<Command> {
        match self.name {
            "floor" => (net == Net::None).then(|| {
                let mut command = Command::new("unshare");
                command
                    .args(["-fmpiun", "chroot"])
                    .arg(bench.rootfs())
                    .arg("/bin/true");
                command
            }),
            "crun" => (net == Net::None).then(|| {
                let mut command = Command::new("crun");
                command
                    .args(["run", "--bundle"])
                    .arg(&self.root)
                    .arg("bench");
                command
            }),
            _ => {
                let network = if net == Net::None { "none" } else { "bridge" };
                let mut command = self.client(&["run", "--rm", "--network", network]);
                command.args(self.placement());
                command.args([&format!("{REGISTRY}/library/busybox:latest"), "true"]);
                Some(command)
            }
        }
    }

    /// Flags that place a container where its CPU time is counted.
    pub(crate) fn placement(&self) -> Vec<&str> {
        if self.name == "podman" {
            // Its default raises limits, which needs a capability that not every machine has.
            let limits = [
                "--ulimit",
                "nofile=1024:1024",
                "--ulimit",
                "nproc=1024:1024",
            ];
            [&["--cgroup-parent", self.group.path.as_str()][..], &limits].concat()
        } else {
            Vec::new()
        }
    }

    /// A client command.
    pub(crate) fn client(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.client[0]);
        command
            .args(&self.client[1..])
            .args(args)
            .env("DOCKER_CLI_HINTS", "false")
            .env("HOME", &self.root);
        command
    }

    /// Runs a client command to its end and returns what it printed.
    pub(crate) fn output(&self, args: &[&str]) -> String {
        let out = self.client(args).stdin(Stdio::null()).output().unwrap();
        assert!(
            out.status.success(),
            "{} {args:?}: {}",
            self.name,
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// Pulls an image of the local registry.
    pub(crate) fn pull(&self, image: &str) {
        if self.is_engine() {
            let image = format!("{REGISTRY}/{image}");
            let mut args = vec!["pull", "--quiet"];
            if self.name == "podman" {
                args.push("--tls-verify=false");
            }
            args.push(&image);
            self.output(&args);
        }
    }

    /// The daemon's process.
    pub(crate) fn daemon_pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    fn start_daemon(&mut self, command: &[&str]) {
        let log = fs::File::create(self.root.join("log")).unwrap();
        // The child starts where this program is: in the engine's group.
        self.group.enter();
        self.daemon = Some(
            Command::new(command[0])
                .args(&command[1..])
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap(),
        );
        let ready = wait_within(Duration::from_secs(30), || {
            let out = self
                .client(&["version"])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            out.status.success().then_some(())
        });
        assert!(
            ready.is_some(),
            "{} did not start:\n{}",
            self.name,
            fs::read_to_string(self.root.join("log")).unwrap_or_default()
        );
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _gone = Command::new("kill").arg(daemon.id().to_string()).status();
            let ended = wait_within(Duration::from_secs(20), || daemon.try_wait().ok().flatten());
            if ended.is_none() {
                let _gone = daemon.kill();
                let _status = daemon.wait();
            }
        }
        // Mounts that an engine keeps below its root go with the namespace; the files must too.
        let _none = Command::new("sh")
            .args([
                "-c",
                "grep -o \" $0[^ ]*\" /proc/self/mounts | sort -r | xargs -r umount -l",
            ])
            .arg(&self.root)
            .status();
    }
}

/// The release build of Berth, however this program itself was built.
pub(crate) fn berth() -> PathBuf {
    e2e::bootstrap::target_directory()
        .parent()
        .unwrap()
        .join("release/berth")
}

fn installed(program: &str) -> Option<()> {
    Command::new(program)
        .arg("--version")
        .output()
        .ok()
        .map(|_| ())
}

/// Runs a shell script; panics when it fails.
pub(crate) fn shell(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().unwrap();
    assert!(status.success(), "{script}");
}
