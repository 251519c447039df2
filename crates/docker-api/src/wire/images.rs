//! Images as docker's clients read them, and the lines of a pull's stream.

use crate::ApiVersion;
use engine::images::{HistoryEntry, Image, LayerState, PullEvent, Removed};
use model::image::{Descriptor, ExecutionConfig, HealthcheckConfig};
use model::{Digest, Platform, Reference};
use serde::Serialize;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What Go writes for a time that is not set.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// One line of `GET /images/json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageSummary {
    id: String,
    parent_id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    created: i64,
    size: u64,
    shared_size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
    labels: BTreeMap<String, String>,
    containers: i64,
}

impl ImageSummary {
    pub(crate) fn new(image: &Image, shared: Option<u64>, version: ApiVersion) -> Self {
        let none_shown = !version.at_least(43);
        let names = |names: Vec<String>, none: &str| {
            if names.is_empty() && none_shown {
                vec![none.to_owned()]
            } else {
                names
            }
        };
        Self {
            id: image.id.to_string(),
            parent_id: String::new(),
            repo_tags: names(familiar(&image.references), "<none>:<none>"),
            repo_digests: names(familiar(&image.digests), "<none>@<none>"),
            created: image.created_unix_s(),
            size: image.size_bytes,
            shared_size: shared.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            virtual_size: (!version.at_least(44)).then_some(image.size_bytes),
            labels: image.config.config.labels.clone(),
            containers: -1,
        }
    }
}

/// `GET /images/{name}/json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageInspect {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: String,
    comment: String,
    created: String,
    docker_version: String,
    author: String,
    config: ConfigView,
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    os: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFsView,
    metadata: Metadata,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    name: &'static str,
    data: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFsView {
    r#type: &'static str,
    layers: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

impl ImageInspect {
    pub(crate) fn new(image: &Image, version: ApiVersion) -> Self {
        let config = &image.config;
        let last = config.history.last();
        Self {
            id: image.id.to_string(),
            repo_tags: familiar(&image.references),
            repo_digests: familiar(&image.digests),
            parent: String::new(),
            comment: last.map(|step| step.comment.clone()).unwrap_or_default(),
            created: config.created.clone().unwrap_or_else(|| NO_TIME.to_owned()),
            docker_version: String::new(),
            author: config.author.clone(),
            config: ConfigView::new(&config.config),
            architecture: config.architecture.clone(),
            variant: config.variant.clone().filter(|variant| !variant.is_empty()),
            os: config.os.clone(),
            size: image.size_bytes,
            virtual_size: (!version.at_least(44)).then_some(image.size_bytes),
            graph_driver: GraphDriver {
                name: "overlay2",
                data: BTreeMap::new(),
            },
            root_fs: RootFsView {
                r#type: "layers",
                layers: image.layers.iter().map(ToString::to_string).collect(),
            },
            metadata: Metadata {
                last_tag_time: rfc3339(image.tagged_at_unix_ns),
            },
        }
    }
}

/// `Config` of an image: its execution defaults in docker's spelling.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigView {
    user: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, model::image::Empty>,
    env: Vec<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    volumes: Option<BTreeMap<String, model::image::Empty>>,
    working_dir: String,
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<HealthcheckConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<Vec<String>>,
    on_build: Option<Vec<String>>,
}

impl ConfigView {
    fn new(config: &ExecutionConfig) -> Self {
        let ExecutionConfig {
            user,
            exposed_ports,
            env,
            entrypoint,
            cmd,
            volumes,
            working_dir,
            labels,
            stop_signal,
            healthcheck,
            shell,
            on_build,
        } = config.clone();
        Self {
            user,
            exposed_ports,
            env,
            entrypoint,
            cmd,
            volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
            working_dir,
            labels: Some(labels).filter(|labels| !labels.is_empty()),
            stop_signal,
            healthcheck,
            shell,
            on_build: Some(on_build).filter(|lines| !lines.is_empty()),
        }
    }
}

/// One line of `GET /images/{name}/history`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HistoryLine {
    id: String,
    created: i64,
    created_by: String,
    tags: Option<Vec<String>>,
    size: u64,
    comment: String,
}

impl HistoryLine {
    /// Makes the lines; only the newest step has the image's ID and names.
    pub(crate) fn all(image: &Image, entries: Vec<HistoryEntry>) -> Vec<Self> {
        let lines = entries.into_iter().enumerate().map(|(at, entry)| {
            let created = entry.step.created.as_deref().unwrap_or_default();
            let created = OffsetDateTime::parse(created, &Rfc3339);
            Self {
                id: if at == 0 {
                    image.id.to_string()
                } else {
                    "<missing>".to_owned()
                },
                created: created.map_or(0, OffsetDateTime::unix_timestamp),
                created_by: entry.step.created_by,
                tags: (at == 0 && !image.references.is_empty())
                    .then(|| familiar(&image.references)),
                size: entry.size_bytes,
                comment: entry.step.comment,
            }
        });
        lines.collect()
    }
}

/// One entry of `DELETE /images/{name}`.
#[derive(Debug, Serialize)]
pub(crate) enum DeleteItem {
    Untagged(String),
    Deleted(String),
}

impl From<Removed> for DeleteItem {
    fn from(removed: Removed) -> Self {
        match removed {
            Removed::Untagged(name) => Self::Untagged(name),
            Removed::Deleted(id) => Self::Deleted(id),
        }
    }
}

/// `POST /images/prune`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PruneReport {
    pub(crate) images_deleted: Option<Vec<DeleteItem>>,
    pub(crate) space_reclaimed: u64,
}

/// `GET /distribution/{name}/json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DistributionInspect {
    pub(crate) descriptor: Descriptor,
    pub(crate) platforms: Vec<Platform>,
}

/// One line of a pull's or an import's stream.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    progress_detail: Option<ProgressDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct ProgressDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize)]
struct ErrorDetail {
    message: String,
}

impl Message {
    /// A line without progress.
    pub(crate) fn status(status: impl Into<String>) -> Self {
        Self {
            status: Some(status.into()),
            ..Self::default()
        }
    }

    /// The line that ends a stream that failed.
    pub(crate) fn error(message: &str) -> Self {
        Self {
            error_detail: Some(ErrorDetail {
                message: message.to_owned(),
            }),
            error: Some(message.to_owned()),
            ..Self::default()
        }
    }

    /// A pull's event.
    pub(crate) fn pull(event: &PullEvent) -> Self {
        match event {
            PullEvent::Resolved {
                selector,
                repository,
            } => Self {
                id: Some(selector.clone()),
                ..Self::status(format!("Pulling from {repository}"))
            },
            PullEvent::Layer { digest, state } => Self::layer(digest, state),
        }
    }

    fn layer(digest: &Digest, state: &LayerState) -> Self {
        let (status, bytes) = match state {
            LayerState::AlreadyExists => ("Already exists".to_owned(), None),
            LayerState::Pending => ("Pulling fs layer".to_owned(), None),
            LayerState::Waiting => ("Waiting".to_owned(), None),
            LayerState::Downloading {
                current_bytes,
                total_bytes,
            } => (
                "Downloading".to_owned(),
                Some((*current_bytes, *total_bytes)),
            ),
            LayerState::Retrying { after } => (retrying(after.as_secs()), None),
            LayerState::Verifying => ("Verifying Checksum".to_owned(), None),
            LayerState::DownloadComplete => ("Download complete".to_owned(), None),
            LayerState::Extracting {
                current_bytes,
                total_bytes,
            } => (
                "Extracting".to_owned(),
                Some((*current_bytes, *total_bytes)),
            ),
            LayerState::PullComplete => ("Pull complete".to_owned(), None),
        };
        Self {
            progress_detail: Some(ProgressDetail {
                current: bytes.map(|(current, _)| current),
                total: bytes.map(|(_, total)| total),
            }),
            progress: bytes.map(|(current, total)| bar(current, total)),
            id: Some(digest.short()),
            ..Self::status(status)
        }
    }

    /// The line as it goes out; docker ends lines so.
    pub(crate) fn line(&self) -> Vec<u8> {
        // A struct of texts and numbers always has a JSON form.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.extend_from_slice(b"\r\n");
        line
    }
}

fn retrying(seconds: u64) -> String {
    let seconds = seconds.max(1);
    let plural = if seconds == 1 { "" } else { "s" };
    format!("Retrying in {seconds} second{plural}")
}

/// Docker's bar for clients that draw none themselves: 50 columns and the numbers.
fn bar(current: u64, total: u64) -> String {
    let numbers = human_size(current);
    if total == 0 {
        return format!("{numbers:>8}");
    }
    let share = u128::from(current.min(total)) * 50 / u128::from(total);
    let filled = usize::try_from(share).unwrap_or(50);
    let (done, left) = ("=".repeat(filled), " ".repeat(50 - filled));
    format!("[{done}>{left}]  {numbers:>8}/{}", human_size(total))
}

/// `1.234MB`: four digits, decimal units, as Go's `%.4g` prints them.
fn human_size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut scale = 1_u64;
    let mut unit = 0;
    while unit + 1 < units.len() && bytes / scale >= 1000 {
        scale *= 1000;
        unit += 1;
    }
    let whole = bytes / scale;
    let decimals = match whole {
        0..10 => 3,
        10..100 => 2,
        100..1000 => 1,
        _ => 0,
    };
    // Exact in integers: thousandths of the unit, rounded to the decimals that are shown.
    let step = 10_u64.pow(3 - decimals);
    let thousandths = u128::from(bytes) * 1000 / u128::from(scale);
    let rounded = (thousandths + u128::from(step / 2)) / u128::from(step) * u128::from(step);
    let text = format!("{}.{:03}", rounded / 1000, rounded % 1000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{}", units[unit])
}

fn rfc3339(unix_ns: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ns));
    let text = time.ok().and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| NO_TIME.to_owned())
}

fn familiar<'a>(references: impl IntoIterator<Item = &'a Reference>) -> Vec<String> {
    references.into_iter().map(Reference::familiar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sizes() {
        let check = |bytes: u64, expected: &str| assert_eq!(human_size(bytes), expected);
        check(0, "0B");
        check(999, "999B");
        check(1000, "1kB");
        check(2_046_000, "2.046MB");
        check(2_046_499, "2.046MB");
        check(12_345_678, "12.35MB");
        check(123_456_789, "123.5MB");
        check(u64::MAX, "18.45EB");
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0, 0), "      0B");
        let half = format!("[{}>{}]  {:>8}/2MB", "=".repeat(25), " ".repeat(25), "1MB");
        assert_eq!(bar(1_000_000, 2_000_000), half);
        assert!(bar(3, 2).starts_with(&format!("[{}>]", "=".repeat(50))));
    }

    #[test]
    fn lines() {
        let digest = Digest::from_sha256([0xab; 32]);
        let check = |state: LayerState, expected: &str| {
            let line = Message::pull(&PullEvent::Layer { digest, state }).line();
            assert_eq!(String::from_utf8(line).unwrap(), format!("{expected}\r\n"));
        };
        check(
            LayerState::Pending,
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"abababababab"}"#,
        );
        check(
            LayerState::Retrying {
                after: Duration::from_millis(500),
            },
            r#"{"status":"Retrying in 1 second","progressDetail":{},"id":"abababababab"}"#,
        );
        let error = Message::error("no").line();
        assert_eq!(
            error,
            b"{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n"
        );
    }
}
