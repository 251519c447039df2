//! Signals as a descriptor, for programs that wait for everything in one `poll`.

use crate::process::check;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;

/// Blocks `signals` for this thread and returns a non-blocking descriptor that reads them.
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: a `sigset_t` is plain bits, for which zero is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for &signal in signals {
        // SAFETY: `set` is a valid set.
        check(unsafe { libc::sigaddset(&raw mut set, signal) }.into())?;
    }
    // SAFETY: `set` is a valid set that outlives the call.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) }.into())?;
    // SAFETY: `set` is a valid set that outlives the call.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(fd.into())?;
    // SAFETY: the kernel has just made this descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes what a [`signal_fd`] holds; which signals they were does not matter to the caller.
pub fn drain_signals(fd: BorrowedFd<'_>) {
    let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
    // SAFETY: `info` is as long as the length given.
    while unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) } > 0 {}
}

/// Gives freed heap pages back to the kernel.
pub fn trim_heap() {
    // SAFETY: has no precondition.
    unsafe { libc::malloc_trim(0) };
}

/// Ignores a signal in this process (and, until it resets them, in programs that it executes).
pub fn ignore_signal(signal: i32) -> io::Result<()> {
    // SAFETY: ignoring runs no code of ours.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_blocked_signal_becomes_readable() {
        let fd = signal_fd(&[libc::SIGUSR2]).unwrap();
        let readable = || {
            let mut set = [rustix::event::PollFd::new(
                &fd,
                rustix::event::PollFlags::IN,
            )];
            let now = rustix::event::Timespec::default();
            rustix::event::poll(&mut set, Some(&now)).unwrap() == 1
        };
        assert!(!readable());
        // SAFETY: the signal is blocked in this thread, to which it is sent.
        unsafe { libc::raise(libc::SIGUSR2) };
        assert!(readable());
        drain_signals(fd.as_fd());
        assert!(!readable());
    }
}
