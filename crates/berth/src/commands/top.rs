//! `berth top`: a container's processes.

use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output;
use client::Query;
use client::wire::Top;
use std::process::ExitCode;

/// Arguments of `berth top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container, then options of ps
    #[arg(value_names = ["CONTAINER", "PS_OPTION"], required = true, num_args = 1.., trailing_var_arg = true)]
    container_and_options: Vec<String>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let client = context::connect(globals)?;
        let Some((container, options)) = self.container_and_options.split_first() else {
            return Err(Failure::new("a container is needed"));
        };
        let options = options.join(" ");
        let target = Query::new("/containers/{}/top", &[container])
            .with_some(
                "ps_args",
                Some(options.as_str()).filter(|options| !options.is_empty()),
            )
            .finish();
        let top: Top = client.get(target)?;
        let mut lines = vec![top.titles.join("\t")];
        lines.extend(top.processes.iter().map(|row| row.join("\t")));
        output::write_all(output::align(&lines).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
