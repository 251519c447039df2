//! `berth ps`: containers in a table.

use super::filter::filters;
use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output::{Layout, human, line, print_rows};
use client::Query;
use client::wire::{ContainerSummary, Port};
use serde_json::{Value, json};
use std::process::ExitCode;

const LAYOUT: Layout = Layout {
    columns: &[
        "ID",
        "Image",
        "Command",
        "RunningFor",
        "Status",
        "Ports",
        "Names",
    ],
    headings: &[("ID", "CONTAINER ID"), ("RunningFor", "CREATED")],
};

const WITH_SIZE: Layout = Layout {
    columns: &[
        "ID",
        "Image",
        "Command",
        "RunningFor",
        "Status",
        "Ports",
        "Names",
        "Size",
    ],
    ..LAYOUT
};

/// Arguments of `berth ps`.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "docker's own independent switches"
)]
pub(crate) struct Args {
    /// Stopped ones, too
    #[arg(short, long)]
    all: bool,
    /// Only those that match: status=exited, name=x, label=a=b, ancestor=image, …
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// json, table TEMPLATE, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The last so many created
    #[arg(short = 'n', long, value_name = "NUMBER", allow_hyphen_values = true)]
    last: Option<i64>,
    /// The last created
    #[arg(short, long)]
    latest: bool,
    /// Do not cut anything
    #[arg(long)]
    no_trunc: bool,
    /// Only IDs
    #[arg(short, long)]
    quiet: bool,
    /// Their size on disk
    #[arg(short, long)]
    size: bool,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let client = context::connect(globals)?;
        let limit = if self.latest {
            Some("1".to_owned())
        } else {
            self.last
                .filter(|last| *last > 0)
                .map(|last| last.to_string())
        };
        let target = Query::new("/containers/json", &[])
            .flag("all", self.all)
            .flag("size", self.size)
            .with_some("limit", limit.as_deref())
            .with_some("filters", filters(&self.filter)?.as_deref())
            .finish();
        let list: Vec<ContainerSummary> = client.get(target)?;
        let rows: Vec<Value> = list.iter().map(|one| self.row(one)).collect();
        if self.quiet && self.format.is_none() {
            for row in &rows {
                line(row["ID"].as_str().unwrap_or_default())?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let layout = if self.size { &WITH_SIZE } else { &LAYOUT };
        print_rows(layout, &rows, self.format.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Args {
    fn row(&self, one: &ContainerSummary) -> Value {
        let cut = |text: &str, width| match self.no_trunc {
            true => text.to_owned(),
            false => human::ellipsis(text, width),
        };
        let names: Vec<&str> = one
            .names
            .iter()
            .map(|name| name.trim_start_matches('/'))
            // Names by links hold another slash.
            .filter(|name| self.no_trunc || !name.contains('/'))
            .collect();
        let labels: Vec<String> = one
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let networks: Vec<&str> = one
            .network_settings
            .networks
            .keys()
            .map(String::as_str)
            .collect();
        let mounts: Vec<String> = one
            .mounts
            .iter()
            .map(|mount| {
                cut(
                    if mount.name.is_empty() {
                        &mount.source
                    } else {
                        &mount.name
                    },
                    15,
                )
            })
            .collect();
        let image = match one.image.as_str() {
            "" => "<no image>",
            image => image,
        };
        json!({
            "ID": if self.no_trunc { one.id.clone() } else { human::short_id(&one.id) },
            "Names": names.join(","),
            "Image": if image.starts_with("sha256:") && !self.no_trunc { human::short_id(image) } else { image.to_owned() },
            "Command": format!("\"{}\"", cut(&one.command, 20)),
            "CreatedAt": human::timestamp(one.created),
            "RunningFor": human::ago(one.created, human::now()),
            "Ports": ports(&one.ports),
            "State": one.state,
            "Status": one.status,
            "Size": size(one),
            "Labels": labels.join(","),
            "Networks": networks.join(","),
            "Mounts": mounts.join(","),
            "LocalVolumes": one.mounts.iter().filter(|mount| !mount.name.is_empty()).count().to_string(),
        })
    }
}

fn size(one: &ContainerSummary) -> String {
    let written = human::size(u64::try_from(one.size_rw).unwrap_or_default());
    match u64::try_from(one.size_root_fs) {
        Ok(all) if all > 0 => format!("{written} (virtual {})", human::size(all)),
        _ => written,
    }
}

/// Writes `0.0.0.0:8080->80/tcp, 90/tcp`, sorted; both families of one port side by side.
fn ports(list: &[Port]) -> String {
    let mut ports: Vec<&Port> = list.iter().collect();
    ports.sort_by_key(|port| {
        (
            port.private_port,
            port.r#type.clone(),
            port.public_port,
            port.ip.clone(),
        )
    });
    let texts: Vec<String> = ports
        .iter()
        .map(|port| {
            let own = format!("{}/{}", port.private_port, port.r#type);
            match (port.public_port, port.ip.as_str()) {
                (0, _) => own,
                (public, ip) if ip.contains(':') => format!("[{ip}]:{public}->{own}"),
                (public, ip) => format!("{ip}:{public}->{own}"),
            }
        })
        .collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_words() {
        let port = |ip: &str, private_port, public_port| Port {
            ip: ip.to_owned(),
            private_port,
            public_port,
            r#type: "tcp".to_owned(),
        };
        let list = [
            port("::", 80, 8080),
            port("", 443, 0),
            port("0.0.0.0", 80, 8080),
        ];
        assert_eq!(
            ports(&list),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 443/tcp"
        );
    }
}
