//! An attached session: the user's streams on one side, the container's connection on the other.
//!
//! One loop over poll(2), without threads. The connection is never written to while it is full, so
//! a container that writes more than it reads cannot deadlock with us. While the session runs, the
//! loop also watches the request that waits for the exit code: when the daemon dies, the attached
//! stream goes on without it (it ends in the shim), and the request is made again as soon as a
//! daemon answers.

use crate::detach_keys::{DetachKeys, Scan};
use crate::exit_watch::ExitWatch;
use crate::failure::Failure;
use crate::signals::{self, SignalPipe};
use client::{Demux, DemuxError, Frame, Hijacked, StreamKind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// One read from either side.
const READ_BYTES: usize = 64 * 1024;
/// What a pipe that is writable takes without blocking (`PIPE_BUF`, pipe(7)).
const PIPE_BYTES: usize = 4096;
/// What a shell reports for a command that SIGPIPE ended.
const SIGPIPE_CODE: u8 = 128 + 13;
/// How much input waits for the connection before stdin is left alone.
const MAX_PENDING_BYTES: usize = 64 * 1024;

/// What is attached.
#[derive(Debug)]
pub(crate) struct Session {
    /// The connection.
    pub(crate) connection: Hijacked,
    /// Raw bytes of a terminal, not frames.
    pub(crate) tty: bool,
    /// Pass stdin on.
    pub(crate) stdin: bool,
    /// Where the terminal's size goes; told again to a daemon that came back.
    pub(crate) resize: Option<String>,
    /// Keys that leave the session; only with a terminal.
    pub(crate) detach_keys: Option<DetachKeys>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The container closed its output.
    Closed,
    /// The user typed the detach keys.
    Detached,
}

/// Why a session ended badly.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("read from the container: {0}")]
    Receive(io::Error),
    #[error("read the container's output: {0}")]
    Frames(#[from] DemuxError),
    #[error("write to stdout or stderr: {0}")]
    Output(io::Error),
    #[error("wait for input: {0}")]
    Poll(Errno),
    #[error("Error response from daemon: {0}")]
    System(String),
}

impl Session {
    /// Copies until the container's output ends or the user detaches.
    ///
    /// # Errors
    /// The connection breaks, or our own output does.
    pub(crate) fn run(
        self,
        watch: Option<&mut ExitWatch<'_>>,
        signals: Option<&mut SignalPipe>,
    ) -> Result<End, Failure> {
        let mut copy = Copy {
            session: self,
            signals,
            demux: Demux::default(),
            pending: Vec::new(),
            half_closed: false,
        };
        copy.run(watch).map_err(|error| match &error {
            // The reader of our pipe has seen enough: the shell's code for it, without words.
            SessionError::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => {
                Failure::code(SIGPIPE_CODE)
            }
            _ => Failure::from_chain(&error),
        })
    }
}

struct Copy<'a> {
    session: Session,
    /// Signals to pass on.
    signals: Option<&'a mut SignalPipe>,
    demux: Demux,
    /// Input on its way to the connection.
    pending: Vec<u8>,
    half_closed: bool,
}

impl Copy<'_> {
    fn run(&mut self, mut watch: Option<&mut ExitWatch<'_>>) -> Result<End, SessionError> {
        let stdin = io::stdin();
        let mut buffer = vec![0; READ_BYTES];
        let early = std::mem::take(&mut self.session.connection.early);
        if !early.is_empty() {
            self.output(&early)?;
        }
        let nonblocking = self.session.connection.stream.set_nonblocking(true);
        nonblocking.map_err(SessionError::Receive)?;
        loop {
            if let Some(watch) = watch.as_deref_mut() {
                let back = watch.reconnect_if_due();
                if let Some(target) = self.session.resize.as_deref().filter(|_| back) {
                    // The next change of size comes anyway.
                    signals::resize(watch.client(), target).ok();
                }
            }
            let take_input = self.session.stdin && self.pending.len() < MAX_PENDING_BYTES;
            let ready = self.wait(&stdin, take_input, watch.as_deref())?;
            if ready.signal
                && let Some(signals) = self.signals.as_deref_mut()
            {
                signals.pass_on();
            }
            if ready.exit
                && let Some(watch) = watch.as_deref_mut()
            {
                watch.read();
            }
            if ready.stdin && self.input(&stdin, &mut buffer)? == Some(End::Detached) {
                return Ok(End::Detached);
            }
            self.send();
            if ready.readable && self.receive(&mut buffer)? {
                return Ok(End::Closed);
            }
        }
    }

    fn wait(
        &self,
        stdin: &io::Stdin,
        take_input: bool,
        watch: Option<&ExitWatch<'_>>,
    ) -> Result<Ready, SessionError> {
        let mut wanted = PollFlags::IN;
        if !self.pending.is_empty() {
            wanted |= PollFlags::OUT;
        }
        let mut fds = Vec::with_capacity(4);
        fds.push(PollFd::from_borrowed_fd(
            self.session.connection.stream.as_fd(),
            wanted,
        ));
        let stdin_at = take_input.then(|| {
            fds.push(PollFd::new(stdin, PollFlags::IN));
            fds.len() - 1
        });
        let exit_at = watch.and_then(ExitWatch::descriptor).map(|fd| {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            fds.len() - 1
        });
        let signal_at = self.signals.as_deref().map(|signals| {
            fds.push(PollFd::from_borrowed_fd(
                signals.descriptor(),
                PollFlags::IN,
            ));
            fds.len() - 1
        });
        let timeout = watch.and_then(|watch| watch.retry_in()).map(timespec);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(SessionError::Poll(error)),
        }
        let any = |at: Option<usize>| {
            at.and_then(|at| fds.get(at))
                .is_some_and(|fd| !fd.revents().is_empty())
        };
        let connection = fds.first().map_or(PollFlags::empty(), PollFd::revents);
        let gone = PollFlags::HUP | PollFlags::ERR;
        Ok(Ready {
            stdin: any(stdin_at),
            exit: any(exit_at),
            signal: any(signal_at),
            readable: connection.intersects(PollFlags::IN | gone),
        })
    }

    fn input(&mut self, stdin: &io::Stdin, buffer: &mut [u8]) -> Result<Option<End>, SessionError> {
        let read = match rustix::io::read(stdin, &mut *buffer) {
            Ok(read) => read,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(None),
            // The terminal hung up, or stdin is closed: the input is over.
            Err(_) => 0,
        };
        if read == 0 {
            self.session.stdin = false;
            return Ok(None);
        }
        let typed = &buffer[..read];
        let Some(keys) = &mut self.session.detach_keys else {
            self.pending.extend(typed);
            return Ok(None);
        };
        match keys.scan(typed) {
            Scan::Pass(bytes) => self.pending.extend(bytes),
            Scan::Detach(before) => {
                self.pending.extend(before);
                self.send();
                return Ok(Some(End::Detached));
            }
        }
        Ok(None)
    }

    /// Writes what the connection takes; once stdin is over and sent, closes our half.
    fn send(&mut self) {
        while !self.pending.is_empty() {
            match self.session.connection.stream.write(&self.pending) {
                Ok(0) => break,
                Ok(sent) => {
                    self.pending.drain(..sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The container reads no more; its output may still come.
                Err(_) => {
                    self.pending.clear();
                    self.session.stdin = false;
                }
            }
        }
        self.half_close();
    }

    fn half_close(&mut self) {
        if !self.session.stdin && !self.half_closed && self.pending.is_empty() {
            self.half_closed = true;
            // An error means that the other side is gone, which the next read tells.
            self.session.connection.stream.shutdown_write().ok();
        }
    }

    /// Reads once; true: the output is over.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool, SessionError> {
        match self.session.connection.stream.read(buffer) {
            Ok(0) => Ok(true),
            Ok(read) => self.output(&buffer[..read]).map(|()| false),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(true),
            Err(error) => Err(SessionError::Receive(error)),
        }
    }

    fn output(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        if self.session.tty {
            return write_all(StreamKind::Stdout, bytes).map_err(SessionError::Output);
        }
        let signals = &mut self.signals;
        self.demux.feed(bytes, |frame| show(frame, signals))
    }
}

/// What poll reported.
#[derive(Debug, Default, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "one for each descriptor")]
struct Ready {
    stdin: bool,
    exit: bool,
    signal: bool,
    readable: bool,
}

fn show(frame: Frame<'_>, signals: &mut Option<&mut SignalPipe>) -> Result<(), SessionError> {
    match frame.kind {
        StreamKind::Stdout | StreamKind::Stderr => {
            for piece in frame.bytes.chunks(PIPE_BYTES) {
                if let Some(signals) = signals {
                    wait_for_room(frame.kind, signals)?;
                }
                write_all(frame.kind, piece).map_err(SessionError::Output)?;
            }
            Ok(())
        }
        StreamKind::SystemError => {
            let message = String::from_utf8_lossy(frame.bytes).into_owned();
            Err(SessionError::System(message))
        }
    }
}

/// Waits until a write of [`PIPE_BYTES`] will not block, passing signals on meanwhile.
fn wait_for_room(kind: StreamKind, signals: &mut SignalPipe) -> Result<(), SessionError> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    loop {
        let mut fds = [
            if kind == StreamKind::Stderr {
                PollFd::new(&stderr, PollFlags::OUT)
            } else {
                PollFd::new(&stdout, PollFlags::OUT)
            },
            PollFd::from_borrowed_fd(signals.descriptor(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(SessionError::Poll(error)),
        }
        let signalled = !fds[1].revents().is_empty();
        let room = !fds[0].revents().is_empty();
        if signalled {
            signals.pass_on();
        }
        if room {
            return Ok(());
        }
    }
}

/// Writes past std's line buffer: the container's output is passed on as it comes.
pub(crate) fn write_all(kind: StreamKind, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = if kind == StreamKind::Stderr {
            rustix::io::write(io::stderr(), bytes)
        } else {
            rustix::io::write(io::stdout(), bytes)
        };
        match written {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_writable(kind)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Somebody else set our stdout non-blocking (it is shared with the parent).
fn wait_writable(kind: StreamKind) -> io::Result<()> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let fd = if kind == StreamKind::Stderr {
        PollFd::new(&stderr, PollFlags::OUT)
    } else {
        PollFd::new(&stdout, PollFlags::OUT)
    };
    poll(&mut [fd], None)?;
    Ok(())
}

fn timespec(duration: Duration) -> rustix::event::Timespec {
    rustix::event::Timespec::try_from(duration).unwrap_or(rustix::event::Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    })
}
