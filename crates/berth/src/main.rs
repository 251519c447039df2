//! The `berth` program: a table of contents.
//!
//! One binary plays every role. The hidden roles are looked at before the command line is built,
//! because a container's start executes them; then come the commands, one file each.

mod autostart;
mod cli;
mod commands;
mod context;
mod detach_keys;
mod exit_watch;
mod failure;
mod flags;
mod progress;
mod roles;
mod session;
mod signals;
mod terminal;
mod trace;

use cli::{Entry, command, group};
use std::ffi::OsString;
use std::process::ExitCode;

/// Every command, in the order of the help text.
const COMMANDS: &[Entry] = &[
    command::<commands::run::Args>("run", "Create and run a container"),
    command::<commands::create::Args>("create", "Create a container without starting it"),
    command::<commands::pull::Args>("pull", "Download an image from a registry"),
    command::<commands::daemon::Args>("daemon", "Run the daemon"),
    group(
        "completion",
        "Write a shell completion script to standard output",
        commands::completion::COMMANDS,
    ),
    command::<commands::man::Args>("man", "Write the manual page to standard output"),
];

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(status) = roles::play(&arguments) {
        return status;
    }
    cli::run(COMMANDS, arguments.into_iter())
}
