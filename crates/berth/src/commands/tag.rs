//! `berth tag`: another name for an image.

use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use client::{Query, Request};
use model::Reference;
use std::process::ExitCode;

/// Arguments of `berth tag`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// Its new name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let target: Reference = self
            .target
            .parse()
            .map_err(|error: model::InvalidReference| Failure::new(error.to_string()))?;
        if target.digest().is_some() {
            return Err(Failure::new(
                "refusing to create a tag with a digest reference",
            ));
        }
        let client = context::connect(globals)?;
        let request = Query::new("/images/{}/tag", &[&self.source])
            .with("repo", &target.familiar_name())
            .with("tag", target.tag().unwrap_or("latest"))
            .finish();
        client.call(Request::post(request))?;
        Ok(ExitCode::SUCCESS)
    }
}
