//! `berth container prune` and `berth image prune`: removes what nothing uses.

use super::filter::filters;
use super::rmi;
use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output::{self, human};
use client::wire::{ContainersPruned, ImagesPruned};
use client::{Query, Request};
use std::io::{self, Write};
use std::process::ExitCode;

/// Arguments of `berth container prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Containers {
    /// Only those that match: until=24h, label=a=b
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Arguments of `berth image prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Images {
    /// All unused images, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Only those that match: until=24h, label=a=b
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Verb for Containers {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        if !self.force && !confirmed("This will remove all stopped containers.")? {
            return Ok(ExitCode::SUCCESS);
        }
        let client = context::connect(globals)?;
        let target = Query::new("/containers/prune", &[])
            .with_some("filters", filters(&self.filter)?.as_deref())
            .finish();
        let done: ContainersPruned = client.fetch(Request::post(target))?;
        if !done.containers_deleted.is_empty() {
            output::line(format!(
                "Deleted Containers:\n{}\n",
                done.containers_deleted.join("\n")
            ))?;
        }
        reclaimed(done.space_reclaimed)
    }
}

impl Verb for Images {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let warning = if self.all {
            "This will remove all images without at least one container associated to them."
        } else {
            "This will remove all dangling images."
        };
        if !self.force && !confirmed(warning)? {
            return Ok(ExitCode::SUCCESS);
        }
        let client = context::connect(globals)?;
        let mut filter = self.filter.clone();
        filter.push(format!("dangling={}", !self.all));
        let target = Query::new("/images/prune", &[])
            .with_some("filters", filters(&filter)?.as_deref())
            .finish();
        let done: ImagesPruned = client.fetch(Request::post(target))?;
        if !done.images_deleted.is_empty() {
            let lines = rmi::lines(&done.images_deleted).join("\n").to_lowercase();
            output::line(format!("Deleted Images:\n{lines}\n"))?;
        }
        reclaimed(done.space_reclaimed)
    }
}

fn reclaimed(bytes: u64) -> Result<ExitCode, Failure> {
    output::line(format!("Total reclaimed space: {}", human::size(bytes)))?;
    Ok(ExitCode::SUCCESS)
}

fn confirmed(warning: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout();
    let asked = write!(
        stdout,
        "WARNING! {warning}\nAre you sure you want to continue? [y/N] "
    )
    .and_then(|()| stdout.flush());
    let mut answer = String::new();
    asked
        .and_then(|()| io::stdin().read_line(&mut answer))
        .map_err(|error| Failure::new(format!("ask: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
