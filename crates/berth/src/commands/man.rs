//! `berth man [COMMAND…]`: the manual page, in troff, on standard output.

use crate::cli::{self, Globals, Verb};
use crate::failure::Failure;
use std::process::ExitCode;

/// Arguments of `berth man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command to describe; none: berth itself
    #[arg(value_name = "COMMAND")]
    path: Vec<String>,
}

impl Verb for Args {
    fn run(self, _: &Globals) -> Result<ExitCode, Failure> {
        let mut command = cli::root(crate::COMMANDS);
        command.build();
        for name in &self.path {
            command = command
                .find_subcommand(name)
                .cloned()
                .ok_or_else(|| Failure::new(format!("no command {name:?}")))?;
        }
        clap_mangen::Man::new(command)
            .render(&mut std::io::stdout().lock())
            .map_err(|error| Failure::new(format!("write the manual page: {error}")))?;
        Ok(ExitCode::SUCCESS)
    }
}
