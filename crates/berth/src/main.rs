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
mod output;
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
    RUN,
    CREATE,
    START,
    ATTACH,
    EXEC,
    command::<commands::ps::Args>("ps", "List containers"),
    LOGS,
    STOP,
    KILL,
    WAIT,
    RESTART,
    RENAME,
    RM,
    TOP,
    command::<commands::inspect::Args>("inspect", "Show everything known of containers or images"),
    PULL,
    command::<commands::images::Args>("images", "List images"),
    command::<commands::rmi::Args>("rmi", "Remove images"),
    TAG,
    HISTORY,
    IMPORT,
    group("container", "Commands for containers", CONTAINER),
    group("image", "Commands for images", IMAGE),
    group("system", "Commands for the daemon and its machine", SYSTEM),
    EVENTS,
    INFO,
    command::<commands::version::Args>("version", "Show the versions of client and daemon"),
    command::<commands::daemon::Args>("daemon", "Run the daemon"),
    group(
        "completion",
        "Write a shell completion script to standard output",
        commands::completion::COMMANDS,
    ),
    command::<commands::man::Args>("man", "Write the manual page to standard output"),
];

const CONTAINER: &[Entry] = &[
    RUN,
    CREATE,
    START,
    ATTACH,
    EXEC,
    command::<commands::ps::Args>("ls", "List containers").or(&["list", "ps"]),
    LOGS,
    STOP,
    KILL,
    WAIT,
    RESTART,
    RENAME,
    RM.or(&["remove"]),
    TOP,
    command::<commands::inspect::Container>("inspect", "Show everything known of containers"),
    command::<commands::prune::Containers>("prune", "Remove all stopped containers"),
];

const IMAGE: &[Entry] = &[
    PULL,
    command::<commands::images::Args>("ls", "List images").or(&["list"]),
    command::<commands::rmi::Args>("rm", "Remove images").or(&["remove"]),
    TAG,
    HISTORY,
    IMPORT,
    command::<commands::inspect::Image>("inspect", "Show everything known of images"),
    command::<commands::prune::Images>("prune", "Remove unused images"),
    command::<commands::bootstrap::Args>(
        "bootstrap",
        "Make a Debian image from this machine's package source, without a registry",
    ),
];

const SYSTEM: &[Entry] = &[INFO, EVENTS];

const RUN: Entry = command::<commands::run::Args>("run", "Create and run a container");
const CREATE: Entry =
    command::<commands::create::Args>("create", "Create a container without starting it");
const START: Entry = command::<commands::start::Args>("start", "Start stopped containers");
const ATTACH: Entry =
    command::<commands::attach::Args>("attach", "Attach to a running container's streams");
const EXEC: Entry =
    command::<commands::exec::Args>("exec", "Run another command in a running container");
const LOGS: Entry = command::<commands::logs::Args>("logs", "Show what a container printed");
const STOP: Entry = command::<commands::stop::Args>("stop", "Stop containers");
const KILL: Entry = command::<commands::kill::Args>("kill", "Send containers a signal");
const WAIT: Entry =
    command::<commands::wait::Args>("wait", "Wait until containers stop, print their exit codes");
const RESTART: Entry = command::<commands::stop::Restart>("restart", "Stop and start containers");
const RENAME: Entry = command::<commands::rename::Args>("rename", "Rename a container");
const RM: Entry = command::<commands::rm::Args>("rm", "Remove containers");
const TOP: Entry = command::<commands::top::Args>("top", "List a container's processes");
const PULL: Entry = command::<commands::pull::Args>("pull", "Download an image from a registry");
const TAG: Entry = command::<commands::tag::Args>("tag", "Give an image another name");
const HISTORY: Entry =
    command::<commands::history::Args>("history", "Show the steps an image was made of");
const IMPORT: Entry =
    command::<commands::import::Args>("import", "Make an image from a tar of a root file system");
const EVENTS: Entry = command::<commands::events::Args>("events", "Show what happens");
const INFO: Entry = command::<commands::info::Args>("info", "Describe the daemon and its machine");

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(status) = roles::play(&arguments) {
        return status;
    }
    cli::run(COMMANDS, arguments.into_iter())
}
