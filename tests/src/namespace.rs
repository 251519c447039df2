//! A pair of namespaces, network and mount, held open by a waiting process.
//!
//! The holder waits on its standard input, so it ends with the test process whatever happens.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Environment variable that marks every process a test starts; leaks are found by it.
pub const MARKER: &str = "BERTH_TEST_MACHINE";

/// Network and mount namespaces of one test (or of the "outside world" of one).
#[derive(Debug)]
pub struct Namespace {
    holder: Option<Child>,
    pid: u32,
    marker: String,
}

impl Namespace {
    /// Makes both namespaces, with loopback up and no propagation to the host's mounts.
    pub fn new(marker: &str) -> Self {
        let mut holder = Command::new("unshare")
            .args(["--mount", "--net", "--propagation", "private", "--"])
            .args(["sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .env(MARKER, marker)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux's unshare is installed");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(
            line, "ready\n",
            "unshare failed: are the tests run by root?"
        );
        Self {
            pid: holder.id(),
            holder: Some(holder),
            marker: marker.to_owned(),
        }
    }

    /// The namespaces that the calling process is in already.
    pub fn current() -> Self {
        Self {
            holder: None,
            pid: std::process::id(),
            marker: String::new(),
        }
    }

    /// The process that holds the namespaces.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A command that runs inside, marked as this test's.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.pid().to_string(),
                "--mount",
                "--net",
                "--",
                program,
            ])
            .env(MARKER, &self.marker);
        command
    }

    /// Runs a shell script inside and returns its standard output; panics when it fails.
    pub fn shell(&self, script: &str) -> String {
        let out = self.command("sh").args(["-ec", script]).output().unwrap();
        assert!(
            out.status.success(),
            "in the namespace: {script}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Moves the calling thread into the network namespace, for as long as the thread lives.
    pub fn enter_network(&self) {
        let file = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            drop(holder.stdin.take());
            let _gone = holder.kill();
            let _status = holder.wait();
        }
    }
}
