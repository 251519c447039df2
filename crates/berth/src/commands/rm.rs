//! `berth rm`: removes containers.

use super::each::each;
use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use client::{Query, Request};
use std::process::ExitCode;

/// Arguments of `berth rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Kill running containers first
    #[arg(short, long)]
    force: bool,
    /// Remove their anonymous volumes, too
    #[arg(short, long)]
    volumes: bool,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let client = context::connect(globals)?;
        each(&self.containers, |name| {
            let target = Query::new("/containers/{}", &[name.trim_start_matches('/')])
                .flag("v", self.volumes)
                .flag("force", self.force)
                .finish();
            client.call(Request::delete(target))?;
            Ok(name.to_owned())
        })
    }
}
