//! `berth wait`: until containers stop; prints their exit codes.

use super::each::each;
use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use client::wire::Waited;
use client::{Query, Request};
use std::process::ExitCode;

/// Arguments of `berth wait`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let client = context::connect(globals)?;
        each(&self.containers, |name| {
            let target = Query::new("/containers/{}/wait", &[name]).finish();
            let waited: Waited = client.fetch(Request::post(target))?;
            match waited.error {
                Some(error) if !error.message.is_empty() => Err(Failure::new(error.message)),
                _ => Ok(waited.status_code.to_string()),
            }
        })
    }
}
