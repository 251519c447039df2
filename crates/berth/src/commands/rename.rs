//! `berth rename`.

use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use client::{Query, Request};
use std::process::ExitCode;

/// Arguments of `berth rename`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    container: String,
    /// Its new name
    name: String,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let client = context::connect(globals)?;
        let target = Query::new("/containers/{}/rename", &[&self.container])
            .with("name", &self.name)
            .finish();
        client.call(Request::post(target))?;
        Ok(ExitCode::SUCCESS)
    }
}
