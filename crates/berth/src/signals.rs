//! Signals that reach the client while it is attached.
//!
//! With a terminal the keys travel as bytes, so a signal is meant for the client itself: the
//! terminal is restored and the signal takes its course; only SIGWINCH means the container. That
//! is a thread's work, so that a stuck terminal never keeps a signal waiting.
//!
//! Without one, signals are passed on to the container. They arrive at a pipe that the session
//! polls beside its streams: the short commands that people measure start no thread.

use crate::terminal;
use client::{Client, Host, Query, Request};
use signal_hook::consts::{SIGALRM, SIGCONT, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::iterator::{Handle, Signals};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
const PROXIED: [i32; 9] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT, SIGTSTP,
];

/// The thread that a terminal needs, for as long as this lives.
#[derive(Debug)]
pub(crate) struct SignalThread {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalThread {
    /// Follows the terminal's size with `POST {target}?h=&w=`, and restores it before dying.
    ///
    /// # Errors
    /// The kernel refuses a handler or a thread.
    pub(crate) fn for_terminal(host: Host, target: String) -> std::io::Result<Self> {
        let mut signals = Signals::new(ENDING.into_iter().chain([SIGWINCH]))?;
        Self::spawn(signals.handle(), move || {
            for signal in signals.forever() {
                if signal == SIGWINCH {
                    // A container that is gone, or a daemon that is: the next size comes anyway.
                    resize(&Client::new(host.clone()), &target).ok();
                } else {
                    terminal::restore();
                    die(signal);
                }
            }
        })
    }

    fn spawn(handle: Handle, body: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let thread = std::thread::Builder::new()
            .name("signals".to_owned())
            .stack_size(128 * 1024)
            .spawn(body)?;
        Ok(Self {
            handle,
            thread: Some(thread),
        })
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It ends at once unless it waits for a daemon that hangs; then the process's end
            // takes it along.
            if thread.is_finished() {
                thread.join().ok();
            }
        }
    }
}

/// Signals to pass on to a container, and the pipe that tells of them.
pub(crate) struct SignalPipe {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    host: Host,
    id: String,
}

impl std::fmt::Debug for SignalPipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalPipe").field("id", &self.id).finish()
    }
}

impl SignalPipe {
    /// Takes the signals from now on.
    ///
    /// # Errors
    /// The kernel refuses a handler or the pipe.
    pub(crate) fn new(host: Host, id: String) -> std::io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, PROXIED)?;
        Ok(Self { delivery, host, id })
    }

    /// Returns the descriptor to poll.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// Passes on what arrived. Each on a thread of its own: the daemon may take its time, and the
    /// container's output may not wait for it.
    pub(crate) fn pass_on(&mut self) {
        for signal in self.delivery.pending() {
            let (host, id) = (self.host.clone(), self.id.clone());
            let passing = std::thread::Builder::new().spawn(move || {
                let target = Query::new("/containers/{}/kill", &[&id])
                    .with("signal", &signal.to_string())
                    .finish();
                let sent = Client::new(host).call(Request::post(target));
                // With nobody to pass it on, the user still wants the client to end.
                if sent.is_err_and(|error| error.status().is_none()) && ENDING.contains(&signal) {
                    die(signal);
                }
            });
            if passing.is_err() {
                die(signal);
            }
        }
    }

    /// Lets what arrived take its course: the container has ended, the signal is for us.
    pub(crate) fn obey(&mut self) {
        for signal in self.delivery.pending() {
            if ENDING.contains(&signal) {
                die(signal);
            }
        }
    }
}

/// Tells the daemon the terminal's size.
///
/// # Errors
/// The daemon refuses, or is not there.
pub(crate) fn resize(client: &Client, target: &str) -> Result<(), client::ClientError> {
    let Some([rows, columns]) = terminal::size() else {
        return Ok(());
    };
    let target = Query::new(target, &[])
        .with("h", &rows.to_string())
        .with("w", &columns.to_string())
        .finish();
    client.call(Request::post(target)).map(|_| ())
}

fn die(signal: i32) {
    // Only fails for signals without a default, which are not in our lists.
    signal_hook::low_level::emulate_default_handler(signal).ok();
}
