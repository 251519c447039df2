//! `berth import`: an image from a tar of a root file system.

use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output;
use client::wire::Progress;
use client::{Client, Query, Request};
use model::Reference;
use std::fs::File;
use std::io::Read;
use std::process::ExitCode;

/// Arguments of `berth import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tar (plain, gzip or zstd), or - for stdin
    file: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
    /// Apply a Dockerfile instruction: CMD, ENV, …
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Remark for the image's history
    #[arg(short, long)]
    message: Option<String>,
    /// Platform: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let mut source: Box<dyn Read> = match self.file.as_str() {
            "-" => Box::new(std::io::stdin().lock()),
            path => Box::new(
                File::open(path).map_err(|error| Failure::new(format!("open {path}: {error}")))?,
            ),
        };
        let reference = self
            .reference
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error: model::InvalidReference| Failure::new(error.to_string()))?;
        let client = context::connect(globals)?;
        let import = Import {
            reference: reference.as_ref(),
            changes: &self.change,
            message: self.message.as_deref(),
            platform: self.platform.as_deref(),
        };
        output::line(import.send(&client, &mut *source)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What an imported image is to be.
pub(crate) struct Import<'a> {
    pub(crate) reference: Option<&'a Reference>,
    pub(crate) changes: &'a [String],
    pub(crate) message: Option<&'a str>,
    pub(crate) platform: Option<&'a str>,
}

impl Import<'_> {
    /// Sends the tar; returns the image's ID.
    ///
    /// # Errors
    /// The tar is not readable or not acceptable.
    pub(crate) fn send(&self, client: &Client, tar: &mut dyn Read) -> Result<String, Failure> {
        let mut target = Query::new("/images/create", &[]).with("fromSrc", "-");
        if let Some(reference) = self.reference {
            target = target
                .with("repo", &reference.familiar_name())
                .with("tag", reference.tag().unwrap_or("latest"));
        }
        for change in self.changes {
            target = target.with("changes", change);
        }
        let target = target
            .with_some("message", self.message)
            .with_some("platform", self.platform)
            .finish();
        let response = client.send(Request::post(target).stream(tar))?;
        let mut last = String::new();
        for line in serde_json::Deserializer::from_reader(response).into_iter::<Progress>() {
            let line = line
                .map_err(|error| Failure::new(format!("the daemon's answer broke off: {error}")))?;
            if let Some(error) = line.error {
                return Err(Failure::new(error));
            }
            last = line.status;
        }
        Ok(last)
    }
}
