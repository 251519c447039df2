//! `berth version`: client and daemon.

use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output::{self, template::Template};
use client::wire::Version;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

/// Arguments of `berth version`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let client = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "Os": std::env::consts::OS,
            "Arch": arch(),
        });
        let answer: Result<Value, Failure> = context::connect(globals)
            .and_then(|daemon| daemon.get("/version").map_err(Failure::from));
        let document = json!({
            "Client": client,
            "Server": answer.as_ref().ok(),
        });
        match self.format.as_deref() {
            None => output::write_all(text(&document).as_bytes())?,
            Some("json") => output::line(document.to_string())?,
            Some(format) => {
                let template: Result<Template, _> = format.parse();
                let text = template.and_then(|template| template.render(&document));
                output::line(text.map_err(|error| Failure::new(error.to_string()))?)?;
            }
        }
        answer.map(|_| ExitCode::SUCCESS)
    }
}

/// Go's name of the architecture, which the API uses.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn text(document: &Value) -> String {
    let client = &document["Client"];
    let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!(
        "Client:\n Version:           {}\n OS/Arch:           {}/{}\n",
        field(&client["Version"]),
        field(&client["Os"]),
        field(&client["Arch"])
    );
    let server: Result<Version, _> = serde_json::from_value(document["Server"].clone());
    if let Ok(server) = server {
        let name = match server.platform.name.as_str() {
            "" => "Engine",
            name => name,
        };
        out.push_str("\nServer: ");
        out.push_str(name);
        out.push('\n');
        for (label, value) in [
            ("Version:", server.version.clone()),
            (
                "API version:",
                format!(
                    "{} (minimum version {})",
                    server.api_version, server.min_api_version
                ),
            ),
            ("Go version:", server.go_version.clone()),
            ("Git commit:", server.git_commit.clone()),
            ("Built:", server.build_time.clone()),
            ("OS/Arch:", format!("{}/{}", server.os, server.arch)),
            ("Kernel:", server.kernel_version.clone()),
        ] {
            if !value.is_empty() {
                // Infallible: the target is a String.
                writeln!(out, " {label:<18} {value}").ok();
            }
        }
    }
    out
}
