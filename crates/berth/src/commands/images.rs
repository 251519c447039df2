//! `berth images`: images in a table.

use super::filter::filters;
use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output::{Layout, human, line, print_rows};
use client::Query;
use client::wire::ImageSummary;
use serde_json::{Value, json};
use std::process::ExitCode;

const LAYOUT: Layout = Layout {
    columns: &["Repository", "Tag", "ID", "CreatedSince", "Size"],
    headings: &[("ID", "IMAGE ID"), ("CreatedSince", "CREATED")],
};

const WITH_DIGESTS: Layout = Layout {
    columns: &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"],
    ..LAYOUT
};

/// Arguments of `berth images`.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "docker's own independent switches"
)]
pub(crate) struct Args {
    /// Only this repository, or this reference
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
    /// Intermediate ones, too
    #[arg(short, long)]
    all: bool,
    /// Their digests
    #[arg(long)]
    digests: bool,
    /// Only those that match: dangling=true, label=a=b, reference=PATTERN, …
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// json, table TEMPLATE, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not cut anything
    #[arg(long)]
    no_trunc: bool,
    /// Only IDs
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let client = context::connect(globals)?;
        let mut filter = self.filter.clone();
        filter.extend(
            self.reference
                .iter()
                .map(|name| format!("reference={name}")),
        );
        let target = Query::new("/images/json", &[])
            .flag("all", self.all)
            .flag("digests", self.digests)
            .with_some("filters", filters(&filter)?.as_deref())
            .finish();
        let list: Vec<ImageSummary> = client.get(target)?;
        if self.quiet && self.format.is_none() {
            for image in &list {
                line(self.id(image))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Value> = list.iter().flat_map(|image| self.rows(image)).collect();
        let layout = if self.digests { &WITH_DIGESTS } else { &LAYOUT };
        print_rows(layout, &rows, self.format.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Args {
    fn id(&self, image: &ImageSummary) -> String {
        if self.no_trunc {
            image.id.clone()
        } else {
            human::short_id(&image.id)
        }
    }

    /// Gives a row for each tag; an image that has none gets one with `<none>`.
    fn rows(&self, image: &ImageSummary) -> Vec<Value> {
        let row = |repository: &str, tag: &str, digest: &str| {
            json!({
                "Repository": repository,
                "Tag": tag,
                "Digest": digest,
                "ID": self.id(image),
                "CreatedSince": human::ago(image.created, human::now()),
                "CreatedAt": human::timestamp(image.created),
                "Size": human::size(u64::try_from(image.size).unwrap_or_default()),
                "Containers": if image.containers < 0 { "N/A".to_owned() } else { image.containers.to_string() },
            })
        };
        let digest_of = |repository: &str| {
            let found = image.repo_digests.iter().find_map(|known| {
                known
                    .split_once('@')
                    .filter(|(name, _)| *name == repository)
            });
            found.map_or("<none>", |(_, digest)| digest)
        };
        let tagged: Vec<Value> = image
            .repo_tags
            .iter()
            .filter(|tag| *tag != "<none>:<none>")
            .filter_map(|tag| tag.rsplit_once(':'))
            .map(|(repository, tag)| row(repository, tag, digest_of(repository)))
            .collect();
        if !tagged.is_empty() {
            return tagged;
        }
        let repository = image
            .repo_digests
            .iter()
            .find_map(|known| known.split_once('@'));
        match repository.filter(|(name, _)| *name != "<none>") {
            Some((name, digest)) => vec![row(name, "<none>", digest)],
            None => vec![row("<none>", "<none>", "<none>")],
        }
    }
}
