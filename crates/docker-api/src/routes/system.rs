//! `/_ping`, `/version`, `/info`, `/events`, `/system/df`, and the headers by which clients
//! negotiate.

use super::containers::unix_ns;
use crate::convert::list;
use crate::error::from_engine_error;
use crate::query::Params;
use crate::{ApiError, ApiVersion, AppState};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use engine::containers::{ListRequest, View};
use engine::images::ImageFilter;
use engine::{Event, Machine};
use http::{HeaderMap, HeaderValue, header};
use model::Reference;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::Instant;

from_engine_error!(engine::OpenError);

/// What `Version` says to clients that compare it with docker's: this API is docker 28's.
const ENGINE_VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/_ping", get(ping))
        .route("/version", get(version))
        .route("/info", get(info))
        .route("/events", get(events))
        .route("/system/df", get(disk_usage))
        .route("/berth/traces/{id}", get(trace))
}

/// Adds the headers that docker's daemon puts on every answer.
pub(crate) fn identify(headers: &mut HeaderMap) {
    headers.insert("Api-Version", version_header());
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
}

fn version_header() -> HeaderValue {
    HeaderValue::from_str(&ApiVersion::NEWEST.to_string())
        .unwrap_or(HeaderValue::from_static("1.24"))
}

/// `GET` and `HEAD /_ping`. `Builder-Version: 1` keeps the CLI's `build` away from `BuildKit`.
async fn ping() -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::PRAGMA, "no-cache"),
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::HeaderName::from_static("builder-version"), "1"),
        (header::HeaderName::from_static("swarm"), "inactive"),
    ];
    (headers, "OK").into_response()
}

/// The steps of a traced run; each is told once.
async fn trace(
    State(state): State<AppState>,
    axum::extract::Path(id): axum::extract::Path<String>,
) -> Result<Json<Vec<model::trace::Step>>, ApiError> {
    let steps = state.engine.traces().take(&id);
    let missing = || ApiError::new(model::ErrorKind::NotFound, format!("No such trace: {id}"));
    steps.map(Json).ok_or_else(missing)
}

/// Go's name for our processor.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn version(State(state): State<AppState>) -> Json<Value> {
    let machine = state.engine.system().machine();
    Json(json!({
        "Platform": { "Name": "Berth" },
        "Components": [{
            "Name": "Engine",
            "Version": ENGINE_VERSION,
            "Details": {
                "ApiVersion": ApiVersion::NEWEST.to_string(),
                "Arch": go_arch(),
                "BuildTime": "",
                "Experimental": "false",
                "GitCommit": "",
                "GoVersion": "",
                "KernelVersion": machine.kernel,
                "MinAPIVersion": ApiVersion::OLDEST.to_string(),
                "Os": "linux",
            },
        }],
        "Version": ENGINE_VERSION,
        "ApiVersion": ApiVersion::NEWEST.to_string(),
        "MinAPIVersion": ApiVersion::OLDEST.to_string(),
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": go_arch(),
        "KernelVersion": machine.kernel,
        "BuildTime": "",
    }))
}

#[expect(clippy::too_many_lines, reason = "a flat list of fields")]
async fn info(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let engine = &state.engine;
    let Machine {
        id,
        hostname,
        kernel,
        operating_system,
        os_version,
        architecture,
        processors,
        memory_bytes,
        cgroup_version,
    } = engine.system().machine();
    let all = ListRequest {
        all: true,
        ..ListRequest::default()
    };
    let views = engine.containers().list(&all)?;
    let count = |status: &[&str]| {
        views
            .iter()
            .filter(|v| status.contains(&v.status()))
            .count()
    };
    let options = engine.options();
    let insecure: BTreeMap<&String, Value> = options
        .insecure_registries
        .iter()
        .filter(|registry| !registry.contains('/'))
        .map(|registry| {
            let index =
                json!({ "Name": registry, "Mirrors": [], "Secure": false, "Official": false });
            (registry, index)
        })
        .collect();
    let mut indexes = json!(insecure);
    if let Some(indexes) = indexes.as_object_mut() {
        indexes.insert(
            "docker.io".to_owned(),
            json!({
                "Name": "docker.io",
                "Mirrors": options.registry_mirrors,
                "Secure": true,
                "Official": true,
            }),
        );
    }
    Ok(Json(json!({
        "ID": id,
        "Containers": views.len(),
        "ContainersRunning": count(&["running"]),
        "ContainersPaused": count(&["paused"]),
        "ContainersStopped": count(&["created", "exited", "restarting", "removing"]),
        "Images": engine.images().list(&ImageFilter::default())?.len(),
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", "overlayfs in each container's namespace"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": null,
            "Log": ["json-file", "none"],
        },
        "MemoryLimit": true,
        "SwapLimit": true,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "IPv4Forwarding": true,
        "OomKillDisable": cgroup_version == 1,
        "Debug": false,
        "NFd": 0,
        "NGoroutines": 0,
        "NEventsListener": 0,
        "SystemTime": crate::convert::human::rfc3339(Some(unix_ns())),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup_version.to_string(),
        "KernelVersion": kernel,
        "OperatingSystem": operating_system,
        "OSVersion": os_version,
        "OSType": "linux",
        "Architecture": architecture,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "IndexConfigs": indexes,
            "InsecureRegistryCIDRs": options
                .insecure_registries
                .iter()
                .filter(|registry| registry.contains('/'))
                .collect::<Vec<_>>(),
            "Mirrors": options.registry_mirrors,
        },
        "NCPU": processors,
        "MemTotal": memory_bytes,
        "GenericResources": null,
        "DockerRootDir": options.data_root,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": hostname,
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": ENGINE_VERSION,
        "Runtimes": { "berth": { "path": "berth" } },
        "DefaultRuntime": "berth",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "berth",
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": "" },
        "InitCommit": { "ID": "" },
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "CDISpecDirs": [],
        "Warnings": null,
    })))
}

async fn disk_usage(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let engine = &state.engine;
    let all = ListRequest {
        all: true,
        ..ListRequest::default()
    };
    let views = engine.containers().list(&all)?;
    let now = unix_ns();
    let containers: Vec<Value> = views
        .iter()
        .map(|view| {
            let changes = engine.containers().changes_bytes(&view.definition.id);
            list::summary(view, now, Some((changes, changes)))
        })
        .collect();
    let stored = engine.images().list(&ImageFilter::default())?;
    let layers_bytes: u64 = stored.iter().map(|image| image.size_bytes).sum();
    let images: Vec<Value> = stored
        .iter()
        .map(|image| {
            let uses = |view: &&Arc<View>| view.definition.image.id == image.id;
            json!({
                "Id": image.id.to_string(),
                "ParentId": "",
                "RepoTags": image.references.iter().map(Reference::familiar).collect::<Vec<_>>(),
                "RepoDigests": image.digests.iter().map(Reference::familiar).collect::<Vec<_>>(),
                "Created": image.tagged_at_unix_ns / 1_000_000_000,
                "Size": image.size_bytes,
                "SharedSize": 0,
                "Labels": image.config.config.labels,
                "Containers": views.iter().filter(uses).count(),
            })
        })
        .collect();
    let volumes: Vec<Value> = engine
        .volumes()
        .list()?
        .iter()
        .map(|volume| {
            let uses = |view: &&Arc<View>| view.definition.uses_volume(&volume.name);
            let references = views.iter().filter(uses).count();
            let mut json = super::volumes::json(engine, volume);
            if let Some(json) = json.as_object_mut() {
                let size_bytes = engine.volumes().size_bytes(&volume.name);
                let usage = json!({ "RefCount": references, "Size": size_bytes });
                json.insert("UsageData".to_owned(), usage);
            }
            json
        })
        .collect();
    Ok(Json(json!({
        "LayersSize": layers_bytes,
        "Images": images,
        "Containers": containers,
        "Volumes": volumes,
        "BuildCache": [],
    })))
}

struct EventStream {
    past: VecDeque<Arc<Event>>,
    live: broadcast::Receiver<Arc<Event>>,
    filters: BTreeMap<String, Vec<String>>,
    until_unix_ns: Option<i64>,
}

async fn events(State(state): State<AppState>, params: Params) -> Result<Response, ApiError> {
    let (past, live) = state.engine.events().subscribe(params.time_ns("since")?);
    let stream = EventStream {
        past: past.into(),
        live,
        filters: params.filters()?,
        until_unix_ns: params.time_ns("until")?,
    };
    let body = Body::from_stream(futures_util::stream::unfold(stream, next_event));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn next_event(mut stream: EventStream) -> Option<(Result<Bytes, Infallible>, EventStream)> {
    loop {
        let event = match stream.past.pop_front() {
            Some(event) => event,
            None => live_event(&mut stream).await?,
        };
        let late = |until: i64| event.at_unix_ns > until;
        if stream.until_unix_ns.is_some_and(late) {
            return None;
        }
        if event_matches(&event, &stream.filters) {
            let line = format!("{}\n", event_json(&event));
            return Some((Ok(line.into()), stream));
        }
    }
}

async fn live_event(stream: &mut EventStream) -> Option<Arc<Event>> {
    loop {
        let received = match stream.until_unix_ns {
            None => stream.live.recv().await,
            Some(until) => {
                let left = u64::try_from(until - unix_ns()).unwrap_or(0);
                let deadline = Instant::now() + Duration::from_nanos(left);
                tokio::time::timeout_at(deadline, stream.live.recv())
                    .await
                    .ok()?
            }
        };
        match received {
            Ok(event) => return Some(event),
            // The reader was too slow; what is still there goes on.
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "a reader of events fell behind");
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

fn event_matches(event: &Event, filters: &BTreeMap<String, Vec<String>>) -> bool {
    let name = event.attributes.get("name");
    filters.iter().all(|(key, values)| {
        let any = |matches: &dyn Fn(&str) -> bool| values.iter().any(|value| matches(value));
        let subject = |kind: &str| {
            event.kind == kind
                && any(&|value| event.id.starts_with(value) || name.is_some_and(|n| n == value))
        };
        match key.as_str() {
            "type" => any(&|value| value == event.kind),
            // `exec_create` stands for `exec_create: sh -c …`.
            "event" => any(&|value| {
                event.action == value || event.action.starts_with(&format!("{value}: "))
            }),
            "container" | "network" | "volume" => subject(key),
            "image" => any(&|value| {
                let image = event.attributes.get("image");
                event.id == value || image.is_some_and(|image| image == value)
            }),
            "label" => values.iter().all(|label| match label.split_once('=') {
                Some((name, value)) => event.attributes.get(name).is_some_and(|own| own == value),
                None => event.attributes.contains_key(label),
            }),
            "scope" => any(&|value| value == "local"),
            _ => false,
        }
    })
}

fn event_json(event: &Event) -> Value {
    let mut json = json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": event.at_unix_ns / 1_000_000_000,
        "timeNano": event.at_unix_ns,
    });
    if event.kind == "container"
        && let Some(json) = json.as_object_mut()
    {
        json.insert("status".to_owned(), event.action.clone().into());
        json.insert("id".to_owned(), event.id.clone().into());
        let image = event.attributes.get("image").cloned().unwrap_or_default();
        json.insert("from".to_owned(), image.into());
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_filters() {
        let event = Event {
            kind: "container",
            action: "exec_create: sh".to_owned(),
            id: "abcdef".to_owned(),
            attributes: [("name".to_owned(), "web".to_owned())].into(),
            at_unix_ns: 1,
        };
        let check = |key: &str, value: &str, expected| {
            let filters = [(key.to_owned(), vec![value.to_owned()])].into();
            assert_eq!(event_matches(&event, &filters), expected, "{key}={value}");
        };
        check("type", "container", true);
        check("type", "image", false);
        check("event", "exec_create", true);
        check("event", "exec", false);
        check("container", "web", true);
        check("container", "abc", true);
        check("label", "name=web", true);
        check("label", "x", false);
        check("what", "ever", false);
    }
}
