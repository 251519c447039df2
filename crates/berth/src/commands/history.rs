//! `berth history`: the steps an image was made of.

use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output::{Layout, human, line, print_rows};
use client::Query;
use client::wire::HistoryItem;
use serde_json::{Value, json};
use std::process::ExitCode;

const LAYOUT: Layout = Layout {
    columns: &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"],
    headings: &[("ID", "IMAGE"), ("CreatedSince", "CREATED")],
};

/// Arguments of `berth history`.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "docker's own independent switches"
)]
pub(crate) struct Args {
    /// The image
    image: String,
    /// json, table TEMPLATE, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Sizes and dates for people [default: true]
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    human: bool,
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
        let target = Query::new("/images/{}/history", &[&self.image]).finish();
        let items: Vec<HistoryItem> = client.get(target)?;
        let rows: Vec<Value> = items.iter().map(|item| self.row(item)).collect();
        if self.quiet && self.format.is_none() {
            for row in &rows {
                line(row["ID"].as_str().unwrap_or_default())?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        print_rows(&LAYOUT, &rows, self.format.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Args {
    fn row(&self, item: &HistoryItem) -> Value {
        let cut = |text: &str, width| match self.no_trunc {
            true => text.to_owned(),
            false => human::ellipsis(text, width),
        };
        let id = match item.id.as_str() {
            "<missing>" => item.id.clone(),
            id if self.no_trunc => id.to_owned(),
            id => human::short_id(id),
        };
        let (since, size) = if self.human {
            let bytes = u64::try_from(item.size).unwrap_or_default();
            (human::ago(item.created, human::now()), human::size(bytes))
        } else {
            (human::timestamp(item.created), item.size.to_string())
        };
        json!({
            "ID": id,
            "CreatedSince": since,
            "CreatedAt": human::timestamp(item.created),
            "CreatedBy": cut(&item.created_by.replace('\t', " "), 45),
            "Size": size,
            "Comment": item.comment,
        })
    }
}
