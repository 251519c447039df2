//! One process's streams: terminal or pipes, its log, and the clients attached to it.
//!
//! ```text
//! process ── stdout, stderr or terminal ──> log
//!                                      └──> every client (bounded; the slowest sets the pace)
//! client ── stdin ──> queue (bounded) ──> process
//! ```
//!
//! After the process has exited the pace no longer matters: what is left in the pipes (bounded by
//! the kernel) is read at once, so that log and exit record wait for no client. Only where somebody
//! else still writes, more than that, is the pace theirs again.

use super::client::{Client, Said};
use super::log::{LogWriter, Stream};
use super::protocol::{AttachCommand, IoSettings};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// While the process does not read this much, its clients are not read either.
const MAX_STDIN_BYTES: usize = 64 << 10;
/// One read of output; also how much the log formats at once.
pub(super) const READ_BYTES: usize = 32 << 10;
/// Reads of one stream before the others get their turn.
const READS_PER_TURN: usize = 8;

/// A part of a session that can become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Stdin,
    Output(Stream),
    Client(usize),
}

/// Our ends of a process's streams.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// A terminal's master: both directions.
    pub(super) console: Option<OwnedFd>,
    /// Its slave, held so that the master does not say "hung up" all the time when a living
    /// process has closed its terminal for a while.
    pub(super) slave: Option<OwnedFd>,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// The streams of one process.
#[derive(Debug)]
pub(super) struct Session {
    io: IoSettings,
    ends: Ends,
    stdin_queue: Vec<u8>,
    /// Close stdin once the queue is empty.
    stdin_ending: bool,
    clients: Vec<Client>,
    log: Option<LogWriter>,
    exited: bool,
}

impl Session {
    pub(super) fn new(io: IoSettings, mut ends: Ends, log: Option<LogWriter>) -> io::Result<Self> {
        for fd in [&ends.console, &ends.stdin, &ends.stdout, &ends.stderr]
            .into_iter()
            .flatten()
        {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        if let Some(console) = &ends.console {
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            ends.slave = Some(rustix::pty::ioctl_tiocgptpeer(console, flags)?);
        }
        Ok(Self {
            io,
            ends,
            stdin_queue: Vec::new(),
            stdin_ending: false,
            clients: Vec::new(),
            log,
            exited: false,
        })
    }

    /// Adds a client. True if its first bytes held its detach keys.
    pub(super) fn attach(&mut self, socket: OwnedFd, command: &AttachCommand) -> bool {
        let mut client = Client::new(socket, command, self.io.tty);
        let mut detached = false;
        if client.listens() && !command.read_ahead.is_empty() {
            let mut input = Vec::new();
            detached = client.interpret(&command.read_ahead, &mut input) == Said::Detach;
            self.type_in(&input);
        }
        if detached {
            client.finish();
        } else {
            self.clients.push(client);
        }
        detached
    }

    /// Whether a client must catch up before more is read.
    fn is_held(&self) -> bool {
        let behind = |client: &Client| client.is_behind(self.exited);
        self.clients.iter().any(behind)
    }

    /// Names everything to wait for.
    pub(super) fn interests<'a>(&'a self, mut add: impl FnMut(BorrowedFd<'a>, PollFlags, Part)) {
        let paused = self.is_held();
        let stdin_waits = !self.stdin_queue.is_empty();
        if let Some(console) = &self.ends.console {
            let mut flags = PollFlags::empty();
            if !paused {
                flags |= PollFlags::IN;
            }
            if stdin_waits {
                flags |= PollFlags::OUT;
            }
            add(console.as_fd(), flags, Part::Output(Stream::Stdout));
        }
        if let Some(stdin) = &self.ends.stdin {
            // No flags: only that nobody reads any more.
            let flags = if stdin_waits {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            add(stdin.as_fd(), flags, Part::Stdin);
        }
        if !paused {
            for (end, stream) in [
                (&self.ends.stdout, Stream::Stdout),
                (&self.ends.stderr, Stream::Stderr),
            ] {
                if let Some(end) = end {
                    add(end.as_fd(), PollFlags::IN, Part::Output(stream));
                }
            }
        }
        let stdin_has_room = self.stdin_queue.len() < MAX_STDIN_BYTES && !self.exited;
        for (index, client) in self.clients.iter().enumerate() {
            add(
                client.fd(),
                client.interest(stdin_has_room),
                Part::Client(index),
            );
        }
    }

    /// Handles one ready part. True if a client typed its detach keys.
    pub(super) fn ready(
        &mut self,
        part: Part,
        flags: PollFlags,
        scratch: &mut [u8],
        now_unix_ns: u64,
    ) -> bool {
        match part {
            Part::Stdin => {
                if flags.intersects(PollFlags::ERR | PollFlags::HUP) {
                    self.drop_stdin();
                } else {
                    self.write_stdin();
                }
                false
            }
            Part::Output(stream) => {
                if flags.contains(PollFlags::OUT) {
                    self.write_stdin();
                }
                if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                    self.read_output(stream, scratch, now_unix_ns);
                }
                false
            }
            Part::Client(index) => self.client_ready(index, flags),
        }
    }

    /// Forgets clients that are gone. Between rounds only: parts are known by their index.
    pub(super) fn sweep(&mut self) {
        self.clients.retain(|client| !client.is_gone());
    }

    /// The process has ended: read on without regard to slow clients, take no more input.
    pub(super) fn exited(&mut self) {
        self.exited = true;
        self.ends.slave = None;
        self.drop_stdin();
    }

    /// Whether all output has come to its end.
    pub(super) fn is_drained(&self) -> bool {
        self.ends.console.is_none() && self.ends.stdout.is_none() && self.ends.stderr.is_none()
    }

    /// Reads what is there, without waiting, as far as the clients' pace allows.
    pub(super) fn read(&mut self, scratch: &mut [u8], now_unix_ns: u64) {
        if self.is_held() {
            return;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.read_output(stream, scratch, now_unix_ns);
        }
    }

    /// Stops reading, though somebody else still holds the streams, and completes the log.
    pub(super) fn end_output(&mut self, scratch: &mut [u8], now_unix_ns: u64) {
        self.read(scratch, now_unix_ns);
        self.ends = Ends::default();
        if let Some(mut log) = self.log.take() {
            log.finish(now_unix_ns);
        }
    }

    /// Lets every client go once it has everything.
    pub(super) fn finish_clients(&mut self) {
        for client in &mut self.clients {
            client.finish();
        }
        self.sweep();
    }

    /// Whether no client is left.
    pub(super) fn is_alone(&self) -> bool {
        self.clients.is_empty()
    }

    /// Sets the terminal's size; false without a terminal.
    pub(super) fn resize(&self, rows: u16, columns: u16) -> bool {
        self.ends
            .console
            .as_ref()
            .is_some_and(|console| set_size(console.as_fd(), rows, columns).is_ok())
    }

    /// Closes stdin after what is queued for it.
    pub(super) fn end_stdin(&mut self) {
        self.stdin_ending = true;
        self.write_stdin();
    }

    fn client_ready(&mut self, index: usize, flags: PollFlags) -> bool {
        let Some(client) = self.clients.get_mut(index) else {
            return false;
        };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        let mut detached = false;
        if flags.contains(PollFlags::IN) {
            let mut input = Vec::new();
            let said = client.listen(&mut input);
            let ends_attachment = match said {
                Said::Nothing | Said::Bytes => false,
                Said::Detach => true,
                // As docker: the end of stdin ends the process's stdin if it was made for one
                // client, and otherwise the attachment.
                Said::End => self.io.open_stdin && !self.io.ends_with_client(),
            };
            if ends_attachment {
                client.finish();
            }
            detached = said == Said::Detach;
            self.type_in(&input);
            if said == Said::End && self.io.ends_with_client() {
                self.end_stdin();
            }
        } else if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            let listened = client.listens();
            client.hang_up();
            if listened && self.io.ends_with_client() {
                self.end_stdin();
            }
        }
        detached
    }

    /// Queues input for the process.
    fn type_in(&mut self, input: &[u8]) {
        let takes_input =
            self.io.open_stdin && !self.stdin_ending && (self.io.tty || self.ends.stdin.is_some());
        if takes_input && !self.exited {
            self.stdin_queue.extend_from_slice(input);
            self.write_stdin();
        }
    }

    fn write_stdin(&mut self) {
        let Some(end) = self.ends.console.as_ref().or(self.ends.stdin.as_ref()) else {
            return;
        };
        let mut written = 0;
        while let Some(rest) = self
            .stdin_queue
            .get(written..)
            .filter(|rest| !rest.is_empty())
        {
            match rustix::io::write(end, rest) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return self.drop_stdin(),
            }
        }
        if written == self.stdin_queue.len() {
            self.stdin_queue = Vec::new();
            if self.stdin_ending {
                self.ends.stdin = None;
            }
        } else {
            self.stdin_queue.drain(..written);
        }
    }

    /// Nobody reads stdin (any more): what is queued for it has no reader.
    fn drop_stdin(&mut self) {
        self.ends.stdin = None;
        self.stdin_queue = Vec::new();
    }

    fn read_output(&mut self, stream: Stream, scratch: &mut [u8], now_unix_ns: u64) {
        for _ in 0..READS_PER_TURN {
            let end = match stream {
                Stream::Stdout => self.ends.console.as_ref().or(self.ends.stdout.as_ref()),
                Stream::Stderr => self.ends.stderr.as_ref(),
            };
            let Some(end) = end else { return };
            match rustix::io::read(end, &mut *scratch) {
                // A terminal whose last slave was closed says EIO.
                Ok(0) | Err(Errno::IO) => return self.close_output(stream),
                Ok(count) => {
                    let data = scratch.get(..count).unwrap_or_default();
                    if let Some(log) = &mut self.log {
                        log.append(stream, data, now_unix_ns);
                    }
                    for client in &mut self.clients {
                        client.deliver(stream, data);
                    }
                    if self.is_held() {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return self.close_output(stream),
            }
        }
    }

    fn close_output(&mut self, stream: Stream) {
        match stream {
            Stream::Stdout => {
                self.ends.console = None;
                self.ends.stdout = None;
            }
            Stream::Stderr => self.ends.stderr = None,
        }
    }
}

impl IoSettings {
    /// Whether an attached client's end of stdin is the process's.
    fn ends_with_client(self) -> bool {
        self.open_stdin && self.stdin_once && !self.tty
    }
}

/// Sets a terminal's size.
pub(super) fn set_size(console: BorrowedFd<'_>, rows: u16, columns: u16) -> rustix::io::Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(console, size)
}
