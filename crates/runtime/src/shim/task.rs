//! One process under the shim's care, from its start to the last byte for its last client.
//!
//! ```text
//! Running ──exit──> Draining ──end of output, or DRAIN──> Ended ──known, or RELEASE──> Releasing
//!                                     │ reported here                     ──no client left──> gone
//! ```

use super::protocol::ExitRecord;
use super::session::Session;
use std::time::Duration;
use sys::process::Exit;

/// How long somebody else may hold an ended process's streams open before they are cut, as in
/// docker. A container's own pid namespace ends with its init, so this is for leaked holders only.
const DRAIN: Duration = Duration::from_secs(2);
/// How long an ended exec's clients wait for the daemon to take note.
const RELEASE: Duration = Duration::from_secs(2);
/// How long a client may take nothing of what is left for it.
const LINGER: Duration = Duration::from_secs(600);

#[derive(Debug)]
enum Stage {
    Running,
    Draining { record: ExitRecord, until_ns: u64 },
    Ended { until_ns: u64 },
    Releasing { until_ns: u64 },
}

/// A process and its streams.
#[derive(Debug)]
pub(super) struct Task {
    /// None: the init process.
    pub(super) exec: Option<String>,
    pub(super) pid: i32,
    pub(super) session: Session,
    stage: Stage,
}

impl Task {
    pub(super) fn new(exec: Option<String>, pid: i32, session: Session) -> Self {
        Self {
            exec,
            pid,
            session,
            stage: Stage::Running,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running)
    }

    /// The process was reaped.
    pub(super) fn exited(&mut self, exit: Exit, now: Now) {
        if !self.is_running() {
            return;
        }
        self.session.exited();
        let signal = match exit {
            Exit::Code(_) => None,
            Exit::Signal(signal) => Some(signal),
        };
        self.stage = Stage::Draining {
            record: ExitRecord {
                exit_code: exit.code(),
                signal,
                oom_killed: false,
                at_unix_ns: now.unix_ns,
            },
            until_ns: after(now, DRAIN),
        };
    }

    /// Returns the exit record, once, when the output is complete.
    pub(super) fn ended(&mut self, scratch: &mut [u8], now: Now) -> Option<ExitRecord> {
        let Stage::Draining { record, until_ns } = &self.stage else {
            return None;
        };
        self.session.read(scratch, now.unix_ns);
        if !self.session.is_drained() && now.monotonic_ns < *until_ns {
            return None;
        }
        let record = record.clone();
        self.session.end_output(scratch, now.unix_ns);
        self.stage = Stage::Ended {
            until_ns: after(now, RELEASE),
        };
        Some(record)
    }

    /// The daemon knows, or there is none: let the clients go.
    pub(super) fn release(&mut self, now: Now) {
        if let Stage::Ended { .. } = self.stage {
            self.session.finish_clients();
            self.stage = Stage::Releasing {
                until_ns: after(now, LINGER),
            };
        }
    }

    /// Lets time pass. True when nothing is left to do for this process.
    pub(super) fn is_over(&mut self, now: Now) -> bool {
        match self.stage {
            Stage::Running | Stage::Draining { .. } => false,
            Stage::Ended { until_ns } => {
                if now.monotonic_ns >= until_ns {
                    self.release(now);
                }
                false
            }
            Stage::Releasing { until_ns } => {
                self.session.is_alone() || now.monotonic_ns >= until_ns
            }
        }
    }

    /// When to look again though nothing happened.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        match self.stage {
            Stage::Running => None,
            Stage::Draining { until_ns, .. }
            | Stage::Ended { until_ns }
            | Stage::Releasing { until_ns } => Some(until_ns),
        }
    }
}

/// The time, read once per round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) unix_ns: u64,
    pub(super) monotonic_ns: u64,
}

impl Now {
    pub(super) fn read() -> Self {
        let unix = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Self {
            unix_ns: unix.tv_sec.cast_unsigned() * 1_000_000_000 + unix.tv_nsec.cast_unsigned(),
            monotonic_ns: sys::process::monotonic_ns(),
        }
    }
}

fn after(now: Now, wait: Duration) -> u64 {
    now.monotonic_ns
        .saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
}
