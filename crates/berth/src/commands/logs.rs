//! `berth logs`: what a container printed.

use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output::human;
use crate::session::write_all;
use client::wire::ContainerInspect;
use client::{Demux, DemuxError, Query, Request, StreamKind};
use std::io::{self, Read};
use std::process::ExitCode;

const READ_BYTES: usize = 64 * 1024;

/// Arguments of `berth logs`.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "docker's own independent switches"
)]
pub(crate) struct Args {
    /// The container
    container: String,
    /// Go on with what it prints from now on
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many lines, or all
    #[arg(short = 'n', long, value_name = "LINES", allow_hyphen_values = true)]
    tail: Option<String>,
    /// Put the time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Attributes given to the log driver
    #[arg(long)]
    details: bool,
    /// Only since: a time (RFC 3339 or unix), or 10m ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only until: a time (RFC 3339 or unix), or 10m ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let since = self.since.as_deref().map(moment).transpose()?;
        let until = self.until.as_deref().map(moment).transpose()?;
        let client = context::connect(globals)?;
        let target = Query::new("/containers/{}/json", &[&self.container]).finish();
        let container: ContainerInspect = client.get(target)?;
        let target = Query::new("/containers/{}/logs", &[&container.id])
            .flag("stdout", true)
            .flag("stderr", true)
            .flag("follow", self.follow)
            .flag("timestamps", self.timestamps)
            .flag("details", self.details)
            .with_some("tail", self.tail.as_deref())
            .with_some("since", since.as_deref())
            .with_some("until", until.as_deref())
            .finish();
        let response = client.send(Request::get(target))?;
        copy(response, container.config.tty)?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, thiserror::Error)]
enum LogsError {
    #[error("{0}")]
    Frames(#[from] DemuxError),
    #[error("write: {0}")]
    Write(io::Error),
}

fn copy(mut response: impl Read, tty: bool) -> Result<(), Failure> {
    let mut demux = Demux::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = match response.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) => return Err(Failure::new(format!("read the log: {error}"))),
        };
        let bytes = &buffer[..read];
        let written = if tty {
            write_all(StreamKind::Stdout, bytes).map_err(LogsError::Write)
        } else {
            demux.feed(bytes, |frame| {
                write_all(frame.kind, frame.bytes).map_err(LogsError::Write)
            })
        };
        match written {
            Ok(()) => {}
            // The reader of a pipe has seen enough.
            Err(LogsError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(Failure::code(141));
            }
            Err(error) => return Err(Failure::from_chain(&error)),
        }
    }
}

/// Turns a time as users write it into the API's unix seconds with nanoseconds.
pub(crate) fn moment(text: &str) -> Result<String, Failure> {
    use time::format_description::well_known::Rfc3339;
    use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};
    let bad = || {
        Failure::new(format!(
            "invalid time {text:?}: use RFC 3339, unix seconds or a duration like 10m"
        ))
    };
    if text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    if let Ok(ns) = crate::flags::duration_ns(text) {
        return Ok((human::now() - ns / 1_000_000_000).to_string());
    }
    let local = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| PrimitiveDateTime::parse(text, local).map(PrimitiveDateTime::assume_utc))
        .or_else(|_| {
            let date = format_description!("[year]-[month]-[day]");
            time::Date::parse(text, date).map(|date| date.midnight().assume_utc())
        })
        .map_err(|_| bad())?;
    Ok(format!("{}.{:09}", at.unix_timestamp(), at.nanosecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let check = |text: &str, expected: &str| assert_eq!(moment(text).unwrap(), expected);
        check("1700000000", "1700000000");
        check("1970-01-01T00:00:05.5Z", "5.500000000");
        check("1970-01-02", "86400.000000000");
        check("1970-01-01T01:00:00+01:00", "0.000000000");
        moment("yesterday").unwrap_err();
        let ago: i64 = moment("10m").unwrap().parse().unwrap();
        assert!((human::now() - 600 - ago).abs() < 5);
    }
}
