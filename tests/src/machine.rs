//! One test's little machine: namespaces, roots, a registry, a daemon, and clients to drive it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::api::{self, Response};
use crate::bootstrap;
use crate::command::{self, Output};
use crate::leak;
use crate::namespace::Namespace;
use crate::registry::{Options, Registry};
use crate::terminal::Terminal;
use crate::wait::{wait_until, wait_within};

/// Seconds a client may take before it is killed.
const CLIENT_LIMIT: u32 = 60;

/// The port of the registry that serves the fixtures, as mirror and by its own name.
pub const REGISTRY: &str = "127.0.0.1:5000";

/// The machine. Its parts are public: a test may stop the daemon or start another registry.
#[derive(Debug)]
pub struct Machine {
    /// A short name that is in every path, cgroup and environment of this machine.
    pub name: String,
    /// Its network and mount namespaces.
    pub namespace: Namespace,
    root: TempDir,
    daemon: Option<Child>,
    extra_flags: Vec<String>,
    registry: Option<Registry>,
}

/// Runs a test on a new machine with the fixtures' registry and a daemon, and looks for leaks.
pub fn scenario(run: impl FnOnce(&mut Machine)) {
    scenario_with(&[], run);
}

/// [`scenario`] with further flags for the daemon.
pub fn scenario_with(flags: &[&str], run: impl FnOnce(&mut Machine)) {
    if !rustix::process::geteuid().is_root() {
        crate::skip("needs root to make namespaces");
        return;
    }
    let mut machine = Machine::new();
    machine.extra_flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        machine.start_registry();
        machine.start_daemon();
        run(&mut machine);
        machine.finish();
    }));
    if let Err(panic) = outcome {
        machine.print_daemon_log();
        machine.force_clean();
        resume_unwind(panic);
    }
}

impl Machine {
    /// Namespaces and empty roots; nothing runs yet.
    pub fn new() -> Self {
        // A short path: a shim's socket has a container's 64-digit ID in its own, and a socket
        // path has at most 107 bytes.
        let root = tempfile::Builder::new()
            .prefix("bt-")
            .rand_bytes(6)
            .tempdir_in("/tmp")
            .unwrap();
        let name = root
            .path()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let namespace = Namespace::new(&name);
        fs::create_dir(root.path().join("docker-config")).unwrap();
        Self {
            name,
            namespace,
            root,
            daemon: None,
            extra_flags: Vec::new(),
            registry: None,
        }
    }

    /// The directory that holds everything of this machine.
    pub fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// The daemon's data root.
    pub fn data_root(&self) -> PathBuf {
        self.path("data")
    }

    /// The daemon's execution root.
    pub fn exec_root(&self) -> PathBuf {
        self.path("run")
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.exec_root().join("berth.sock")
    }

    /// The cgroup that every container of this machine is below.
    pub fn cgroup_parent(&self) -> String {
        format!("/berth-test-{}", self.name)
    }

    /// The machine's bridge.
    pub fn bridge(&self) -> String {
        self.name.replace("bt-", "bt")
    }

    /// Starts the registry that serves the fixtures.
    pub fn start_registry(&mut self) {
        let options = Options {
            storage: &bootstrap::cache().registry,
            port: 5000,
            read_only: true,
            basic_auth: false,
        };
        self.registry = Some(Registry::start(
            &self.namespace,
            &self.path("registry"),
            options,
        ));
    }

    /// The daemon's command line, for tests that start one themselves.
    pub fn daemon_command(&self) -> Command {
        let mut command = self.namespace.command("setpriv");
        command
            // The test's thread is its parent: a test that dies takes its daemon along.
            .args(["--pdeathsig", "KILL"])
            .arg(bootstrap::berth())
            .arg("daemon")
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--exec-root")
            .arg(self.exec_root())
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .args([
                "--cgroup-parent",
                &self.cgroup_parent(),
                "--bridge",
                &self.bridge(),
            ])
            .args(["--registry-mirror", &format!("http://{REGISTRY}")])
            .args(&self.extra_flags)
            .stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("daemon.log"))
            .unwrap();
        let mut child = self
            .daemon_command()
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let socket = self.socket();
        wait_until("the daemon answers", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the daemon ended with {status}\n{}", self.daemon_log());
            }
            api::request(&socket, "GET", "/_ping", "").filter(|answer| answer.status == 200)
        });
        self.daemon = Some(child);
    }

    /// The daemon's process ID (`nsenter` and `setpriv` have become it).
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// Kills the daemon the hard way.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Ends the daemon politely.
    pub fn stop_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        signal(daemon.id(), "TERM");
        let status = wait_within(Duration::from_secs(15), || daemon.try_wait().unwrap());
        if status.is_none() {
            let _gone = daemon.kill();
            let _status = daemon.wait();
            panic!(
                "the daemon did not end within 15 s of SIGTERM\n{}",
                self.daemon_log()
            );
        }
    }

    /// What the daemon wrote.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// One request to the daemon's API.
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, body: &str) -> Response {
        api::request(&self.socket(), method, path, body)
            .unwrap_or_else(|| panic!("{method} {path}: no answer\n{}", self.daemon_log()))
    }

    /// A `berth` client command against this machine's daemon, not yet run.
    pub fn berth_command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        self.client_command(Client::Berth, args)
    }

    /// A client command against this machine's daemon, not yet run.
    pub fn client_command(&self, client: Client, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = command::limited(CLIENT_LIMIT, &client.program().to_string_lossy());
        let host = format!("unix://{}", self.socket().display());
        command
            .args(args)
            .current_dir(self.root.path())
            .env("DOCKER_HOST", &host)
            .env("BERTH_HOST", &host)
            .env("DOCKER_CONFIG", self.path("docker-config"))
            .env("HOME", self.root.path())
            .env("DOCKER_CLI_HINTS", "false")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("RUST_BACKTRACE")
            .env(crate::namespace::MARKER, &self.name);
        command
    }

    /// Runs `berth` with `args` to its end.
    pub fn berth(&self, args: &[&str]) -> Output {
        command::run(self.berth_command(args), b"")
    }

    /// Runs `berth` with `args` and `input` on its standard input.
    pub fn berth_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        command::run(self.berth_command(args), input)
    }

    /// Runs the official client with `args` to its end.
    pub fn docker(&self, args: &[&str]) -> Output {
        command::run(self.client_command(Client::Docker, args), b"")
    }

    /// Runs either client.
    pub fn client(&self, client: Client, args: &[&str]) -> Output {
        command::run(self.client_command(client, args), b"")
    }

    /// Starts a client on a terminal of its own.
    pub fn terminal(&self, client: Client, args: &[&str]) -> Terminal {
        Terminal::spawn(&self.client_command(client, args))
    }

    /// `inspect` of one container, by the API.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        let answer = self.api("GET", &format!("/containers/{container}/json"), "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// Waits until a container's `State.Status` is `status`.
    #[track_caller]
    pub fn wait_for_status(&self, container: &str, status: &str) {
        wait_until(&format!("{container} becomes {status}"), || {
            let answer = self.api("GET", &format!("/containers/{container}/json"), "");
            (answer.status == 200 && answer.json()["State"]["Status"] == status).then_some(())
        });
    }

    /// The names and IDs of all containers there are.
    pub fn containers(&self) -> Vec<String> {
        let answer = self.api("GET", "/containers/json?all=1", "");
        let list = answer.json();
        list.as_array()
            .unwrap()
            .iter()
            .map(|c| c["Id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Ends everything the polite way and asserts that nothing is left.
    pub fn finish(&mut self) {
        if self.daemon.is_some() {
            for id in self.containers() {
                let answer = self.api("DELETE", &format!("/containers/{id}?force=1&v=1"), "");
                assert!(
                    matches!(answer.status, 204 | 404 | 409),
                    "rm {id}: {}",
                    answer.body
                );
            }
            wait_until("every container is gone", || {
                self.containers().is_empty().then_some(())
            });
            self.stop_daemon();
        }
        self.registry = None;
        // What has been told to end may need a moment to be gone.
        let clean = wait_within(Duration::from_secs(5), || {
            leak::find(self).is_empty().then_some(())
        });
        if clean.is_none() {
            let report = leak::find(self);
            panic!(
                "the test left something behind:\n{}",
                leak::describe(&report)
            );
        }
        leak::remove_cgroups(self);
    }

    /// Ends everything the hard way, after a failure.
    pub fn force_clean(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _gone = daemon.kill();
            let _status = daemon.wait();
        }
        self.registry = None;
        leak::force_clean(self);
    }

    fn print_daemon_log(&self) {
        let log = self.daemon_log();
        let tail: Vec<&str> = log.lines().rev().take(60).collect();
        eprintln!("--- the end of the daemon's log");
        for line in tail.iter().rev() {
            eprintln!("{line}");
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

/// Which client drives the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Ours.
    Berth,
    /// The official command, as found on the machine.
    Docker,
}

impl Client {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Berth, Self::Docker];

    fn program(self) -> PathBuf {
        match self {
            Self::Berth => bootstrap::berth().to_path_buf(),
            Self::Docker => docker().to_path_buf(),
        }
    }
}

/// The official client's path; its version is printed once.
fn docker() -> &'static Path {
    static DOCKER: OnceLock<PathBuf> = OnceLock::new();
    DOCKER.get_or_init(|| {
        let version = Command::new("docker")
            .arg("--version")
            .output()
            .expect("the official docker command is installed (Debian's docker.io has one)");
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        crate::note(&format!("official client: {}", version.trim()));
        "docker".into()
    })
}

/// The official client's major version.
pub fn docker_major() -> u32 {
    let version = Command::new(docker()).arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    text.trim_start_matches("Docker version ")
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .unwrap_or_else(|| panic!("no version in {text:?}"))
}

/// Sends a signal by the shell's name for it.
pub fn signal(pid: u32, name: &str) {
    let _gone = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
}
