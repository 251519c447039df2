//! `berth events`: what happens, as it happens.

use super::filter::filters;
use super::logs::moment;
use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output::{self, template::Template};
use client::{Query, Request};
use serde_json::Value;
use std::io::BufReader;
use std::process::ExitCode;

/// Arguments of `berth events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those that match: container=x, event=start, type=image, …
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Begin with what happened since
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End there
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let since = self.since.as_deref().map(moment).transpose()?;
        let until = self.until.as_deref().map(moment).transpose()?;
        let template: Option<Template> = match self.format.as_deref() {
            None => Ok(None),
            Some("json") => "{{json .}}".parse().map(Some),
            Some(format) => format.parse().map(Some),
        }
        .map_err(|error: output::template::TemplateError| Failure::new(error.to_string()))?;
        let client = context::connect(globals)?;
        let target = Query::new("/events", &[])
            .with_some("since", since.as_deref())
            .with_some("until", until.as_deref())
            .with_some("filters", filters(&self.filter)?.as_deref())
            .finish();
        let response = client.send(Request::get(target))?;
        let events =
            serde_json::Deserializer::from_reader(BufReader::new(response)).into_iter::<Value>();
        for event in events {
            let event = event
                .map_err(|error| Failure::new(format!("the daemon's events broke off: {error}")))?;
            let text = match &template {
                Some(template) => template
                    .render(&event)
                    .map_err(|error| Failure::new(error.to_string()))?,
                None => text(&event),
            };
            output::line(text)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes `TIME type action id (attribute=value, …)`.
fn text(event: &Value) -> String {
    let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes: Vec<String> = event["Actor"]["Attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", field(value)))
        .collect();
    let nanos = event["timeNano"].as_i64().unwrap_or_default();
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanos)).ok();
    let at = at.and_then(|at| {
        at.format(&time::format_description::well_known::Rfc3339)
            .ok()
    });
    format!(
        "{} {} {} {} ({})",
        at.unwrap_or_default(),
        field(&event["Type"]),
        field(&event["Action"]),
        field(&event["Actor"]["ID"]),
        attributes.join(", ")
    )
}
