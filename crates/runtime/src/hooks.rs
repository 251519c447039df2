//! The hooks of an OCI document: programs to run at set moments, with the state on their stdin.

use std::{
    io::{self, Read as _, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use oci_spec::runtime::Hook;
use serde::{Deserialize, Serialize};

use crate::launch::{LaunchError, Stage};

/// What the container's first process must know of hooks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct HookPlan {
    /// The runtime has hooks to run when the namespaces exist; wait for it.
    pub(crate) runtime: bool,
    /// Run inside, before the root is changed.
    pub(crate) create_container: Vec<Hook>,
    /// Run inside, before the program.
    pub(crate) start_container: Vec<Hook>,
    /// The container's state, as JSON.
    pub(crate) state: String,
}

/// A hook without a timeout gets this long: a hung one must not hang the caller for ever.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// Runs hooks one after the other; the first failure ends it.
pub(crate) fn run(name: &str, hooks: &[Hook], state: &str) -> Result<(), LaunchError> {
    hooks.iter().enumerate().try_for_each(|(index, hook)| {
        run_one(hook, state).map_err(|reason| {
            let path = hook.path().display();
            LaunchError::new(
                Stage::Hook,
                format!("error running {name} hook #{index} {path}: {reason}"),
            )
        })
    })
}

fn run_one(hook: &Hook, state: &str) -> Result<(), String> {
    let mut child = spawn(hook).map_err(|error| error.to_string())?;
    let timeout = hook
        .timeout()
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its input.
        drop(stdin.write_all(state.as_bytes()));
    }
    match wait(&mut child, timeout) {
        Ok(true) => {}
        Ok(false) => {
            drop(child.kill());
            drop(child.wait());
            return Err(format!("timed out after {} seconds", timeout.as_secs()));
        }
        Err(error) => return Err(error.to_string()),
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        drop(stderr.by_ref().take(4096).read_to_string(&mut text));
    }
    Err(format!("{status}, stderr: {}", text.trim()))
}

fn spawn(hook: &Hook) -> io::Result<Child> {
    let mut command = Command::new(hook.path());
    if let Some(args) = hook.args() {
        let mut args = args.iter();
        if let Some(name) = args.next() {
            std::os::unix::process::CommandExt::arg0(&mut command, name);
        }
        command.args(args);
    }
    command.env_clear();
    for (key, value) in hook
        .env()
        .iter()
        .flatten()
        .filter_map(|pair| pair.split_once('='))
    {
        command.env(key, value);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}

/// Whether the child ended in time.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<bool> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let mut fds = [rustix::event::PollFd::new(
        &pidfd,
        rustix::event::PollFlags::IN,
    )];
    let timeout = rustix::event::Timespec::try_from(timeout).map_err(io::Error::other)?;
    Ok(rustix::event::poll(&mut fds, Some(&timeout))? > 0)
}
