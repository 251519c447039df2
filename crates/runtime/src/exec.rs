//! Adding a process to a running container.
//!
//! The new process is a child of the caller, in all namespaces of the container's init process,
//! in its root and its cgroup. It is subject to the same last steps as the first process.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use model::trace::Actor;
use rustix::{
    fs::{Mode, OFlags, open},
    net::sockopt::{Timeout, set_socket_timeout},
    process::DumpableBehavior,
};
use sys::namespace::Namespaces;

use crate::{
    blank::{Running, Stdio, adjust_oom_score, cgroup_failure, failure_in, in_pid_namespace},
    cgroup::Cgroup,
    channel::{Channel, Kind},
    failure::Context as _,
    init::{self, Program, Streams},
    launch::{ExecRequest, LaunchError, Stage},
    plan::{ProcessPlan, exec_plan},
    recorder::Recorder,
};

/// How long the new process may take from one message to the next.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// Starts a process in the namespaces, cgroup and root of `target`, as a child of the caller.
///
/// # Errors
/// Refuses a calling process with more than one thread.
pub fn exec_process(
    target: &ExecTarget<'_>,
    request: &ExecRequest,
    stdio: Stdio<'_>,
) -> Result<Running, LaunchError> {
    exec_preserving(target, request, stdio, 0)
}

pub(crate) fn exec_preserving(
    target: &ExecTarget<'_>,
    request: &ExecRequest,
    stdio: Stdio<'_>,
    preserve_fds: u32,
) -> Result<Running, LaunchError> {
    let mut recorder = Recorder::new(request.trace);
    let mut plan = exec_plan(request, preserve_fds)?;
    match stdio {
        Stdio::Fds(_) => plan.terminal = None,
        Stdio::Terminal => plan.terminal = plan.terminal.or(Some((0, 0))),
    }
    let start = recorder.start();
    let place = Place::of(target)?;
    let into = match target.cgroup {
        Some(cgroup) => cgroup.clone_target().map_err(cgroup_failure)?,
        None => None,
    };
    let (ours, theirs) = Channel::pair().at(Stage::Channel, "socketpair")?;
    let (mut ours, mut theirs) = (Some(ours), Some(theirs));
    let join = into.is_none();
    let forked = in_pid_namespace(place.pid_namespace.as_fd(), || {
        sys::process::fork(Namespaces::NONE, into, || {
            drop(ours.take());
            theirs.take().map_or(125, |channel| {
                child(channel, &place, target, &plan, request, stdio)
            })
        })
    })?;
    recorder.end(start, Actor::Kernel, "clone", None);
    // Ours alone would keep the channel open past the execution.
    drop(theirs.take());
    let channel = ours
        .take()
        .ok_or_else(|| LaunchError::new(Stage::Channel, "no channel"))?;
    let result = settle(channel, forked.pid, target, &plan, join, recorder);
    match result {
        Ok((console, steps)) => Ok(Running {
            pid: forked.pid,
            pidfd: forked.pidfd,
            mount_namespace: None,
            console,
            cgroup: None,
            steps,
        }),
        Err(error) => {
            drop(sys::process::pidfd_signal(forked.pidfd.as_fd(), 9));
            drop(sys::process::wait_pidfd(forked.pidfd.as_fd()));
            Err(error)
        }
    }
}

/// Descriptors of where the container is, opened before anything is joined.
struct Place {
    pid_namespace: OwnedFd,
    namespaces: Namespaces,
    root: OwnedFd,
}

impl Place {
    fn of(target: &ExecTarget<'_>) -> Result<Self, LaunchError> {
        let pid = target.pid;
        let gone = || format!("container process {pid}");
        let path = |name: &str| format!("/proc/{pid}/{name}");
        let flags = OFlags::CLOEXEC;
        let pid_namespace = open(path("ns/pid"), flags | OFlags::RDONLY, Mode::empty())
            .at(Stage::Namespaces, gone())?;
        let root = open(path("root"), flags | OFlags::PATH, Mode::empty())
            .at(Stage::Namespaces, gone())?;
        let mut namespaces = Namespaces::MOUNT
            | Namespaces::UTS
            | Namespaces::IPC
            | Namespaces::NET
            | Namespaces::CGROUP;
        let identity = |path: &str| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
        let theirs = identity(&path("ns/user")).at(Stage::Namespaces, gone())?;
        // The kernel refuses to join the user namespace that one is in.
        if identity("/proc/self/ns/user").at(Stage::Namespaces, "own namespace")? != theirs {
            namespaces |= Namespaces::USER;
        }
        // Only now is it known that the number meant this process: a pidfd cannot be reused.
        sys::process::pidfd_signal(target.pidfd, 0).at(Stage::Namespaces, gone())?;
        Ok(Self {
            pid_namespace,
            namespaces,
            root,
        })
    }
}

/// The parent's side: what only it may do, then word to go on, then the outcome.
fn settle(
    mut channel: Channel,
    pid: i32,
    target: &ExecTarget<'_>,
    plan: &ProcessPlan,
    join: bool,
    mut recorder: Recorder,
) -> Result<(Option<OwnedFd>, Vec<model::trace::Step>), LaunchError> {
    let start = recorder.start();
    if let (true, Some(cgroup)) = (join, target.cgroup) {
        cgroup.join(pid).map_err(cgroup_failure)?;
    }
    recorder.end(start, Actor::Kernel, "join cgroup", None);
    adjust_oom_score(pid, plan.oom_score_adj)?;
    // Processes inside can stop this one before it executes, and must not stop the caller by that.
    set_socket_timeout(&channel, Timeout::Recv, Some(PATIENCE))
        .at(Stage::Channel, "setting a time limit")?;
    // A process that is gone says so when asked for its last words.
    drop(channel.send(Kind::Start, &[], &[]));
    let mut console = None;
    let start = recorder.start();
    loop {
        match channel
            .receive()
            .at(Stage::Channel, "hearing from the process")?
        {
            Some(message) if message.kind == Kind::Ready => {
                recorder.extend(serde_json::from_slice(&message.body).unwrap_or_default());
                console = message.fds.into_iter().next();
            }
            Some(message) => return Err(failure_in(&message)),
            None => break,
        }
    }
    recorder.end(start, Actor::Kernel, "execve", None);
    Ok((console, recorder.into_steps()))
}

/// The child's side; returns only to end the process.
fn child(
    mut channel: Channel,
    place: &Place,
    target: &ExecTarget<'_>,
    plan: &ProcessPlan,
    request: &ExecRequest,
    stdio: Stdio<'_>,
) -> i32 {
    // From the moment it is in their pid namespace others inside could look at it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
    let error = match enter(&mut channel, place, target, plan, request, stdio) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    init::report(&channel, &error)
}

fn enter(
    channel: &mut Channel,
    place: &Place,
    target: &ExecTarget<'_>,
    plan: &ProcessPlan,
    request: &ExecRequest,
    stdio: Stdio<'_>,
) -> Result<std::convert::Infallible, LaunchError> {
    let mut recorder = Recorder::new(request.trace);
    let start = recorder.start();
    init::labels(plan)?;
    sys::namespace::join(target.pidfd, place.namespaces)
        .at(Stage::Namespaces, "joining the container's namespaces")?;
    if place.namespaces.contains(Namespaces::USER) {
        init::become_root().at(Stage::Namespaces, "root of the user namespace")?;
    }
    // Joining a mount namespace leads to its root; the container may have been chrooted further.
    rustix::process::fchdir(&place.root)
        .and_then(|()| rustix::process::chroot("."))
        .at(Stage::Rootfs, "the container's root")?;
    recorder.end(start, Actor::Kernel, "join namespaces", None);
    let start = recorder.start();
    let streams = match stdio {
        Stdio::Fds(fds) => Streams::Given(copies(fds).at(Stage::Settings, "standard streams")?),
        Stdio::Terminal => Streams::Terminal(init::terminal_here(place.root.as_fd())?),
    };
    // Before anything of the container's own runs in it, it must be under its limits.
    init::expect(channel, Kind::Start)?;
    init::own_keyring();
    let program = Program::prepare(plan, place.root.as_fd(), streams, request.seccomp.clone())?;
    recorder.end(start, Actor::Container, "user, limits, program", None);
    init::ready(channel, recorder, program.console())?;
    program.execute(channel)
}

/// Copies numbered above the standard streams, so that placing one cannot overwrite another.
fn copies(fds: [BorrowedFd<'_>; 3]) -> io::Result<[OwnedFd; 3]> {
    let copy = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    Ok([copy(fds[0])?, copy(fds[1])?, copy(fds[2])?])
}
