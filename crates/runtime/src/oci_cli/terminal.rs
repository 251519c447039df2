//! A container in the foreground: its terminal on ours, its exit code as ours.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
        SocketFlags, SocketType, sendmsg,
    },
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};

use super::Failure;
use crate::failure::errno_text;

/// Sends a terminal's master to the socket of `--console-socket`.
pub(super) fn hand_over(socket: &Path, console: &OwnedFd) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::from(format!(
            "console socket {}: {}",
            socket.display(),
            errno_text(&error)
        ))
    };
    send(socket, console).map_err(failed)
}

fn send(path: &Path, console: &OwnedFd) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [console.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        &socket,
        &[IoSlice::new(b"/dev/ptmx")],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Waits for the end of a child, copying its terminal meanwhile; its exit code.
pub(super) fn follow(pidfd: BorrowedFd<'_>, console: Option<OwnedFd>) -> Result<i32, Failure> {
    if let Some(console) = console {
        let raw = Raw::enter();
        copy(pidfd, &console).map_err(|error| format!("terminal: {error}"))?;
        drop(raw);
    }
    let exit = sys::process::wait_pidfd(pidfd).map_err(|error| format!("waiting: {error}"))?;
    Ok(exit.code())
}

/// Our terminal in raw mode, until this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Self {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok();
        }
        Self(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            tcsetattr(io::stdin(), OptionalActions::Now, before).ok();
        }
    }
}

fn copy(pidfd: BorrowedFd<'_>, console: &OwnedFd) -> io::Result<()> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let mut buffer = [0; 8192];
    let mut input_open = true;
    loop {
        if let Ok(size) = tcgetwinsize(&stdout) {
            tcsetwinsize(console, size).ok();
        }
        let mut fds = vec![
            PollFd::new(console, PollFlags::IN),
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
        ];
        if input_open {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            // A resize of our terminal interrupts, and the loop passes it on.
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let ready = |index: usize| {
            fds.get(index)
                .is_some_and(|fd| fd.revents().intersects(PollFlags::IN | PollFlags::HUP))
        };
        let (output, ended, input) = (ready(0), ready(1), ready(2));
        if output {
            match rustix::io::read(console, &mut buffer) {
                Ok(count) if count > 0 => write_all(&stdout, &buffer[..count])?,
                // The last process let go of the terminal.
                _ => return Ok(()),
            }
        } else if ended {
            return Ok(());
        }
        if input {
            match rustix::io::read(&stdin, &mut buffer)? {
                0 => input_open = false,
                count => write_all(console, &buffer[..count])?,
            }
        }
    }
}

fn write_all(to: impl std::os::fd::AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::write(to.as_fd(), bytes))?;
        bytes = &bytes[count..];
    }
    Ok(())
}
