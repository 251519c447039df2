//! The OCI runtime command line, as containerd's and podman's monitors call it.
//!
//! `berth runtime create|start|state|kill|delete|exec|run|…` with runc's flags. Each call is a
//! process of its own; what they share is the record of [`state`] and the kernel.

mod args;
mod create;
mod describe;
mod exec;
mod manage;
mod state;
mod terminal;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
};

use args::{Args, Flag};
use state::Store;

use crate::launch::LaunchError;

/// What every command gets.
#[derive(Debug)]
struct Context {
    store: Store,
}

/// Why a command failed, and the status to end with.
#[derive(Debug)]
struct Failure {
    message: String,
    code: i32,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, code: 1 }
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        error.to_string().into()
    }
}

impl From<crate::cgroup::CgroupError> for Failure {
    fn from(error: crate::cgroup::CgroupError) -> Self {
        error.to_string().into()
    }
}

type Outcome = Result<i32, Failure>;

/// Kept in `/run`, which a reboot empties as it ends the containers.
const DEFAULT_ROOT: &str = "/run/berth/runtime";

const GLOBAL: &[Flag] = &[
    (&["root"], true),
    (&["log"], true),
    (&["log-format"], true),
    (&["log-level"], true),
    (&["debug"], false),
    (&["systemd-cgroup"], false),
    (&["cgroup-manager"], true),
    (&["rootless"], true),
    (&["criu"], true),
    (&["version", "v"], false),
    (&["help", "h"], false),
];

const USAGE: &str = "\
Usage: berth runtime [--root DIR] [--log FILE] [--log-format text|json] [--systemd-cgroup] COMMAND

Commands:
  create, run     make a container from a bundle (and start it)
  start           start a created container
  state           show a container as JSON
  exec            run a process in a container
  kill            send a signal
  delete          remove a container
  pause, resume   freeze and thaw
  update          change limits
  list, ps        show containers, and the processes of one
  features        show what this runtime can do
  spec            write a config.json to begin with
";

/// Runs one command; `args` are those after the program's name. Returns the exit status.
pub fn main(args: &[OsString]) -> i32 {
    let words: Vec<String> = args
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let globals = match Args::parse(&words, GLOBAL) {
        Ok(globals) => globals,
        Err(message) => {
            writeln!(io::stderr(), "berth runtime: {message}\n{USAGE}").ok();
            return 1;
        }
    };
    match dispatch(&globals) {
        Ok(code) => code,
        Err(failure) => {
            log(&globals, &failure.message);
            writeln!(io::stderr(), "berth runtime: {}", failure.message).ok();
            failure.code
        }
    }
}

fn dispatch(globals: &Args) -> Outcome {
    if globals.has("version") {
        return describe::version();
    }
    let Some((command, words)) = globals.rest.split_first().filter(|_| !globals.has("help")) else {
        print(USAGE)?;
        return Ok(i32::from(!globals.has("help")));
    };
    let root = PathBuf::from(globals.value("root").unwrap_or(DEFAULT_ROOT));
    let context = Context {
        store: Store { root },
    };
    match command.as_str() {
        "create" => create::create(&context, words),
        "run" => create::run(&context, words),
        "start" => create::start(&context, words),
        "exec" => exec::exec(&context, words),
        "state" => manage::state(&context, words),
        "kill" => manage::kill(&context, words),
        "delete" => manage::delete(&context, words),
        "pause" => manage::pause(&context, words),
        "resume" => manage::resume(&context, words),
        "update" => manage::update(&context, words),
        "list" => describe::list(&context, words),
        "ps" => describe::ps(&context, words),
        "features" => describe::features(),
        "spec" => describe::spec(words),
        "help" => print(USAGE).map(|()| 0),
        unknown => Err(format!("unknown command {unknown:?}").into()),
    }
}

/// Callers such as conmon read the reason of a failure here.
fn log(globals: &Args, message: &str) {
    let Some(path) = globals.value("log") else {
        return;
    };
    let line = if globals.value("log-format") == Some("json") {
        let time = describe::now();
        serde_json::json!({"level": "error", "msg": message, "time": time}).to_string()
    } else {
        format!("level=error msg={message:?}")
    };
    if let Ok(mut file) = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
    {
        writeln!(file, "{line}").ok();
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("write: {error}").into())
}
