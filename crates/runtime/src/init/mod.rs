//! The container's first process, from its clone to its execve(2).
//!
//! ```text
//! wait ─ Fill ─> namespaces ─> mounts ─> devices ─> hooks? ─> masks ─> pivot ─> settings
//!      ─> user, search path ─ Ready ─> wait ─ Start ─> seccomp, capabilities ─> execve
//! ```
//!
//! This code runs alone in a forked process: no threads, no shared locks, no log. A failure goes
//! up the channel as a [`LaunchError`], and the process ends.
//!
//! Between here and execve the process is not dumpable, so that nothing inside can reach our
//! executable through `/proc/<pid>/exe` (CVE-2019-5736); `protect` guards the executable itself.

mod copy_up;
mod devices;
mod mounts;
mod program;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use model::trace::Actor;
use rustix::process::DumpableBehavior;
use sys::{
    mount::{AttributeChange, set_attributes},
    namespace::{Namespaces, unshare},
};

use crate::{
    channel::{Channel, Kind},
    failure::Context as _,
    hooks, in_root,
    launch::{LaunchError, Stage},
    options::attribute,
    plan::{Plan, Wait},
    recorder::Recorder,
};
pub(crate) use mounts::clone_tree;
pub(crate) use program::{Program, Streams};

/// Runs in the forked process until it executes the program; returns only to end the process.
pub(crate) fn run(mut channel: Channel, joins: &[(OwnedFd, Namespaces)]) -> i32 {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
    let error = match wait_for_plan(&mut channel) {
        Ok(Some((plan, seccomp, given))) => {
            match container(&mut channel, &plan, seccomp, given, joins) {
                Ok(never) => match never {},
                Err(error) => error,
            }
        }
        // The other end is gone: nobody wants this container any more.
        Ok(None) => return 0,
        Err(error) => error,
    };
    report(&channel, &error)
}

/// Sends the failure up; the exit status of the process follows.
pub(crate) fn report(channel: &Channel, error: &LaunchError) -> i32 {
    let body = serde_json::to_vec(error).unwrap_or_default();
    // Where nobody listens any more there is nobody to tell.
    drop(channel.send(Kind::Failed, &[&body], &[]));
    i32::from(error.exit_code)
}

/// Descriptors that come with the plan.
#[derive(Debug, Default)]
struct Given {
    stdio: Option<[OwnedFd; 3]>,
    network: Option<OwnedFd>,
    listener: Option<OwnedFd>,
}

type Received = (Plan, Option<Vec<u8>>, Given);

/// The body of a fill message: which descriptors follow, the plan's length, plan, seccomp program.
///
/// `given` says which there are: streams, network namespace, listener.
pub(crate) fn fill_header(given: [bool; 3], plan: usize) -> [u8; 5] {
    let [stdio, network, listener] = given.map(u8::from);
    let flags = stdio | network << 1 | listener << 2;
    let [a, b, c, d] = u32::try_from(plan).unwrap_or(u32::MAX).to_le_bytes();
    [flags, a, b, c, d]
}

fn wait_for_plan(channel: &mut Channel) -> Result<Option<Received>, LaunchError> {
    let Some(message) = channel.receive().at(Stage::Channel, "receiving the plan")? else {
        return Ok(None);
    };
    let broken = || LaunchError::new(Stage::Channel, "malformed plan");
    let ([flags, length @ ..], rest) = message.body.split_first_chunk::<5>().ok_or_else(broken)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| broken())?;
    let (plan, seccomp) = rest.split_at_checked(length).ok_or_else(broken)?;
    let plan = serde_json::from_slice(plan)
        .map_err(|error| LaunchError::new(Stage::Channel, error.to_string()))?;
    let mut fds = message.fds.into_iter();
    let mut next = || fds.next().ok_or_else(broken);
    let given = Given {
        stdio: if flags & 1 != 0 {
            Some([next()?, next()?, next()?])
        } else {
            None
        },
        network: if flags & 2 != 0 { Some(next()?) } else { None },
        listener: if flags & 4 != 0 { Some(next()?) } else { None },
    };
    let seccomp = (!seccomp.is_empty()).then(|| seccomp.to_vec());
    Ok(Some((plan, seccomp, given)))
}

fn container(
    channel: &mut Channel,
    plan: &Plan,
    seccomp: Option<Vec<u8>>,
    given: Given,
    joins: &[(OwnedFd, Namespaces)],
) -> Result<std::convert::Infallible, LaunchError> {
    let mut recorder = Recorder::new(plan.trace);
    rustix::process::umask(rustix::fs::Mode::empty());
    let start = recorder.start();
    namespaces(plan, &given, joins)?;
    recorder.end(start, Actor::Kernel, "namespaces", None);

    let start = recorder.start();
    let root = mounts::root(plan)?;
    recorder.end(start, Actor::Kernel, "mount root", None);
    let start = recorder.start();
    mounts::all(plan, root.as_fd())?;
    recorder.end(
        start,
        Actor::Kernel,
        "mounts",
        Some(plan.mounts.len().to_string()),
    );
    let start = recorder.start();
    devices::all(plan, root.as_fd())?;
    recorder.end(start, Actor::Kernel, "devices", None);
    let terminal = terminal(plan, root.as_fd())?;
    runtime_hooks(channel, plan)?;
    hooks::run(
        "createContainer",
        &plan.hooks.create_container,
        &plan.hooks.state,
    )?;

    let start = recorder.start();
    sysctls(plan, root.as_fd())?;
    mounts::read_only(root.as_fd(), &plan.read_only)?;
    mounts::mask(root.as_fd(), &plan.masked)?;
    recorder.end(start, Actor::Kernel, "masked and read-only paths", None);
    labels(&plan.process)?;
    let start = recorder.start();
    if plan.create_cwd {
        in_root::locate_or_create(&root, &plan.process.cwd, in_root::Create::Directory).at(
            Stage::Rootfs,
            format!("creating {}", plan.process.cwd.display()),
        )?;
    }
    enter(plan, root.as_fd())?;
    recorder.end(start, Actor::Kernel, "pivot root", None);

    let start = recorder.start();
    names(plan)?;
    own_keyring();
    let streams = match (terminal, given.stdio) {
        (Some(terminal), _) => Streams::Terminal(terminal),
        (None, Some(stdio)) => Streams::Given(stdio),
        (None, None) => Streams::Inherited,
    };
    let program = Program::prepare(&plan.process, root.as_fd(), streams, seccomp)?;
    hooks::run(
        "startContainer",
        &plan.hooks.start_container,
        &plan.hooks.state,
    )?;
    recorder.end(start, Actor::Container, "user, limits, program", None);
    ready(channel, recorder, program.console())?;
    wait_for_start(channel, plan.wait, given.listener)?;
    program.execute(channel)
}

/// Keeps our session's keys from the program.
pub(crate) fn own_keyring() {
    // A kernel without keyrings has none to keep apart.
    drop(sys::process::new_session_keyring());
}

/// Says that all is ready, and hands over the terminal's master.
pub(crate) fn ready(
    channel: &Channel,
    recorder: Recorder,
    console: Option<BorrowedFd<'_>>,
) -> Result<(), LaunchError> {
    let body = serde_json::to_vec(&recorder.into_steps()).unwrap_or_default();
    channel
        .send(Kind::Ready, &[&body], console.as_slice())
        .at(Stage::Channel, "reporting")
}

fn wait_for_start(
    channel: &mut Channel,
    wait: Wait,
    listener: Option<OwnedFd>,
) -> Result<(), LaunchError> {
    if let (Wait::Connection, Some(listener)) = (wait, listener) {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        let socket = loop {
            match rustix::net::accept_with(&listener, flags) {
                Err(rustix::io::Errno::INTR) => {}
                result => break result.at(Stage::Channel, "waiting for the start")?,
            }
        };
        *channel = Channel::new(socket);
    }
    expect(channel, Kind::Start)
}

pub(crate) fn expect(channel: &mut Channel, wanted: Kind) -> Result<(), LaunchError> {
    match channel
        .receive()
        .at(Stage::Channel, "waiting for the runtime")?
    {
        Some(message) if message.kind == wanted => Ok(()),
        Some(_) => Err(LaunchError::new(
            Stage::Channel,
            "the runtime said something unexpected",
        )),
        None => Err(LaunchError::new(Stage::Channel, "the runtime went away")),
    }
}

fn runtime_hooks(channel: &mut Channel, plan: &Plan) -> Result<(), LaunchError> {
    if !plan.hooks.runtime {
        return Ok(());
    }
    channel
        .send(Kind::Hooks, &[], &[])
        .at(Stage::Channel, "asking for hooks")?;
    expect(channel, Kind::Continue)
}

/// Leaves and joins what could not be settled at the clone.
fn namespaces(
    plan: &Plan,
    given: &Given,
    joins: &[(OwnedFd, Namespaces)],
) -> Result<(), LaunchError> {
    if plan.new_user_namespace {
        become_root().at(Stage::Namespaces, "root of the user namespace")?;
    }
    for (fd, kind) in joins {
        sys::namespace::join(fd.as_fd(), *kind).at(Stage::Namespaces, "joining a namespace")?;
    }
    let mut new = Namespaces::MOUNT;
    if let Some(network) = &given.network {
        sys::namespace::join(network.as_fd(), Namespaces::NET)
            .at(Stage::Namespaces, "joining the network namespace")?;
    } else if plan.new_network {
        new |= Namespaces::NET;
    }
    // Only now: the root of the new namespace is the cgroup that the process is in by then.
    if plan.new_cgroup_namespace {
        new |= Namespaces::CGROUP;
    }
    unshare(new).at(Stage::Namespaces, "unshare")?;
    if plan.new_network && given.network.is_none() {
        sys::link::loopback_up().at(Stage::Namespaces, "loopback")?;
    }
    propagation(plan).at(Stage::Mount, "mount propagation")
}

fn propagation(plan: &Plan) -> std::io::Result<()> {
    use crate::options::propagation::{PRIVATE, SHARED};
    let slash = rustix::fs::open(
        "/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let change = |propagation| AttributeChange {
        propagation,
        ..AttributeChange::default()
    };
    if plan.namespace_propagation != SHARED {
        set_attributes(&slash, &change(plan.namespace_propagation), true)?;
    }
    if plan.namespace_propagation != PRIVATE {
        // The new root is attached here, and must not appear on the host.
        set_attributes(&slash, &change(PRIVATE), false)?;
    }
    Ok(())
}

pub(crate) fn become_root() -> std::io::Result<()> {
    use rustix::{fs::Gid, fs::Uid, thread};
    // Where setgroups is denied there are no groups to lose.
    thread::set_thread_groups(&[]).ok();
    thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    // Changing ids made us dumpable by the kernel's rules for set-id.
    Ok(rustix::process::set_dumpable_behavior(
        DumpableBehavior::NotDumpable,
    )?)
}

fn terminal(plan: &Plan, root: BorrowedFd<'_>) -> Result<Option<(OwnedFd, OwnedFd)>, LaunchError> {
    if plan.process.terminal.is_none() {
        return Ok(None);
    }
    let (master, slave) = devices::open_terminal(root).at(Stage::Terminal, "opening a terminal")?;
    if !plan.foreign_dev {
        devices::console(root, slave.as_fd()).at(Stage::Terminal, "/dev/console")?;
    }
    Ok(Some((master, slave)))
}

/// Opens a terminal in the `/dev/pts` of the root that the process is in.
pub(crate) fn terminal_here(root: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd), LaunchError> {
    devices::open_terminal(root).at(Stage::Terminal, "opening a terminal")
}

/// Writes sysctls through a procfs that is verified to be one and cannot be mounted over.
fn sysctls(plan: &Plan, root: BorrowedFd<'_>) -> Result<(), LaunchError> {
    const PROC_MAGIC: i64 = 0x9fa0;
    if plan.sysctls.is_empty() {
        return Ok(());
    }
    let proc = in_root::locate_plain(root, Path::new("/proc")).at(Stage::Settings, "/proc")?;
    let found = rustix::fs::fstatfs(&proc)
        .at(Stage::Settings, "/proc")?
        .f_type;
    if found != PROC_MAGIC {
        return Err(LaunchError::new(Stage::Settings, "/proc is not a procfs"));
    }
    for (key, value) in &plan.sysctls {
        let path = format!("sys/{}", key.replace('.', "/"));
        let flags = rustix::fs::ResolveFlags::BENEATH
            | rustix::fs::ResolveFlags::NO_SYMLINKS
            | rustix::fs::ResolveFlags::NO_XDEV;
        let how = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::openat2(&proc, path, how, rustix::fs::Mode::empty(), flags)
            .and_then(|file| rustix::io::write(&file, value.as_bytes()))
            .at(Stage::Settings, format!("sysctl {key}={value}"))?;
    }
    Ok(())
}

/// Asks the security modules to label the program; through the host's procfs, before the pivot.
pub(crate) fn labels(process: &crate::plan::ProcessPlan) -> Result<(), LaunchError> {
    if let Some(profile) = &process.apparmor {
        let text = format!("exec {profile}");
        write_attribute("/proc/self/attr/apparmor/exec", &text)
            .or_else(|_| write_attribute("/proc/self/attr/exec", &text))
            .at(Stage::Identity, format!("AppArmor profile {profile}"))?;
    }
    if let Some(label) = &process.selinux {
        write_attribute("/proc/self/attr/exec", label)
            .at(Stage::Identity, format!("SELinux label {label}"))?;
    }
    Ok(())
}

fn write_attribute(path: &str, text: &str) -> std::io::Result<()> {
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    Ok(rustix::io::write(&file, text.as_bytes()).map(drop)?)
}

/// Makes the root the root, and lets go of the host's mounts.
fn enter(plan: &Plan, root: BorrowedFd<'_>) -> Result<(), LaunchError> {
    use rustix::mount::UnmountFlags;
    rustix::process::fchdir(root).at(Stage::Rootfs, "the new root")?;
    let pivoted = plan.pivot
        && match rustix::process::pivot_root(".", ".") {
            Ok(()) => true,
            // The root of an initramfs cannot be moved aside.
            Err(rustix::io::Errno::INVAL) => false,
            Err(error) => return Err(error).at(Stage::Rootfs, "pivot_root"),
        };
    if pivoted {
        // The old root lies on the new one now. Nothing of its end may reach the host.
        if plan.namespace_propagation != crate::options::propagation::PRIVATE {
            let slave = rustix::mount::MountPropagationFlags::DOWNSTREAM
                | rustix::mount::MountPropagationFlags::REC;
            rustix::mount::mount_change(".", slave).at(Stage::Rootfs, "the old root")?;
        }
        rustix::mount::unmount(".", UnmountFlags::DETACH).at(Stage::Rootfs, "the old root")?;
    } else {
        rustix::process::chroot(".").at(Stage::Rootfs, "chroot")?;
    }
    rustix::process::chdir("/").at(Stage::Rootfs, "/")?;
    let mut change = AttributeChange::default();
    if plan.root_read_only {
        change.set = attribute::RDONLY;
    }
    if !change.is_empty() {
        set_attributes(root, &change, false).at(Stage::Rootfs, "making the root read-only")?;
    }
    if let Some((propagation, recursive)) = plan.root_propagation {
        let change = AttributeChange {
            propagation,
            ..AttributeChange::default()
        };
        set_attributes(root, &change, recursive).at(Stage::Rootfs, "root propagation")?;
    }
    Ok(())
}

fn names(plan: &Plan) -> Result<(), LaunchError> {
    if let Some(hostname) = &plan.hostname {
        rustix::system::sethostname(hostname.as_bytes()).at(Stage::Settings, "host name")?;
    }
    if let Some(domainname) = &plan.domainname {
        rustix::system::setdomainname(domainname.as_bytes()).at(Stage::Settings, "domain name")?;
    }
    if let Some(domain) = plan.personality {
        sys::process::set_personality(domain).at(Stage::Settings, "personality")?;
    }
    Ok(())
}
