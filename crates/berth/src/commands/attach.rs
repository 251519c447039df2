//! `berth attach`: the streams of a running container.

use super::start::{self, Wish};
use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use client::Query;
use client::wire::ContainerInspect;
use std::process::ExitCode;

/// Arguments of `berth attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    container: String,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Do not pass stdin on
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the process [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let client = context::connect(globals)?;
        let target = Query::new("/containers/{}/json", &[&self.container]).finish();
        let container: ContainerInspect = client.get(target)?;
        let state = &container.state;
        let refusal = if !state.running {
            Some("cannot attach to a stopped container, start it first")
        } else if state.paused {
            Some("cannot attach to a paused container, unpause it first")
        } else if state.restarting {
            Some("cannot attach to a restarting container, wait until it is running")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return Err(Failure::new(refusal));
        }
        let wish = Wish {
            stdin: !self.no_stdin,
            keys: self.detach_keys.as_deref().unwrap_or_default(),
            start: false,
            proxy: self.sig_proxy,
        };
        start::attached(&client, &container, &wish)
    }
}
