//! `berth rmi`: removes images, or only their names.

use super::each::each;
use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use client::wire::ImageDelete;
use client::{Query, Request};
use std::process::ExitCode;

/// Arguments of `berth rmi`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Even if stopped containers use it or it has several names
    #[arg(short, long)]
    force: bool,
    /// Keep untagged parents
    #[arg(long)]
    no_prune: bool,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let client = context::connect(globals)?;
        each(&self.images, |name| {
            let target = Query::new("/images/{}", &[name])
                .flag("force", self.force)
                .flag("noprune", self.no_prune)
                .finish();
            let done: Vec<ImageDelete> = client.fetch(Request::delete(target))?;
            Ok(lines(&done).join("\n"))
        })
    }
}

/// Says what was done, as docker does.
pub(crate) fn lines(done: &[ImageDelete]) -> Vec<String> {
    done.iter()
        .map(|item| {
            if item.deleted.is_empty() {
                format!("Untagged: {}", item.untagged)
            } else {
                format!("Deleted: {}", item.deleted)
            }
        })
        .collect()
}
