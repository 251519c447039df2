//! Adding a process to a running container.

use std::os::fd::BorrowedFd;

use crate::{
    blank::{Running, Stdio},
    cgroup::Cgroup,
    launch::{ExecRequest, LaunchError, Stage},
};

/// The container that the process joins.
#[derive(Debug, Clone, Copy)]
pub struct ExecTarget<'a> {
    /// Its init process, as the caller sees it.
    pub pid: i32,
    /// A descriptor of its init process.
    pub pidfd: BorrowedFd<'a>,
    /// Its cgroup.
    pub cgroup: Option<&'a Cgroup>,
}

/// Starts a process in the namespaces, cgroups and root of `target`, as a child of the caller.
pub fn exec_process(
    _target: &ExecTarget<'_>,
    _request: &ExecRequest,
    _stdio: Stdio<'_>,
) -> Result<Running, LaunchError> {
    Err(LaunchError::new(Stage::Namespaces, "not there yet"))
}
