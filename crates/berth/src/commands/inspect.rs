//! `berth inspect`: everything that is known of a container or an image, as JSON.

use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output::template::Template;
use crate::output::{line, write_all};
use client::{Client, ClientError, Query};
use serde::Serialize;
use serde_json::Value;
use std::process::ExitCode;

/// Arguments of `berth inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Only this kind: container, image, network or volume
    #[arg(long, value_name = "KIND", value_parser = ["container", "image", "network", "volume"], hide_possible_values = true)]
    r#type: Option<String>,
    /// The container's size on disk
    #[arg(short, long)]
    size: bool,
}

/// Arguments of `berth container inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Container {
    #[command(flatten)]
    common: Common,
    /// Its size on disk
    #[arg(short, long)]
    size: bool,
}

/// Arguments of `berth image inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Image {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Names or IDs
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// A kind of object: what it is called and where it is.
type Kind = (&'static str, &'static str);

const KINDS: [Kind; 4] = [
    ("container", "/containers/{}/json"),
    ("image", "/images/{}/json"),
    ("network", "/networks/{}"),
    ("volume", "/volumes/{}"),
];

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let kinds: Vec<Kind> = KINDS
            .into_iter()
            .filter(|(name, _)| self.r#type.as_deref().is_none_or(|kind| kind == *name))
            .collect();
        run(&self.common, &kinds, self.size, globals)
    }
}

impl Verb for Container {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        run(&self.common, &KINDS[..1], self.size, globals)
    }
}

impl Verb for Image {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        run(&self.common, &KINDS[1..2], false, globals)
    }
}

fn run(args: &Common, kinds: &[Kind], size: bool, globals: &Globals) -> Result<ExitCode, Failure> {
    let template = match args.format.as_deref() {
        None => None,
        Some("json") => Some("{{json .}}"),
        Some(other) => Some(other),
    };
    let template: Option<Template> = template
        .map(str::parse)
        .transpose()
        .map_err(|error: crate::output::template::TemplateError| Failure::new(error.to_string()))?;
    let client = context::connect(globals)?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in &args.names {
        match find(&client, name, kinds, size) {
            Ok(document) => found.push(document),
            Err(failure) => failures.push(failure.message),
        }
    }
    match template {
        None => write_all(&pretty(&found)?)?,
        Some(template) => {
            for document in &found {
                match template.render(document) {
                    Ok(text) => line(text)?,
                    Err(error) => failures.push(error.to_string()),
                }
            }
        }
    }
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(failures.join("\n")))
}

/// Asks for each kind in turn, as docker does.
fn find(client: &Client, name: &str, kinds: &[Kind], size: bool) -> Result<Value, Failure> {
    for (kind, path) in kinds {
        let target = Query::new(path, &[name]).flag("size", size && *kind == "container");
        match client.get(target.finish()) {
            Err(ClientError::Daemon {
                status: 404,
                message,
            }) if kinds.len() == 1 => {
                return Err(Failure::new(format!(
                    "Error response from daemon: {message}"
                )));
            }
            // A daemon that has no networks or volumes yet knows none of that name.
            Err(ClientError::Daemon {
                status: 404 | 501, ..
            }) => {}
            other => return Ok(other?),
        }
    }
    Err(Failure::new(format!("error: no such object: {name}")))
}

/// Docker indents by four.
fn pretty(found: &[Value]) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, indent);
    found
        .serialize(&mut serializer)
        .map_err(|error| Failure::from_chain(&error))?;
    out.push(b'\n');
    Ok(out)
}
