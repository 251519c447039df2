//! `berth completion bash|zsh|fish`: a script for the user's shell, on standard output.

use crate::cli::{self, Entry, Globals, Verb, command};
use crate::failure::Failure;
use clap_complete::Shell;
use std::process::ExitCode;

/// The shells there are scripts for.
pub(crate) const COMMANDS: &[Entry] = &[
    command::<Bash>("bash", "For bash: source <(berth completion bash)"),
    command::<Zsh>("zsh", "For zsh: save as _berth in a directory of $fpath"),
    command::<Fish>("fish", "For fish: berth completion fish | source"),
];

/// Arguments of `completion bash`.
#[derive(Debug, clap::Args)]
pub(crate) struct Bash {}

/// Arguments of `completion zsh`.
#[derive(Debug, clap::Args)]
pub(crate) struct Zsh {}

/// Arguments of `completion fish`.
#[derive(Debug, clap::Args)]
pub(crate) struct Fish {}

impl Verb for Bash {
    fn run(self, _: &Globals) -> Result<ExitCode, Failure> {
        Ok(write(Shell::Bash))
    }
}

impl Verb for Zsh {
    fn run(self, _: &Globals) -> Result<ExitCode, Failure> {
        Ok(write(Shell::Zsh))
    }
}

impl Verb for Fish {
    fn run(self, _: &Globals) -> Result<ExitCode, Failure> {
        Ok(write(Shell::Fish))
    }
}

fn write(shell: Shell) -> ExitCode {
    let mut root = cli::root(crate::COMMANDS);
    clap_complete::generate(shell, &mut root, "berth", &mut std::io::stdout());
    ExitCode::SUCCESS
}
