//! Starts a daemon for the first command, so that no set-up comes before it.
//!
//! The daemon gets a session of its own and a log file; a lock keeps two commands from starting
//! two. The client waits until the socket answers or the daemon has ended.

use crate::failure::Failure;
use client::{Client, Host};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The hidden role that becomes the daemon: only a child can leave its session.
pub(crate) const ROLE: &str = "daemon-detached";

const EXEC_ROOT: &str = "/run/berth";
const LOG: &str = "/run/berth/daemon.log";
/// A first start may build its state and sweep; more is a hang.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(10);
/// How much of the log's end is shown when the daemon does not come up.
const LOG_TAIL_LINES: usize = 5;

/// Says whether this user could start a daemon.
pub(crate) fn is_allowed() -> bool {
    rustix::process::geteuid().is_root()
}

/// Starts the daemon and waits until it answers; says so in one line.
///
/// # Errors
/// It does not start, or does not answer in time.
pub(crate) fn start(host: &Host) -> Result<(), Failure> {
    let _lock = lock().map_err(|error| failed(&format!("lock {EXEC_ROOT}: {error}")))?;
    if Client::new(host.clone()).connect().is_ok() {
        return Ok(());
    }
    let mut daemon = spawn().map_err(|error| failed(&error.to_string()))?;
    let process = Pid::from_child(&daemon);
    let watch = pidfd_open(process, PidfdFlags::empty())
        .map_err(|error| failed(&format!("watch it: {error}")))?;
    let deadline = Instant::now() + PATIENCE;
    while Client::new(host.clone()).connect().is_err() {
        if let Ok(Some(status)) = daemon.try_wait() {
            return Err(failed(&format!("it ended with {status}{}", log_tail())));
        }
        if Instant::now() > deadline {
            give_up(&mut daemon);
            return Err(failed(&format!(
                "no answer within {} s{}",
                PATIENCE.as_secs(),
                log_tail()
            )));
        }
        pause(&watch);
    }
    // A closed stderr is no reason not to go on.
    writeln!(
        io::stderr(),
        "berth: started the daemon (pid {}, log {LOG})",
        daemon.id()
    )
    .ok();
    Ok(())
}

fn failed(why: &str) -> Failure {
    Failure::new(format!("cannot start the daemon: {why}"))
        .with_code(125)
        .with_hint("run `berth daemon` in another terminal to see what it says")
}

/// Held while a daemon comes up; the kernel lets go of it however we end.
fn lock() -> io::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(EXEC_ROOT)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(Path::new(EXEC_ROOT).join("autostart.lock"))?;
    file.lock()?;
    Ok(file)
}

fn spawn() -> io::Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(LOG)?;
    Command::new(std::env::current_exe()?)
        .arg(ROLE)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// The hidden role: leaves the user's session and becomes the daemon, under the same process ID.
pub(crate) fn become_daemon() -> ExitCode {
    let error = rustix::process::setsid()
        .map_err(io::Error::from)
        .and_then(|_| std::env::current_exe())
        .map_or_else(|error| error, |exe| Command::new(exe).arg("daemon").exec());
    writeln!(io::stderr(), "start the daemon: {error}").ok();
    ExitCode::FAILURE
}

/// Sleeps until the daemon ends or it is time to try again.
fn pause(daemon: &OwnedFd) {
    let timeout = Timespec::try_from(POLL_EVERY).ok();
    // An early return only means an early try.
    poll(&mut [PollFd::new(daemon, PollFlags::IN)], timeout.as_ref()).ok();
}

fn give_up(daemon: &mut Child) {
    // It may have ended by itself just now.
    daemon.kill().ok();
    daemon.wait().ok();
}

fn log_tail() -> String {
    let text = std::fs::read_to_string(LOG).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_TAIL_LINES);
    lines[from..]
        .iter()
        .map(|line| format!("\n  {line}"))
        .collect()
}
