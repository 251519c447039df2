//! The request that waits for a container's exit code, and survives the daemon.
//!
//!     Waiting --answer--> Known
//!        \--broken--> Lost --a daemon answers--> Waiting
//!                       \--deadline after the stream ended--> an error

use crate::failure::Failure;
use crate::signals::SignalPipe;
use client::wire::Waited;
use client::{Client, ClientError, Pending, Query, Request, Response};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Between two attempts to reach a daemon.
const RETRY: Duration = Duration::from_millis(100);
/// How long after the end of the output a daemon may take to come back.
const PATIENCE: Duration = Duration::from_secs(10);

/// A wait in progress.
#[derive(Debug)]
pub(crate) struct ExitWatch<'a> {
    client: &'a Client,
    target: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting(Response),
    Lost { last_try: Instant },
    Known(Result<Waited, Failure>),
}

/// When a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// At the next exit, for a container that is about to start.
    NextExit,
    /// When an auto-removed container is gone.
    Removed,
    /// At once if it does not run.
    NotRunning,
}

impl Condition {
    const fn name(self) -> &'static str {
        match self {
            Self::NextExit => "next-exit",
            Self::Removed => "removed",
            Self::NotRunning => "not-running",
        }
    }
}

/// Sends a wait; [`ExitWatch::new`] takes it once its head is there.
///
/// # Errors
/// The daemon is not there.
pub(crate) fn begin(
    client: &Client,
    id: &str,
    condition: Condition,
) -> Result<Pending, ClientError> {
    client.begin(Request::post(target(id, condition)))
}

fn target(id: &str, condition: Condition) -> String {
    Query::new("/containers/{}/wait", &[id])
        .with("condition", condition.name())
        .finish()
}

impl<'a> ExitWatch<'a> {
    /// Waits until the daemon has registered the wait.
    ///
    /// # Errors
    /// The daemon refuses.
    pub(crate) fn new(
        client: &'a Client,
        id: &str,
        condition: Condition,
        pending: Pending,
    ) -> Result<Self, ClientError> {
        // After a daemon was replaced, what matters is whether the container still runs.
        let again = match condition {
            Condition::NextExit | Condition::NotRunning => Condition::NotRunning,
            Condition::Removed => Condition::Removed,
        };
        Ok(Self {
            client,
            target: target(id, again),
            state: State::Waiting(pending.response()?),
        })
    }

    /// Returns the descriptor to poll for the answer.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Waiting(response) => Some(response.as_fd()),
            State::Lost { .. } | State::Known(_) => None,
        }
    }

    /// Returns how long to sleep at most until [`ExitWatch::reconnect_if_due`].
    pub(crate) fn retry_in(&self) -> Option<Duration> {
        match &self.state {
            State::Lost { last_try } => Some(RETRY.saturating_sub(last_try.elapsed())),
            State::Waiting(_) | State::Known(_) => None,
        }
    }

    /// Takes what arrived at the descriptor: the answer, or the daemon's end.
    pub(crate) fn read(&mut self) {
        let lost = State::Lost {
            last_try: Instant::now(),
        };
        self.state = match std::mem::replace(&mut self.state, lost) {
            State::Waiting(response) => match response.json::<Waited>() {
                Ok(waited) => State::Known(Ok(waited)),
                Err(ClientError::Broken(_) | ClientError::Decode { .. }) => State::Lost {
                    last_try: Instant::now(),
                },
                Err(error) => State::Known(Err(error.into())),
            },
            other => other,
        };
    }

    /// Returns the client that asks.
    pub(crate) fn client(&self) -> &Client {
        self.client
    }

    /// Asks again if the daemon was lost and it is time; true: a daemon is back.
    pub(crate) fn reconnect_if_due(&mut self) -> bool {
        let State::Lost { last_try } = &mut self.state else {
            return false;
        };
        if last_try.elapsed() < RETRY {
            return false;
        }
        *last_try = Instant::now();
        match self.client.send(Request::post(self.target.clone())) {
            Ok(response) => self.state = State::Waiting(response),
            Err(error) if error.status().is_some() => self.state = State::Known(Err(error.into())),
            Err(_) => return false,
        }
        matches!(self.state, State::Waiting(_))
    }

    /// Waits for the exit code, now that the output is over.
    ///
    /// # Errors
    /// No daemon came back in time, or the container is gone without a trace.
    pub(crate) fn finish(mut self, mut signals: Option<SignalPipe>) -> Result<u8, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.state {
                State::Known(outcome) => return exit_code(outcome?),
                State::Waiting(_) => {
                    self.wait_readable(signals.as_mut());
                    self.read();
                }
                State::Lost { .. } if Instant::now() > deadline => {
                    return Err(Failure::new(format!(
                        "the daemon at {} went away and did not come back within {} s: the exit code is not known",
                        self.client.host(),
                        PATIENCE.as_secs()
                    ))
                    .with_code(125));
                }
                State::Lost { .. } => {
                    let pause = rustix::event::Timespec::try_from(RETRY).ok();
                    let mut nothing: [PollFd<'_>; 0] = [];
                    // Only a pause; a signal may end it early.
                    poll(&mut nothing, pause.as_ref()).ok();
                    self.reconnect_if_due();
                }
            }
        }
    }
}

impl ExitWatch<'_> {
    /// Waits for the answer; a signal that ends us may come first.
    fn wait_readable(&self, signals: Option<&mut SignalPipe>) {
        let (State::Waiting(response), Some(signals)) = (&self.state, signals) else {
            return;
        };
        while !response.has_buffered() {
            let mut fds = [
                PollFd::new(response, PollFlags::IN),
                PollFd::from_borrowed_fd(signals.descriptor(), PollFlags::IN),
            ];
            // An error only makes the read after it wait instead.
            let ready = poll(&mut fds, None);
            let signalled = !fds[1].revents().is_empty();
            if ready.is_err_and(|error| error != Errno::INTR) || !fds[0].revents().is_empty() {
                return;
            }
            if signalled {
                signals.obey();
            }
        }
    }
}

fn exit_code(waited: Waited) -> Result<u8, Failure> {
    match waited.error {
        Some(error) if !error.message.is_empty() => Err(Failure::new(format!(
            "Error waiting for container: {}",
            error.message
        ))
        .with_code(125)),
        // Docker's own codes are 0–255; anything else is a daemon's error.
        _ => Ok(u8::try_from(waited.status_code).unwrap_or(125)),
    }
}
