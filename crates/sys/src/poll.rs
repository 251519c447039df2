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

/// How much of the stack below the caller is given back: more than anything here uses, and less
/// than the gap that the kernel keeps below a stack, so that nothing else can lie there.
const STACK_BYTES: usize = 1 << 20;
/// What stays: the frames of this function and of the call that it makes.
const STACK_KEPT_BYTES: usize = 16 << 10;

unsafe extern "C" {
    // Set by the linker: where the program's read-only data and its code begin and end.
    static __executable_start: u8;
    static etext: u8;
}

/// Gives freed heap pages, and stack pages that no frame uses any more, back to the kernel, and
/// forgets the program's own pages: those that it still needs come back from the page cache, the
/// many that were needed once do not. For the main thread of a program that has no other.
pub fn give_back_memory() {
    // SAFETY: has no precondition.
    unsafe { libc::malloc_trim(0) };
    let here = 0_u8;
    let page = rustix::param::page_size();
    let end = ((&raw const here).addr() - STACK_KEPT_BYTES) & !(page - 1);
    let start = ptr::without_provenance_mut(end - STACK_BYTES);
    // Where the stack has not grown yet the range is not mapped, which is an error for that part.
    // SAFETY: the range lies below every live frame and its red zone, in the main thread's stack or
    // in the gap below it; no signal handler runs on this stack.
    unsafe { libc::madvise(start, STACK_BYTES, libc::MADV_DONTNEED) };
    let code = (&raw const __executable_start).cast_mut();
    let code_bytes = ((&raw const etext).addr() - code.addr()) & !(page - 1);
    // SAFETY: these pages are mapped from the program's file and are never written, so what comes
    // back is what was there.
    unsafe { libc::madvise(code.cast(), code_bytes, libc::MADV_DONTNEED) };
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
