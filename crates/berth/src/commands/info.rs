//! `berth info`: the daemon and its machine.

use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output::{self, human, template::Template};
use serde_json::Value;
use std::process::ExitCode;

/// Arguments of `berth info`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// What is shown, in order: the label, the field.
const LINES: &[(&str, &str)] = &[
    ("Containers", "Containers"),
    (" Running", "ContainersRunning"),
    (" Paused", "ContainersPaused"),
    (" Stopped", "ContainersStopped"),
    ("Images", "Images"),
    ("Server Version", "ServerVersion"),
    ("Storage Driver", "Driver"),
    ("Logging Driver", "LoggingDriver"),
    ("Cgroup Driver", "CgroupDriver"),
    ("Cgroup Version", "CgroupVersion"),
    ("Default Runtime", "DefaultRuntime"),
    ("Init Binary", "InitBinary"),
    ("Security Options", "SecurityOptions"),
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
    ("Total Memory", "MemTotal"),
    ("Name", "Name"),
    ("ID", "ID"),
    ("Data Root Dir", "DockerRootDir"),
    ("Debug Mode", "Debug"),
    ("Live Restore Enabled", "LiveRestoreEnabled"),
];

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let client = context::connect(globals)?;
        let document: Value = client.get("/info")?;
        match self.format.as_deref() {
            None => output::write_all(text(&document).as_bytes())?,
            Some("json") => output::line(document.to_string())?,
            Some(format) => {
                let template: Result<Template, _> = format.parse();
                let text = template.and_then(|template| template.render(&document));
                output::line(text.map_err(|error| Failure::new(error.to_string()))?)?;
            }
        }
        for warning in document["Warnings"].as_array().into_iter().flatten() {
            output::line(format!("WARNING: {}", warning.as_str().unwrap_or_default()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(document: &Value) -> String {
    let lines: Vec<String> = LINES
        .iter()
        .filter_map(|(label, field)| {
            let value = match &document[*field] {
                Value::Null => return None,
                Value::String(text) if text.is_empty() => return None,
                Value::String(text) => text.clone(),
                Value::Number(bytes) if *field == "MemTotal" => {
                    human::size(bytes.as_u64().unwrap_or_default())
                }
                Value::Array(list) => {
                    let parts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                    parts.join(" ")
                }
                other => other.to_string(),
            };
            Some(format!(" {label}: {value}\n"))
        })
        .collect();
    format!("Server:\n{}", lines.concat())
}
