//! `run --trace`: the client's own steps, put together with those that the daemon collected.
//!
//! Every request of a traced run carries the trace's ID; the daemon keeps the steps of requests
//! that carry one, together with what shim and init reported, and gives them out when asked. All
//! times are `CLOCK_MONOTONIC`, so the pieces line up as they are. An untraced run does nothing
//! here but look at an empty option.

mod chrome;
mod waterfall;

use crate::failure::Failure;
use client::{Client, ClientError, Query};
use model::trace::{Actor, Step};
use rustix::time::{ClockId, clock_gettime};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Width where stderr is no terminal.
const DEFAULT_WIDTH: usize = 110;

/// Collects steps, or nothing.
#[derive(Debug)]
pub(crate) struct Tracer(Option<Trace>);

#[derive(Debug)]
struct Trace {
    id: String,
    steps: Vec<Step>,
    output: Output,
    format: Format,
}

#[derive(Debug)]
enum Output {
    Stderr,
    File(PathBuf),
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Text,
    Json,
}

/// A step that began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun(Option<(&'static str, u64)>);

impl Tracer {
    /// Starts a trace if one is asked for: `-` is stderr.
    ///
    /// # Errors
    /// The kernel gives no random bytes for its ID.
    pub(crate) fn new(output: Option<&Path>, format: Option<&str>) -> Result<Self, Failure> {
        let Some(path) = output else {
            return Ok(Self(None));
        };
        let json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        Ok(Self(Some(Trace {
            id: random_id()?,
            steps: Vec::new(),
            output: if path == Path::new("-") {
                Output::Stderr
            } else {
                Output::File(path.to_owned())
            },
            format: match format {
                Some("json") => Format::Json,
                None if json => Format::Json,
                _ => Format::Text,
            },
        })))
    }

    /// Returns the ID that requests carry.
    pub(crate) fn id(&self) -> Option<String> {
        self.0.as_ref().map(|trace| trace.id.clone())
    }

    /// Notes that a step of the client begins.
    pub(crate) fn begin(&self, name: &'static str) -> Begun {
        Begun(self.0.as_ref().map(|_| (name, now_ns())))
    }

    /// Notes that it ended.
    pub(crate) fn end(&mut self, begun: Begun) {
        if let (Some(trace), Some((name, start_ns))) = (&mut self.0, begun.0) {
            trace.steps.push(Step {
                actor: Actor::Client,
                name: name.to_owned(),
                start_ns,
                duration_ns: now_ns().saturating_sub(start_ns),
                detail: None,
            });
        }
    }

    /// Fetches the daemon's steps and writes the whole. A trace that fails does not fail the run:
    /// it says why on stderr.
    pub(crate) fn finish(&mut self, client: &Client) {
        let Some(mut trace) = self.0.take() else {
            return;
        };
        match client.get::<Vec<Step>>(Query::new("/berth/traces/{}", &[&trace.id]).finish()) {
            Ok(steps) => trace.steps.extend(steps),
            Err(ClientError::Daemon {
                status: 404 | 501, ..
            }) => {
                writeln!(
                    io::stderr(),
                    "berth: this daemon keeps no traces: only the client's steps are shown"
                )
                .ok();
            }
            Err(error) => {
                writeln!(io::stderr(), "berth: fetch the daemon's trace: {error}").ok();
            }
        }
        if let Err(error) = trace.write() {
            writeln!(io::stderr(), "berth: write the trace: {error}").ok();
        }
    }
}

impl Trace {
    fn write(mut self) -> io::Result<()> {
        self.steps
            .sort_by_key(|step| (step.start_ns, std::cmp::Reverse(step.duration_ns)));
        let width = match &self.output {
            Output::Stderr => crate::terminal::size().map(|[_, columns]| usize::from(columns)),
            Output::File(_) => None,
        };
        let text = match self.format {
            Format::Text => waterfall::render(&self.steps, width.unwrap_or(DEFAULT_WIDTH)),
            Format::Json => chrome::render(&self.steps),
        };
        match &self.output {
            Output::Stderr => io::stderr().lock().write_all(text.as_bytes()),
            Output::File(path) => std::fs::write(path, text),
        }
    }
}

fn random_id() -> Result<String, Failure> {
    let mut bytes = [0_u8; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        let read =
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += read.map_err(|error| Failure::new(format!("random bytes: {error}")))?;
    }
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds * 1_000_000_000 + nanos
}
