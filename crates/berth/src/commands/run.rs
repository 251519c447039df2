//! `berth run`: create (pulling the image if it is missing), attach, wait, start, stream, exit
//! with the container's code.
//!
//! Attach and wait are in place before the start, so no output and no exit can be missed, however
//! short the command. Their connections are made while the daemon creates.

#![expect(clippy::doc_markdown, reason = "doc comments of flags are help text")]

use crate::cli::{Globals, Verb};
use crate::commands::create::{self, Creation};
use crate::commands::start;
use crate::context;
use crate::detach_keys::DetachKeys;
use crate::exit_watch::{self, Condition, ExitWatch};
use crate::failure::Failure;
use crate::flags::ContainerArgs;
use crate::session::{End, Session};
use crate::signals;
use crate::terminal;
use crate::trace::Tracer;
use clap::Command;
use client::wire::CreateBody;
use client::{Client, ClientError, Pending, Query, Request};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code when the daemon, not the command, failed.
pub(crate) const DAEMON_ERROR: u8 = 125;

/// Arguments of `berth run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    container: ContainerArgs,
    /// Run in the background and print the container's ID
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Pass signals on to the process [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Show each step of the start, who did it and how long it took: on stderr, or to a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    trace: Option<PathBuf>,
    /// text, or json: trace events for Perfetto or chrome://tracing [default: text, json for a file named *.json]
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"], hide_possible_values = true, requires = "trace")]
    trace_format: Option<String>,
}

impl Verb for Args {
    fn shape(command: Command) -> Command {
        create::without_short_help(command)
    }

    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        run(&self, globals).map_err(|failure| failure.or_code(DAEMON_ERROR))
    }
}

fn run(args: &Args, globals: &Globals) -> Result<ExitCode, Failure> {
    let mut body = create::body(&args.container)?;
    let keys = check(args, &body)?;
    if args.detach {
        body.attach_stdin = false;
        body.attach_stdout = false;
        body.attach_stderr = false;
        body.stdin_once = false;
    }
    if body.tty {
        body.host_config.console_size = terminal::size();
    }
    let mut tracer = Tracer::new(args.trace.as_deref(), args.trace_format.as_deref())?;
    let connecting = tracer.begin("connect to the daemon");
    let client = context::connect(globals)?.with_trace(tracer.id());
    tracer.end(connecting);
    let creation = Creation::new(&args.container, &body)?;
    let creating = tracer.begin("POST /containers/create");
    let id = creation.run(&client)?;
    tracer.end(creating);
    if args.detach {
        let starting = tracer.begin("POST /containers/start");
        start_container(&client, &id, "")?;
        tracer.end(starting);
        writeln!(std::io::stdout(), "{id}")
            .map_err(|error| Failure::new(format!("write to stdout: {error}")))?;
        tracer.finish(&client);
        return Ok(ExitCode::SUCCESS);
    }
    attached(&client, &id, Attached { args, body, keys }, tracer)
}

/// What an attached run needs.
struct Attached<'a> {
    args: &'a Args,
    body: CreateBody,
    keys: DetachKeys,
}

fn attached(
    client: &Client,
    id: &str,
    run: Attached<'_>,
    mut tracer: Tracer,
) -> Result<ExitCode, Failure> {
    let Attached { args, body, keys } = run;
    let streams = Streams {
        stdin: body.attach_stdin,
        stdout: body.attach_stdout,
        stderr: body.attach_stderr,
    };
    let detach_keys = args.detach_keys.as_deref().unwrap_or_default();
    let attaching = tracer.begin("attach and wait");
    let attach = attach(client, id, streams, detach_keys)?;
    let condition = if body.host_config.auto_remove {
        Condition::Removed
    } else {
        Condition::NextExit
    };
    let wait = exit_watch::begin(client, id, condition)?;
    // While the daemon makes both ready.
    let resize = format!("/containers/{id}/resize");
    let _signals = body
        .tty
        .then(|| start::terminal_signals(client, &resize))
        .transpose()?;
    let mut signals = (!body.tty && args.sig_proxy)
        .then(|| start::proxied_signals(client, id))
        .transpose()?;
    let connection = attach.hijacked()?;
    let mut watch = ExitWatch::new(client, id, condition, wait)?;
    tracer.end(attaching);
    let raw = start::raw_mode(body.tty && streams.stdin)?;
    let starting = tracer.begin("POST /containers/start");
    start_container(client, id, detach_keys)?;
    tracer.end(starting);
    if body.tty && terminal::stdout_is_terminal() {
        // Docker 20.10 has no console size at create; a container that is gone by now needs none.
        signals::resize(client, &resize).ok();
    }
    if !body.tty {
        tracer.finish(client);
    }
    let session = Session {
        connection,
        tty: body.tty,
        stdin: streams.stdin,
        resize: body.tty.then_some(resize),
        detach_keys: (body.tty && streams.stdin).then_some(keys),
    };
    let end = session.run(Some(&mut watch), signals.as_mut());
    drop(raw);
    if body.tty {
        // Raw mode and the container's own drawing are over.
        tracer.finish(client);
    }
    match end? {
        End::Detached => {
            writeln!(std::io::stderr(), "read escape sequence").ok();
            Ok(ExitCode::SUCCESS)
        }
        End::Closed => watch.finish(signals).map(ExitCode::from),
    }
}

/// Refuses what makes no sense before the daemon hears of it.
fn check(args: &Args, body: &CreateBody) -> Result<DetachKeys, Failure> {
    if args.detach && !args.container.attach.is_empty() {
        return Err(Failure::new(
            "conflicting options: cannot specify both --attach and --detach",
        ));
    }
    if !args.detach {
        check_terminal(body.attach_stdin && body.tty)?;
    }
    let keys = args.detach_keys.as_deref().unwrap_or_default();
    keys.parse()
        .map_err(|error: crate::detach_keys::InvalidKeys| Failure::new(error.to_string()))
}

/// Refuses a terminal for the container where the user has none to give.
pub(crate) fn check_terminal(wanted: bool) -> Result<(), Failure> {
    if wanted && !terminal::stdin_is_terminal() {
        // Not the daemon's error, so not 125: docker has it so.
        return Err(Failure::new("the input device is not a TTY").with_code(1));
    }
    Ok(())
}

/// Which streams to attach.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "three independent streams")]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// Asks for a container's streams.
pub(crate) fn attach(
    client: &Client,
    id: &str,
    streams: Streams,
    detach_keys: &str,
) -> Result<Pending, ClientError> {
    let target = Query::new("/containers/{}/attach", &[id])
        .flag("stream", true)
        .flag("stdin", streams.stdin)
        .flag("stdout", streams.stdout)
        .flag("stderr", streams.stderr)
        .with_some(
            "detachKeys",
            Some(detach_keys).filter(|keys| !keys.is_empty()),
        )
        .finish();
    client.begin(Request::post(target).upgrade())
}

/// Starts a container; a command that cannot be executed ends with docker's 126 or 127.
pub(crate) fn start_container(client: &Client, id: &str, detach_keys: &str) -> Result<(), Failure> {
    let target = Query::new("/containers/{}/start", &[id])
        .with_some(
            "detachKeys",
            Some(detach_keys).filter(|keys| !keys.is_empty()),
        )
        .finish();
    match client.call(Request::post(target)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let code = start_code(&error.to_string());
            Err(Failure::from(error).with_code(code))
        }
    }
}

/// Docker's client, too, reads the words.
fn start_code(message: &str) -> u8 {
    let message = message.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if any(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        127
    } else if any(&["permission denied", "is a directory", "exec format error"]) {
        126
    } else {
        DAEMON_ERROR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_errors() {
        let check = |message: &str, code| assert_eq!(start_code(message), code, "{message}");
        check("exec: \"foo\": executable file not found in $PATH", 127);
        check("exec: \"/foo\": stat /foo: no such file or directory", 127);
        check("exec: \"/etc\": permission denied", 126);
        check("exec: \"/etc\": is a directory", 126);
        check("driver failed programming external connectivity", 125);
    }
}
