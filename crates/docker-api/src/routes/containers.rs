//! Containers.

use super::hijack;
use super::logs;
use crate::convert::inspect::{Surroundings, store_root::RootDirs};
use crate::convert::{create, inspect, list};
use crate::error::from_engine_error;
use crate::query::Params;
use crate::wire::containers::{CreateBody, HostConfig};
use crate::{ApiError, ApiVersion, AppState};
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use engine::containers::{
    AttachRequest, CreateError, Filters, InvalidFilter, ListRequest, LogRequest, LookupError,
    RemoveRequest, VerbError, View, WaitCondition, Waited,
};
use engine::shims::{AttachOptions, DetachKeys};
use http::{Request, StatusCode, header};
use model::{ContainerName, ErrorKind, Platform, Signal};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncWriteExt;

from_engine_error!(LookupError, CreateError, VerbError, InvalidFilter);

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/containers/json", get(list_containers))
        .route("/containers/create", post(create_container))
        .route("/containers/prune", post(prune))
        .route("/containers/{id}", delete(remove))
        .route("/containers/{id}/json", get(inspect_container))
        .route("/containers/{id}/start", post(start))
        .route("/containers/{id}/stop", post(stop))
        .route("/containers/{id}/restart", post(restart))
        .route("/containers/{id}/kill", post(kill))
        .route("/containers/{id}/pause", post(pause))
        .route("/containers/{id}/unpause", post(unpause))
        .route("/containers/{id}/rename", post(rename))
        .route("/containers/{id}/resize", post(resize))
        .route("/containers/{id}/update", post(update))
        .route("/containers/{id}/wait", post(wait))
        .route("/containers/{id}/attach", post(attach))
        .route("/containers/{id}/logs", get(get_logs))
        .route("/containers/{id}/top", get(top))
}

/// Reads a JSON body, whatever its content type says, as docker does. Empty means absent.
pub(crate) fn body<T: serde::de::DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad_request(format!("invalid JSON: {error}")))
}

async fn create_container(
    State(state): State<AppState>,
    params: Params,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let body: CreateBody = body(&bytes)?;
    let name = params.text("name").map(str::parse::<ContainerName>);
    let name = name
        .transpose()
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let platform = params.text("platform").map(str::parse::<Platform>);
    let platform = platform
        .transpose()
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let settings = create::settings(body)?;
    let containers = state.engine.containers();
    let created = containers.create(name, platform.as_ref(), settings)?;
    let json = json!({ "Id": created.id.as_str(), "Warnings": created.warnings });
    Ok((StatusCode::CREATED, Json(json)).into_response())
}

async fn list_containers(
    State(state): State<AppState>,
    params: Params,
) -> Result<Json<Vec<Value>>, ApiError> {
    let request = ListRequest {
        all: params.flag("all"),
        limit: params
            .parsed::<i64>("limit")?
            .and_then(|limit| usize::try_from(limit).ok().filter(|limit| *limit > 0)),
        filters: Filters::new(params.filters()?)?,
    };
    let containers = state.engine.containers();
    let now = unix_ns();
    let views = containers.list(&request)?;
    let with_sizes = params.flag("size");
    let summaries = views.iter().map(|view| {
        let sizes = with_sizes.then(|| sizes(&state, view));
        list::summary(view, now, sizes)
    });
    Ok(Json(summaries.collect()))
}

pub(crate) fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

fn sizes(state: &AppState, view: &View) -> (u64, u64) {
    let changes = state.engine.containers().changes_bytes(&view.definition.id);
    let image = state
        .engine
        .images()
        .resolve(&view.definition.image.id.to_string());
    (changes, changes + image.map_or(0, |image| image.size_bytes))
}

async fn inspect_container(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
    version: ApiVersion,
) -> Result<Json<Value>, ApiError> {
    let containers = state.engine.containers();
    let view = containers.inspect(&id)?;
    let id = &view.definition.id;
    let root = containers.root(id).ok().map(|root| {
        let lower: Vec<String> = root.lower.iter().map(|p| p.display().to_string()).collect();
        RootDirs {
            lower: lower.join(":"),
            upper: root.upper.display().to_string(),
            work: root.work.display().to_string(),
        }
    });
    let around = Surroundings {
        directory: &containers.directory(id),
        root,
        sizes: params.flag("size").then(|| sizes(&state, &view)),
        execs: state.engine.execs().running_in(id),
    };
    Ok(Json(inspect::container(&view, &around, version)))
}

/// 204, or 304 if there was nothing to do.
fn changed(changed: bool) -> StatusCode {
    if changed {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::NOT_MODIFIED
    }
}

async fn start(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let started = state.engine.containers().start(&id, None).await?;
    Ok(changed(started))
}

fn signal(params: &Params) -> Result<Option<Signal>, ApiError> {
    let signal = params.text("signal").map(str::parse::<Signal>).transpose();
    signal.map_err(|error| ApiError::bad_request(error.to_string()))
}

fn patience(params: &Params) -> Result<Option<Duration>, ApiError> {
    Ok(params.parsed::<i64>("t")?.map(create::timeout))
}

async fn stop(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let (signal, patience) = (signal(&params)?, patience(&params)?);
    let containers = state.engine.containers();
    Ok(changed(containers.stop(&id, signal, patience).await?))
}

async fn restart(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let (signal, patience) = (signal(&params)?, patience(&params)?);
    let containers = state.engine.containers();
    containers.restart(&id, signal, patience).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn kill(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let signal = signal(&params)?.unwrap_or(Signal::KILL);
    state.engine.containers().kill(&id, signal).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pause(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.engine.containers().pause(&id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn unpause(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.engine.containers().pause(&id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rename(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let name = params.text("name").unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError::bad_request(
            "Neither old nor new names may be empty",
        ));
    }
    state.engine.containers().rename(&id, name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) fn size(params: &Params) -> Result<(u16, u16), ApiError> {
    let number = |name: &str| {
        let value = params.parsed::<u16>(name)?;
        value.ok_or_else(|| ApiError::bad_request(format!("{name} is missing")))
    };
    Ok((number("h")?, number("w")?))
}

async fn resize(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let (rows, columns) = size(&params)?;
    state.engine.containers().resize(&id, rows, columns).await?;
    Ok(StatusCode::OK)
}

/// Only the restart policy can be changed yet; what else says something is refused by name.
async fn update(
    State(state): State<AppState>,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let fields: serde_json::Map<String, Value> = body(&bytes)?;
    let says = |value: &Value| {
        !matches!(value, Value::Null | Value::Bool(false))
            && *value != json!(0)
            && *value != json!("")
            && *value != json!([])
            && *value != json!({})
    };
    let other = fields
        .iter()
        .find(|(name, value)| *name != "RestartPolicy" && says(value));
    if let Some((name, _)) = other {
        return Err(ApiError::not_supported(&format!("updating {name}")));
    }
    let host: HostConfig = body(&bytes)?;
    let named = |policy: &crate::wire::containers::RestartPolicy| {
        policy.name.as_deref().is_some_and(|name| !name.is_empty())
    };
    let restart = host.restart_policy.filter(named).map(create::restart);
    let containers = state.engine.containers();
    containers.update(&id, restart.transpose()?).await?;
    Ok(Json(json!({ "Warnings": [] })))
}

async fn remove(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    if params.flag("link") {
        return Err(ApiError::not_supported("removing a link"));
    }
    let request = RemoveRequest {
        force: params.flag("force"),
        volumes: params.flag("v"),
    };
    state.engine.containers().remove(&id, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn prune(State(state): State<AppState>, params: Params) -> Result<Json<Value>, ApiError> {
    let mut filters = params.filters()?;
    let until = filters
        .remove("until")
        .and_then(|values| values.into_iter().next());
    let until = match until {
        Some(text) => Some(until_ns(&text)?),
        None => None,
    };
    let unlike = filters.remove("label!").unwrap_or_default();
    if let Some(key) = filters.keys().find(|key| *key != "label") {
        return Err(ApiError::bad_request(format!("invalid filter '{key}'")));
    }
    let like = filters.remove("label").unwrap_or_default();
    let matches = move |view: &View| {
        let labels = view.definition.labels();
        let has = |label: &String| match label.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|own| own == value),
            None => labels.contains_key(label),
        };
        until.is_none_or(|until| view.definition.created_unix_ns < until)
            && like.iter().all(has)
            && !unlike.iter().any(has)
    };
    let (removed, bytes) = state.engine.containers().prune(matches).await;
    let removed: Vec<&str> = removed.iter().map(model::ContainerId::as_str).collect();
    Ok(Json(
        json!({ "ContainersDeleted": removed, "SpaceReclaimed": bytes }),
    ))
}

/// A time, or how long ago: `10m`, `1h30m`.
fn until_ns(text: &str) -> Result<i64, ApiError> {
    let invalid = || ApiError::bad_request(format!("invalid value for until: {text:?}"));
    let mut seconds: i64 = 0;
    let mut digits = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let number: i64 = std::mem::take(&mut digits).parse().map_err(|_| invalid())?;
        let unit = match letter {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(invalid()),
        };
        seconds = number
            .checked_mul(unit)
            .and_then(|more| seconds.checked_add(more))
            .ok_or_else(invalid)?;
    }
    if digits.is_empty() {
        Ok(unix_ns().saturating_sub(seconds.saturating_mul(1_000_000_000)))
    } else {
        let at: i64 = digits.parse().map_err(|_| invalid())?;
        at.checked_mul(1_000_000_000).ok_or_else(invalid)
    }
}

async fn wait(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let condition = match params.text("condition") {
        None | Some("not-running") => WaitCondition::NotRunning,
        Some("next-exit") => WaitCondition::NextExit,
        Some("removed") => WaitCondition::Removed,
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "invalid condition: {other:?}"
            )));
        }
    };
    let waited = state.engine.containers().wait(&id, condition)?;
    // The head goes out now: it tells the client that the waiter is in place.
    let body = Body::from_stream(futures_util::stream::once(wait_body(waited)));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn wait_body(waited: Waited) -> Result<Bytes, std::convert::Infallible> {
    let view = waited.view().await;
    let json = json!({ "StatusCode": view.state.exit_code });
    Ok(format!("{json}\n").into())
}

/// Reads the streams and keys of an attach request.
fn attach_options(params: &Params) -> Result<AttachOptions, ApiError> {
    let keys = match params.text("detachKeys") {
        Some(text) => text
            .parse::<DetachKeys>()
            .map_err(|error| ApiError::bad_request(format!("invalid detach keys: {error}")))?,
        None => DetachKeys::default(),
    };
    Ok(AttachOptions {
        stdin: params.flag("stdin"),
        stdout: params.flag("stdout"),
        stderr: params.flag("stderr"),
        detach_keys: keys,
    })
}

async fn attach(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
    version: ApiVersion,
    mut request: Request<Body>,
) -> Result<Response, ApiError> {
    let containers = state.engine.containers();
    let view = containers.inspect(&id)?;
    if view.status() == "paused" {
        return Err(ApiError::new(
            ErrorKind::Conflict,
            format!("container {id} is paused, unpause the container before attach"),
        ));
    }
    let mut options = attach_options(&params)?;
    let stream = params.flag("stream");
    // A container without an open stdin has nothing to give bytes to.
    options.stdin &= stream && view.definition.settings.process.open_stdin;
    let reservation = match stream {
        true => Some(containers.attach(&id, AttachRequest { options }).await?),
        false => None,
    };
    let history = match params.flag("logs") {
        true => Some(containers.logs(&id, LogRequest::default())?),
        false => None,
    };
    let tty = view.definition.process.tty;
    let hijack = hijack::hijack(&mut request, tty, version)
        .map_err(|error| ApiError::from_error(ErrorKind::Internal, &error))?;
    let (response, arriving) = hijack.split();
    tokio::spawn(async move {
        let Some((mut stream, read_ahead)) = arriving.stream().await else {
            return;
        };
        if let Some(mut history) = history {
            while let Ok(Some(entry)) = history.next().await {
                let bytes = logs::encode(&entry, tty, logs::Decoration::default());
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
        if let Some(reservation) = reservation {
            hijack::fulfil(reservation, stream, read_ahead);
        }
    });
    Ok(response)
}

async fn get_logs(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
    version: ApiVersion,
) -> Result<Response, ApiError> {
    logs::respond(&state, &id, &params, version)
}

async fn top(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let arguments = params.text("ps_args").unwrap_or_default();
    let processes = state.engine.containers().top(&id, arguments).await?;
    Ok(Json(
        json!({ "Titles": processes.titles, "Processes": processes.rows }),
    ))
}
