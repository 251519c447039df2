//! The `berth` program: a table of contents.
//!
//! One binary plays every role. The hidden roles are looked at before the command line is built,
//! because a container's start executes them; then come the commands, one file each.

mod cli;
mod commands;
mod failure;

use cli::{Entry, command, group};
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
    cli::run(COMMANDS, std::env::args_os())
}
