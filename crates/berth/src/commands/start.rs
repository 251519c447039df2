//! `berth start`: starts stopped containers; `-ai` is `run` without the creating.

use super::each::each;
use super::run::{self, DAEMON_ERROR, Streams};
use crate::cli::{Globals, Verb};
use crate::context;
use crate::detach_keys::DetachKeys;
use crate::exit_watch::{self, Condition, ExitWatch};
use crate::failure::Failure;
use crate::session::{End, Session};
use crate::signals::{self, SignalPipe, SignalThread};
use crate::terminal::{self, RawMode};
use client::wire::ContainerInspect;
use client::{Client, Query};
use std::io::Write;
use std::process::ExitCode;

/// Arguments of `berth start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Show their output and pass signals on
    #[arg(short, long)]
    attach: bool,
    /// Pass stdin on
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let keys = self.detach_keys.as_deref().unwrap_or_default();
        let client = context::connect(globals)?;
        if !self.attach && !self.interactive {
            return each(&self.containers, |name| {
                run::start_container(&client, name, keys)?;
                Ok(name.to_owned())
            });
        }
        let [name] = &self.containers[..] else {
            return Err(Failure::new(
                "you cannot start and attach multiple containers at once",
            ));
        };
        let container: ContainerInspect =
            client.get(Query::new("/containers/{}/json", &[name]).finish())?;
        attached(
            &client,
            &container,
            &Wish {
                stdin: self.interactive,
                keys,
                start: true,
                proxy: true,
            },
        )
    }
}

/// How to attach to a container that exists.
#[expect(clippy::struct_excessive_bools, reason = "independent wishes")]
pub(crate) struct Wish<'a> {
    /// Pass stdin on, if the container has one.
    pub(crate) stdin: bool,
    /// Detach keys; empty: docker's.
    pub(crate) keys: &'a str,
    /// Start it once attached.
    pub(crate) start: bool,
    /// Pass signals on if there is no terminal.
    pub(crate) proxy: bool,
}

/// Attaches, starts if wished, streams, and gives the container's exit code.
///
/// # Errors
/// The daemon refuses, or the streams break.
pub(crate) fn attached(
    client: &Client,
    container: &ContainerInspect,
    wish: &Wish<'_>,
) -> Result<ExitCode, Failure> {
    let (id, tty) = (container.id.as_str(), container.config.tty);
    let streams = Streams {
        stdin: wish.stdin && container.config.open_stdin,
        stdout: true,
        stderr: true,
    };
    run::check_terminal(streams.stdin && tty)?;
    let keys: DetachKeys = wish
        .keys
        .parse()
        .map_err(|error: crate::detach_keys::InvalidKeys| Failure::new(error.to_string()))?;
    let condition = match (wish.start, container.host_config.auto_remove) {
        (_, true) => Condition::Removed,
        (true, false) => Condition::NextExit,
        (false, false) => Condition::NotRunning,
    };
    let attach = run::attach(client, id, streams, wish.keys)?;
    let wait = exit_watch::begin(client, id, condition)?;
    let connection = attach.hijacked()?;
    let mut watch = ExitWatch::new(client, id, condition, wait)?;
    let resize = format!("/containers/{id}/resize");
    let _signals = tty.then(|| terminal_signals(client, &resize)).transpose()?;
    let mut signals = (!tty && wish.proxy)
        .then(|| proxied_signals(client, id))
        .transpose()?;
    let raw = raw_mode(streams.stdin && tty)?;
    if wish.start {
        run::start_container(client, id, wish.keys)?;
    }
    if tty && terminal::stdout_is_terminal() {
        signals::resize(client, &resize).ok();
    }
    let session = Session {
        connection,
        tty,
        stdin: streams.stdin,
        resize: tty.then_some(resize),
        detach_keys: (tty && streams.stdin).then_some(keys),
    };
    let end = session.run(Some(&mut watch), signals.as_mut());
    drop(raw);
    match end.map_err(|failure| failure.or_code(DAEMON_ERROR))? {
        End::Detached => {
            writeln!(std::io::stderr(), "read escape sequence").ok();
            Ok(ExitCode::SUCCESS)
        }
        End::Closed => watch.finish(signals).map(ExitCode::from),
    }
}

/// Watches signals for a terminal whose size goes to `resize`.
pub(crate) fn terminal_signals(client: &Client, resize: &str) -> Result<SignalThread, Failure> {
    SignalThread::for_terminal(client.host().clone(), resize.to_owned()).map_err(no_signals)
}

/// Watches signals to pass on to a container.
pub(crate) fn proxied_signals(client: &Client, id: &str) -> Result<SignalPipe, Failure> {
    SignalPipe::new(client.host().clone(), id.to_owned()).map_err(no_signals)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn no_signals(error: std::io::Error) -> Failure {
    Failure::new(format!("watch signals: {error}"))
}

/// Enters raw mode if it is wanted and stdin is a terminal.
pub(crate) fn raw_mode(wanted: bool) -> Result<Option<RawMode>, Failure> {
    if !wanted || !terminal::stdin_is_terminal() {
        return Ok(None);
    }
    RawMode::enter()
        .map(Some)
        .map_err(|error| Failure::new(format!("set the terminal to raw mode: {error}")))
}
