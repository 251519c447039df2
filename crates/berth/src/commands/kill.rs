//! `berth kill`: one signal.

use super::each::each;
use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use client::{Query, Request};
use std::process::ExitCode;

/// Arguments of `berth kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Signal to send [default: KILL]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let client = context::connect(globals)?;
        each(&self.containers, |name| {
            let target = Query::new("/containers/{}/kill", &[name])
                .with_some("signal", self.signal.as_deref())
                .finish();
            client.call(Request::post(target))?;
            Ok(name.to_owned())
        })
    }
}
