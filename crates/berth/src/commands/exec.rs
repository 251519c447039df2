//! `berth exec`: another process in a running container.

use super::run::{self, DAEMON_ERROR};
use super::start::{raw_mode, terminal_signals};
use crate::cli::{Globals, Verb};
use crate::context;
use crate::detach_keys::DetachKeys;
use crate::failure::Failure;
use crate::flags;
use crate::session::{End, Session};
use crate::signals;
use crate::terminal;
use client::wire::{Created, ExecBody, ExecInspect, ExecStart};
use client::{Client, Query, Request};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `berth exec`.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "docker's own independent switches"
)]
pub(crate) struct Args {
    /// The container, then the command and its arguments
    #[arg(value_names = ["CONTAINER", "COMMAND"], required = true, num_args = 2.., trailing_var_arg = true)]
    container_and_command: Vec<String>,
    /// Run in the background
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the process running
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Keep stdin open
    #[arg(short, long)]
    interactive: bool,
    /// Every capability
    #[arg(long)]
    privileged: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// User (and group): name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let keys_text = self.detach_keys.clone().unwrap_or_default();
        let keys: DetachKeys = keys_text
            .parse()
            .map_err(|error: crate::detach_keys::InvalidKeys| Failure::new(error.to_string()))?;
        let attach_stdin = self.interactive && !self.detach;
        run::check_terminal(attach_stdin && self.tty)?;
        let Some((container, command)) = self.container_and_command.split_first() else {
            return Err(Failure::new("a container and a command are needed"));
        };
        let size = self.tty.then(terminal::size).flatten();
        let body = ExecBody {
            attach_stdin,
            attach_stdout: !self.detach,
            attach_stderr: !self.detach,
            detach_keys: keys_text,
            tty: self.tty,
            console_size: size,
            env: flags::environment(&self.env_file, &self.env, &|name| std::env::var(name).ok())
                .map_err(|error| Failure::new(error.to_string()))?,
            cmd: command.to_vec(),
            privileged: self.privileged,
            user: self.user.clone().unwrap_or_default(),
            working_dir: self.workdir.clone().unwrap_or_default(),
        };
        let client = context::connect(globals)?;
        let target = Query::new("/containers/{}/exec", &[container]).finish();
        let created: Created = client.fetch(Request::post(target).json(&body))?;
        let begin = ExecStart {
            detach: self.detach,
            tty: self.tty,
            console_size: size,
        };
        let target = Query::new("/exec/{}/start", &[&created.id]).finish();
        let request = Request::post(target).json(&begin);
        if self.detach {
            client.call(request)?;
            return Ok(ExitCode::SUCCESS);
        }
        let connection = client.begin(request.upgrade())?.hijacked()?;
        let session = Session {
            connection,
            tty: self.tty,
            stdin: attach_stdin,
            // The daemon's end is the exec's end for us: nothing watches it.
            resize: None,
            detach_keys: (self.tty && attach_stdin).then_some(keys),
        };
        stream(&client, &created.id, session)
    }
}

fn stream(client: &Client, id: &str, session: Session) -> Result<ExitCode, Failure> {
    let resize = format!("/exec/{id}/resize");
    // Docker passes no signals on to an exec.
    let _signals = session
        .tty
        .then(|| terminal_signals(client, &resize))
        .transpose()?;
    let raw = raw_mode(session.tty && session.stdin)?;
    if session.tty && terminal::stdout_is_terminal() {
        // It may be over by now.
        signals::resize(client, &resize).ok();
    }
    let end = session.run(None, None);
    drop(raw);
    if end.map_err(|failure| failure.or_code(DAEMON_ERROR))? == End::Detached {
        writeln!(std::io::stderr(), "read escape sequence").ok();
        return Ok(ExitCode::SUCCESS);
    }
    let target = Query::new("/exec/{}/json", &[id]).finish();
    let exec: ExecInspect = client.get(target)?;
    let code = exec.exit_code.unwrap_or_default();
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(DAEMON_ERROR)))
}
