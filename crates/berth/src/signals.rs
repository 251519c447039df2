//! Signals that reach the client while it is attached: on their own thread, so that a stuck
//! stdout never keeps one waiting.
//!
//! With a terminal the keys travel as bytes, so a signal is meant for the client itself: the
//! terminal is restored and the signal takes its course; only SIGWINCH means the container.
//! Without one, signals are passed on to the container.

use crate::terminal;
use client::{Client, Host, Query, Request};
use signal_hook::consts::{SIGALRM, SIGCONT, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::iterator::{Handle, Signals};
use std::thread::JoinHandle;

const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
const PROXIED: [i32; 9] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT, SIGTSTP,
];

/// The thread, for as long as this lives.
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

    /// Restores the terminal before dying, and passes nothing on.
    ///
    /// # Errors
    /// The kernel refuses a handler or a thread.
    pub(crate) fn passing_to(host: Host, id: String) -> std::io::Result<Self> {
        let mut signals = Signals::new(PROXIED)?;
        Self::spawn(signals.handle(), move || {
            for signal in signals.forever() {
                let target = Query::new("/containers/{}/kill", &[&id])
                    .with("signal", &signal.to_string())
                    .finish();
                let sent = Client::new(host.clone()).call(Request::post(target));
                // With nobody to pass it on, the user still wants the client to end.
                if sent.is_err_and(|error| error.status().is_none()) && ENDING.contains(&signal) {
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
