//! The command line's frame: a table of commands, built only as far as the arguments need it.
//!
//! Building every flag of every command costs more than starting a container's process, so each
//! entry is deferred until clap meets its name. The file knows no command.

use crate::failure::Failure;
use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use std::ffi::OsString;
use std::process::ExitCode;

/// Exit code for flags that make no sense, as docker has it.
const USAGE: u8 = 125;
/// Exit code for a command that is none, or that misses an argument, as docker has it.
const NO_COMMAND: u8 = 1;

/// What every command is given besides its own arguments.
#[derive(Debug, Clone)]
pub(crate) struct Globals {
    /// `--host`: the daemon to speak to.
    pub(crate) host: Option<String>,
}

/// A command: its arguments, and what it does.
pub(crate) trait Verb: Args {
    /// Adjusts the derived command where derive cannot say it.
    fn shape(command: Command) -> Command {
        command
    }

    /// Does it.
    ///
    /// # Errors
    /// What to print, and the exit code.
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure>;
}

/// One line of the table of commands.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    name: &'static str,
    about: &'static str,
    aliases: &'static [&'static str],
    action: Action,
}

#[derive(Clone, Copy)]
enum Action {
    Run {
        build: fn(Command) -> Command,
        run: fn(&ArgMatches, &Globals) -> Result<ExitCode, Failure>,
    },
    Group(&'static [Entry]),
}

/// Makes a line of the table.
pub(crate) const fn command<V: Verb>(name: &'static str, about: &'static str) -> Entry {
    Entry {
        name,
        about,
        aliases: &[],
        action: Action::Run {
            build: build::<V>,
            run: run_verb::<V>,
        },
    }
}

/// Makes a line that stands for further lines: `berth image …`.
pub(crate) const fn group(
    name: &'static str,
    about: &'static str,
    entries: &'static [Entry],
) -> Entry {
    Entry {
        name,
        about,
        aliases: &[],
        action: Action::Group(entries),
    }
}

impl Entry {
    /// Gives a line further names.
    pub(crate) const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    fn command(&self) -> Command {
        let command = Command::new(self.name)
            .about(self.about)
            .visible_aliases(self.aliases);
        match self.action {
            Action::Run { build, .. } => command.defer(build),
            Action::Group(entries) => command
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommands(entries.iter().map(Self::command)),
        }
    }
}

fn build<V: Verb>(command: Command) -> Command {
    // The derived `about` would be the doc comment of the argument struct.
    let about = command.get_about().cloned();
    let command = go_booleans(V::shape(V::augment_args(command)));
    match about {
        Some(about) => command.about(about),
        None => command,
    }
}

/// Lets switches be written as Go's flags have them, too: `--rm=false`, `--sig-proxy=0`.
pub(crate) fn go_booleans(command: Command) -> Command {
    command.mut_args(|arg| {
        if !matches!(arg.get_action(), ArgAction::SetTrue) {
            return arg;
        }
        arg.action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .value_name("BOOL")
            .value_parser(go_boolean)
            .hide_default_value(true)
    })
}

fn go_boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false"),
    }
}

fn run_verb<V: Verb>(matches: &ArgMatches, globals: &Globals) -> Result<ExitCode, Failure> {
    let verb = V::from_arg_matches(matches).map_err(|error| usage(&error))?;
    verb.run(globals)
}

/// Builds the whole command, for help, completion and the manual page.
pub(crate) fn root(entries: &[Entry]) -> Command {
    Command::new("berth")
        .about("A container engine: docker's commands, one static binary, starts in milliseconds")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args_override_self(true)
        .arg(
            Arg::new("host")
                .short('H')
                .long("host")
                .value_name("URL")
                .action(ArgAction::Set)
                .help("Daemon to speak to: unix://PATH or tcp://HOST:PORT [env: BERTH_HOST, DOCKER_HOST]"),
        )
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .subcommands(entries.iter().map(Entry::command))
}

/// Parses the command line, runs the command, and turns the outcome into an exit code.
pub(crate) fn run(entries: &[Entry], args: impl Iterator<Item = OsString>) -> ExitCode {
    let matches = match root(entries).try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return report_usage(&error),
    };
    let globals = Globals {
        host: matches.get_one::<String>("host").cloned(),
    };
    dispatch(entries, &matches, &globals).unwrap_or_else(|failure| failure.report())
}

fn dispatch(
    entries: &[Entry],
    matches: &ArgMatches,
    globals: &Globals,
) -> Result<ExitCode, Failure> {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Failure::new("no command given").with_code(USAGE));
    };
    let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
        return Err(
            Failure::new(format!("berth: '{name}' is not a berth command")).with_code(NO_COMMAND),
        );
    };
    match entry.action {
        Action::Run { run, .. } => run(matches, globals),
        Action::Group(entries) => dispatch(entries, matches, globals),
    }
}

fn usage(error: &clap::Error) -> Failure {
    Failure::new(error.to_string().trim_end()).with_code(usage_code(error))
}

fn usage_code(error: &clap::Error) -> u8 {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSubcommand
        | ErrorKind::MissingSubcommand
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => NO_COMMAND,
        _ => USAGE,
    }
}

fn report_usage(error: &clap::Error) -> ExitCode {
    // Help and version go to stdout and are no errors. A closed stream leaves nobody to tell.
    error.print().ok();
    if error.use_stderr() {
        ExitCode::from(usage_code(error))
    } else {
        ExitCode::SUCCESS
    }
}
