//! One attached client: its socket, what it still has to get, and what it says.
//!
//! Frames are docker's: a raw stream with a terminal; otherwise each piece of output behind eight
//! bytes, `[stream, 0, 0, 0, length as big-endian u32]`.

use super::detach_keys::Matcher;
use super::log::Stream;
use super::protocol::{AttachCommand, AttachOptions};
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// With more than this waiting for one client, its process's output is not read: like docker, a
/// client that does not keep up holds the container, and nothing is lost.
const MAX_WAITING_BYTES: usize = 64 << 10;
/// The same once the process has ended. All that one can leave behind, two pipes as large as the
/// kernel allows, is less; what somebody else goes on to write waits.
const MAX_LEFT_BYTES: usize = 4 << 20;
/// One read from a client.
const READ_BYTES: usize = 4096;

/// What came from a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing now.
    Nothing,
    /// Bytes for the process (now in the caller's buffer).
    Bytes,
    /// Its stdin has ended.
    End,
    /// Its detach keys.
    Detach,
}

/// An attached client.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each may change without the others"
)]
pub(super) struct Client {
    socket: OwnedFd,
    options: AttachOptions,
    keys: Option<Matcher>,
    /// Raw stream or frames.
    raw: bool,
    waiting: Vec<u8>,
    listening: bool,
    closing: bool,
    gone: bool,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, command: &AttachCommand, tty: bool) -> Self {
        let options = command.options.clone();
        Self {
            socket,
            keys: tty.then(|| Matcher::new(&options.detach_keys)),
            raw: tty,
            waiting: Vec::new(),
            listening: options.stdin,
            closing: false,
            gone: false,
            options,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What to wait for; a hang-up is always noticed.
    pub(super) fn interest(&self, stdin_has_room: bool) -> PollFlags {
        let mut flags = PollFlags::empty();
        if self.listening && stdin_has_room && !self.closing {
            flags |= PollFlags::IN;
        }
        if !self.waiting.is_empty() {
            flags |= PollFlags::OUT;
        }
        flags
    }

    /// Too much waits for it to read more from a process that runs, or has ended.
    pub(super) fn is_behind(&self, ended: bool) -> bool {
        let most = if ended {
            MAX_LEFT_BYTES
        } else {
            MAX_WAITING_BYTES
        };
        !self.gone && self.waiting.len() > most
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Takes part in the process's stdin.
    pub(super) fn listens(&self) -> bool {
        self.listening
    }

    /// Sends a piece of output, as far as the socket takes it; the rest waits.
    pub(super) fn deliver(&mut self, stream: Stream, data: &[u8]) {
        let wanted = match stream {
            Stream::Stdout => self.options.stdout,
            Stream::Stderr => self.options.stderr,
        };
        if !wanted || self.gone || self.closing {
            return;
        }
        if !self.raw {
            let number = match stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            };
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
            let header = [number, 0, 0, 0, length[0], length[1], length[2], length[3]];
            if self.waiting.is_empty() {
                // One packet for header and body: readers expect neither, but it is half the calls.
                let mut frame = Vec::with_capacity(header.len() + data.len());
                frame.extend_from_slice(&header);
                frame.extend_from_slice(data);
                self.push(&frame);
                return;
            }
            self.push(&header);
        }
        self.push(data);
    }

    fn push(&mut self, bytes: &[u8]) {
        let sent = if self.waiting.is_empty() {
            self.send(bytes)
        } else {
            0
        };
        if !self.gone {
            self.waiting
                .extend_from_slice(bytes.get(sent..).unwrap_or_default());
        }
    }

    /// Sends what waits. True if anything went.
    pub(super) fn flush(&mut self) -> bool {
        let waiting = std::mem::take(&mut self.waiting);
        let sent = self.send(&waiting);
        if sent < waiting.len() && !self.gone {
            self.waiting = waiting;
            self.waiting.drain(..sent);
        }
        if self.closing && self.waiting.is_empty() {
            self.close();
        }
        sent > 0
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.socket, rest, flags) {
                Ok(count) => sent += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
        sent
    }

    /// Reads once; bytes meant for the process are appended to `input`.
    pub(super) fn listen(&mut self, input: &mut Vec<u8>) -> Said {
        let mut chunk = [0; READ_BYTES];
        match rustix::net::recv(&self.socket, &mut chunk[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                self.listening = false;
                if let Some(keys) = &mut self.keys {
                    keys.finish(input);
                }
                Said::End
            }
            Ok((count, _)) => self.interpret(chunk.get(..count).unwrap_or_default(), input),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Said::Nothing,
            Err(_) => {
                self.gone = true;
                self.listening = false;
                Said::End
            }
        }
    }

    /// Looks for the detach keys in bytes that the client sent.
    pub(super) fn interpret(&mut self, bytes: &[u8], input: &mut Vec<u8>) -> Said {
        let Some(keys) = &mut self.keys else {
            input.extend_from_slice(bytes);
            return Said::Bytes;
        };
        if keys.feed(bytes, input) {
            self.listening = false;
            Said::Detach
        } else {
            Said::Bytes
        }
    }

    /// Closes the connection after the last byte that waits.
    pub(super) fn finish(&mut self) {
        self.closing = true;
        if self.waiting.is_empty() {
            self.close();
        }
    }

    /// The other end is gone altogether.
    pub(super) fn hang_up(&mut self) {
        self.gone = true;
    }

    /// Ends the connection in a way that lets the client read everything.
    ///
    /// Closing a unix socket that holds unread bytes gives the peer ECONNRESET instead of an end
    /// of file. So further bytes are refused first, and those that came before are read away.
    fn close(&mut self) {
        if !self.gone {
            rustix::net::shutdown(&self.socket, Shutdown::Both).ok();
            let mut chunk = [0; READ_BYTES];
            while matches!(
                rustix::net::recv(&self.socket, &mut chunk[..], RecvFlags::DONTWAIT),
                Ok((1.., _))
            ) {}
        }
        self.gone = true;
    }
}
