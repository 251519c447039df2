//! The `berth` program: a table of contents.
//!
//! One binary plays every role. The hidden roles are looked at before the command line is built,
//! because a container's start executes them; then come the commands, one file each.

mod cli;
mod commands;
mod failure;

use cli::{Entry, command, group};
use std::ffi::OsString;
use std::process::ExitCode;

/// Every command, in the order of the help text.
const COMMANDS: &[Entry] = &[
    command::<commands::daemon::Args>("daemon", "Run the daemon"),
    group(
        "completion",
        "Write a shell completion script to standard output",
        commands::completion::COMMANDS,
    ),
    command::<commands::man::Args>("man", "Write the manual page to standard output"),
];

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|role| role == "shim") {
        return runtime::shim::main(&arguments[1..]);
    }
    cli::run(COMMANDS, std::env::args_os())
}
