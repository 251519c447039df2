//! `berth stop` and `berth restart`: the stop signal, and SIGKILL after a while.

use super::each::each;
use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use client::{Query, Request};
use std::process::ExitCode;

/// Arguments of `berth stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
}

/// Arguments of `berth restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Signal to send
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds to wait before killing; -1: for ever
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    time: Option<i64>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        run(&self.common, "/containers/{}/stop", globals)
    }
}

impl Verb for Restart {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        run(&self.common, "/containers/{}/restart", globals)
    }
}

fn run(args: &Common, path: &str, globals: &Globals) -> Result<ExitCode, Failure> {
    let client = context::connect(globals)?;
    let time = args.time.map(|seconds| seconds.to_string());
    each(&args.containers, |name| {
        let target = Query::new(path, &[name])
            .with_some("signal", args.signal.as_deref())
            .with_some("t", time.as_deref())
            .finish();
        client.call(Request::post(target))?;
        Ok(name.to_owned())
    })
}
