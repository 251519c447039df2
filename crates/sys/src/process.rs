//! Processes: making one in new namespaces, and what a process sets up before it executes.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr,
};

use crate::namespace::Namespaces;

/// `libc` has this constant in a type that is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A process made by [`fork`].
#[derive(Debug)]
pub struct Forked {
    /// Its id, as the caller sees it.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
}

/// Makes a process with its own copy of this one's memory, in new `namespaces`, optionally inside
/// a cgroup v2 directory from its first instruction. It runs `child` and exits with its result.
/// The directory's descriptor ends here in both: through it the host's files could be reached.
///
/// # Errors
/// Refuses a caller with more than one thread: the copy would hold the other threads' locks.
pub fn fork(
    namespaces: Namespaces,
    cgroup: Option<OwnedFd>,
    child: impl FnOnce() -> i32,
) -> io::Result<Forked> {
    if threads()? != 1 {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "this process has threads",
        ));
    }
    let mut pidfd: libc::c_int = -1;
    // SAFETY: `clone_args` is plain integers, for which zero is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces.bits() | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = &cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child has its own memory, and there is one thread, so no lock
    // is held by anyone who does not exist in the child.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(cgroup);
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            exit_now(status.unwrap_or(125))
        }
        pid => {
            // SAFETY: the kernel has stored a new descriptor here, which nobody else knows.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            Ok(Forked { pid, pidfd })
        }
    }
}

/// How many threads this process has.
fn threads() -> io::Result<u64> {
    let links = rustix::fs::stat("/proc/self/task")?.st_nlink;
    Ok(links.saturating_sub(2))
}

/// Ends the process at once: no destructors, no `atexit`, no flushing of what the parent buffered.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: has no precondition.
    unsafe { libc::_exit(status) }
}

/// Replaces the program. Returns only on failure.
pub fn exec(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays are null-terminated arrays of pointers to strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces the program with the open file `program`. Returns only on failure.
pub fn exec_fd(program: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: as in `exec`; the empty path with AT_EMPTY_PATH names the descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Marks every descriptor from `first` on to be closed by the next [`exec`].
///
/// Nothing is closed now, so owners of descriptors stay right.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: changes flags of descriptors only.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    check(done).map(drop)
}

/// Closes every descriptor from `first` on but `keep`, runs `last`, and ends the process with its
/// status. Those between the standard streams and `first` stay unless they are marked to be closed
/// at exec.
///
/// Marking is not enough before an [`exec`] whose path somebody else chose: the kernel looks the
/// path up, and a script's interpreter, before it closes what is marked. `/proc/self/fd` would lead
/// to whatever is still open. This does not return, so no owner of a closed descriptor meets its
/// number again.
pub fn close_all_and_end(
    first: u32,
    keep: BorrowedFd<'_>,
    last: impl FnOnce(io::Result<()>) -> i32,
) -> ! {
    let ending = || last(close_all(first, keep.as_raw_fd().cast_unsigned()));
    let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(ending));
    exit_now(status.unwrap_or(125))
}

fn close_all(first: u32, keep: u32) -> io::Result<()> {
    let close = |from: u32, to: u32| {
        if from > to {
            return Ok(());
        }
        // SAFETY: the process ends without another use of these numbers, see the only caller.
        check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) }).map(drop)
    };
    for number in 3..first.min(1 << 20) {
        // SAFETY: reads flags of a descriptor only.
        let flags = unsafe { libc::fcntl(number.cast_signed(), libc::F_GETFD) };
        if number != keep && flags != -1 && flags & libc::FD_CLOEXEC != 0 {
            close(number, number)?;
        }
    }
    if keep < first {
        return close(first, u32::MAX);
    }
    if keep > first {
        close(first, keep - 1)?;
    }
    close(keep + 1, u32::MAX)
}

/// Closes every descriptor from `first` on. For the very beginning of a program, before anything
/// of its own owns one of them: what is there then was inherited by mistake.
pub fn close_inherited_from(first: u32) -> io::Result<()> {
    // SAFETY: as the caller was told, no owner of these descriptors exists.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    check(done).map(drop)
}

/// Makes descriptor number `target` (0, 1 or 2) refer to what `source` does, and stay at exec.
pub fn set_stdio(source: impl AsFd, target: StdStream) -> io::Result<()> {
    let source = source.as_fd().as_raw_fd();
    // SAFETY: standard streams belong to the process, not to an `OwnedFd`.
    let done = unsafe { libc::dup2(source, target as libc::c_int) };
    check(done.into())?;
    if source == target as libc::c_int {
        // dup2 onto itself leaves close-on-exec as it was.
        // SAFETY: changes flags of a descriptor only.
        check(unsafe { libc::fcntl(source, libc::F_SETFD, 0) }.into())?;
    }
    Ok(())
}

/// A standard stream's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum StdStream {
    /// Standard input.
    In = 0,
    /// Standard output.
    Out = 1,
    /// Standard error.
    Err = 2,
}

/// Gives every signal its default action and blocks none, as a fresh program expects. For the time
/// between fork and exec only: the C library's own signals lose their handlers, too.
///
/// Rust ignores `SIGPIPE`, whoever started the daemon may have ignored others, and an ignored
/// signal stays so across exec.
pub fn reset_signals() -> io::Result<()> {
    // The kernel's `struct sigaction`, which is four words on every architecture: default action,
    // no flags, no mask. The C library's function would refuse its own signals, 32 and 33.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue; // cannot be changed
        }
        // SAFETY: `default` outlives the call, and the default action runs no code of ours.
        check(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                size_of::<u64>(), // bytes of a signal set
            )
        })?;
    }
    set_signal_mask(&[])
}

/// Blocks exactly `signals` for this thread.
pub fn set_signal_mask(signals: &[i32]) -> io::Result<()> {
    // SAFETY: a `sigset_t` is plain bits, for which zero is a value.
    let mut mask: libc::sigset_t = unsafe { std::mem::zeroed() };
    for &signal in signals {
        // SAFETY: `mask` is a valid set.
        check(unsafe { libc::sigaddset(&raw mut mask, signal) }.into())?;
    }
    // SAFETY: `mask` is a valid set that outlives the call.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, ptr::null_mut()) }.into())
        .map(drop)
}

/// Has the program that `command` starts begin with no signal blocked, whatever this thread blocks,
/// and, with `foreground`, with its process group in the foreground of the terminal at its standard
/// input, so that its first read or write there does not stop it.
pub fn unblock_signals_in(command: &mut std::process::Command, foreground: bool) {
    use std::os::unix::process::CommandExt as _;
    let prepare = move || {
        if foreground {
            // A group in the background is stopped by this signal for what follows.
            set_signal_mask(&[libc::SIGTTOU])?;
            // SAFETY: has no precondition.
            let group = unsafe { libc::getpgrp() };
            // A terminal that is not ours to control stays as it is.
            // SAFETY: takes integers only.
            unsafe { libc::tcsetpgrp(0, group) };
        }
        set_signal_mask(&[])
    };
    // SAFETY: the closure makes system calls only, which are async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// Waits for one of the blocked `signals` and returns its number.
pub fn wait_signal(signals: &[i32]) -> io::Result<i32> {
    // SAFETY: a `sigset_t` is plain bits, for which zero is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for &signal in signals {
        // SAFETY: `set` is a valid set.
        check(unsafe { libc::sigaddset(&raw mut set, signal) }.into())?;
    }
    // SAFETY: `set` is a valid set; a null `siginfo_t` is allowed.
    let signal = unsafe { libc::sigwaitinfo(&raw const set, ptr::null_mut()) };
    check(signal.into()).map(|_| signal)
}

/// Sends signal number `signal` to the process of a pidfd.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null `siginfo_t` is allowed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(done).map(drop)
}

/// Sends signal number `signal` to the process `pid` (or to every process, with -1).
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: has no precondition.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The exit code as shells and docker give it: 128 + signal for a killed process.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Waits for any child to end and reaps it; `None` when there is no child left.
pub fn wait_any(block: bool) -> io::Result<Option<(i32, Exit)>> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, if block { 0 } else { libc::WNOHANG }) };
    match pid {
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            error => Err(error),
        },
        0 => Ok(None),
        pid => Ok(Some((pid, decode(status)))),
    }
}

/// Waits for the child of a pidfd to end and reaps it.
pub fn wait_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<Exit> {
    loop {
        // SAFETY: a `siginfo_t` is plain data, for which zero is a value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = pidfd.as_raw_fd().cast_unsigned();
        // SAFETY: `info` outlives the call.
        let done = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED) };
        match check(done.into()) {
            Ok(_) => {
                // SAFETY: after a successful wait for an exit the status field is the valid one.
                let status = unsafe { info.si_status() };
                return Ok(if info.si_code == libc::CLD_EXITED {
                    Exit::Code(status)
                } else {
                    Exit::Signal(status)
                });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn decode(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

/// Replaces the session keyring by a new one, so that the parent's keys stay out of reach. It has no
/// name by which somebody else's could be found and joined instead.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    let no_name = ptr::null::<libc::c_char>();
    // SAFETY: a null name is allowed.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, no_name) };
    check(done).map(drop)
}

/// Sets the input/output class and priority of this process.
pub fn set_io_priority(class: u16, level: u16) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    let value = (libc::c_long::from(class) << 13) | libc::c_long::from(level);
    // SAFETY: takes integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0_i64, value) })
        .map(drop)
}

/// Sets the execution domain, such as 32-bit `uname`.
pub fn set_personality(domain: u64) -> io::Result<()> {
    // SAFETY: takes an integer only.
    check(unsafe { libc::personality(domain) }.into()).map(drop)
}

/// Sets a resource limit of this process by its number (`RLIMIT_*`).
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` outlives the call.
    check(unsafe { libc::setrlimit64(resource, &raw const limit) }.into()).map(drop)
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
