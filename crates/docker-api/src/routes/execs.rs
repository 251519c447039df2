//! Execs.

use super::containers::{body, size};
use super::hijack;
use crate::error::from_engine_error;
use crate::query::Params;
use crate::wire::execs::{ExecConfig, ExecStartConfig};
use crate::{ApiError, ApiVersion, AppState};
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::execs::{ExecError, ExecSettings};
use engine::shims::{AttachOptions, DetachKeys};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use model::ErrorKind;
use model::settings::{AttachFlags, ProcessSettings};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

from_engine_error!(ExecError);

/// Larger bodies of an exec's start are refused.
const MAX_START_BYTES: usize = 64 << 10;

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

async fn create(
    State(state): State<AppState>,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let ExecConfig {
        attach_stdin,
        attach_stdout,
        attach_stderr,
        console_size,
        detach_keys,
        tty,
        env,
        cmd,
        privileged,
        user,
        working_dir,
    } = body(&bytes)?;
    let cmd = cmd.unwrap_or_default();
    if cmd.is_empty() {
        return Err(ApiError::bad_request("No exec command specified"));
    }
    if let Some(keys) = detach_keys.as_deref().filter(|keys| !keys.is_empty()) {
        parse_keys(keys)?;
    }
    let settings = ExecSettings {
        process: ProcessSettings {
            entrypoint: None,
            cmd: Some(cmd),
            env: env.unwrap_or_default(),
            working_dir: working_dir.unwrap_or_default(),
            user: user.unwrap_or_default(),
            group_add: Vec::new(),
            tty: tty.unwrap_or_default(),
            open_stdin: attach_stdin.unwrap_or_default(),
            stdin_once: true,
            attach: AttachFlags {
                stdin: attach_stdin.unwrap_or_default(),
                stdout: attach_stdout.unwrap_or_default(),
                stderr: attach_stderr.unwrap_or_default(),
            },
            console_size: console_size.filter(|size| *size != (0, 0)),
        },
        privileged: privileged.unwrap_or_default(),
        detach_keys: detach_keys.filter(|keys| !keys.is_empty()),
    };
    let id = state.engine.execs().create(&id, settings)?;
    Ok((StatusCode::CREATED, Json(json!({ "Id": id }))).into_response())
}

fn parse_keys(text: &str) -> Result<DetachKeys, ApiError> {
    let keys = text.parse::<DetachKeys>();
    keys.map_err(|error| ApiError::bad_request(format!("invalid detach keys: {error}")))
}

async fn start(
    State(state): State<AppState>,
    Path(id): Path<String>,
    version: ApiVersion,
    mut request: Request<Body>,
) -> Result<Response, ApiError> {
    // The upgrade has to be asked for while the request is whole; the body comes first, though.
    let bytes = http_body_util::Limited::new(std::mem::take(request.body_mut()), MAX_START_BYTES);
    let bytes = bytes
        .collect()
        .await
        .map_err(|error| ApiError::bad_request(format!("read the body: {error}")))?;
    let ExecStartConfig {
        detach,
        tty: _, // said again by old clients; the exec's own counts
        console_size,
    } = body(&bytes.to_bytes())?;
    let execs = state.engine.execs();
    let view = execs.inspect(&id)?;
    execs.claim(&id)?;
    let console_size = console_size.filter(|size| *size != (0, 0));
    if detach.unwrap_or_default() {
        execs.start(&id, None, console_size).await?;
        return Ok(StatusCode::OK.into_response());
    }
    let tty = view.process.tty;
    let attach = view.settings.process.attach;
    let keys = view.settings.detach_keys.as_deref();
    let options = AttachOptions {
        stdin: attach.stdin,
        stdout: attach.stdout,
        stderr: attach.stderr,
        detach_keys: keys.map(parse_keys).transpose()?.unwrap_or_default(),
    };
    let hijack = hijack::hijack(&mut request, tty, version)
        .map_err(|error| ApiError::from_error(ErrorKind::Internal, &error))?;
    let (response, arriving) = hijack.split();
    let execs = execs.clone();
    tokio::spawn(async move {
        let Some((stream, read_ahead)) = arriving.stream().await else {
            return;
        };
        let Ok(stream) = stream.into_std() else {
            return;
        };
        let Ok(spare) = stream.try_clone() else {
            return;
        };
        let (reservation, attach) = execs.reserve(options);
        reservation.fulfil(engine::containers::Connection {
            stream: stream.into(),
            read_ahead,
        });
        if let Err(error) = execs.start(&id, Some(attach), console_size).await {
            report(spare, tty, &ApiError::from(error)).await;
        }
    });
    Ok(response)
}

/// The client has been told 101: what went wrong is written into its stream, as docker does.
async fn report(stream: std::os::unix::net::UnixStream, tty: bool, error: &ApiError) {
    let Ok(mut stream) = tokio::net::UnixStream::from_std(stream) else {
        return;
    };
    let text = format!("{}\r\n", error.message());
    let bytes = if tty {
        text.into_bytes()
    } else {
        hijack::frame(1, text.as_bytes())
    };
    if let Err(error) = stream.write_all(&bytes).await {
        tracing::debug!(%error, "tell a client that its exec failed");
    }
}

async fn resize(
    State(state): State<AppState>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let (rows, columns) = size(&params)?;
    state.engine.execs().resize(&id, rows, columns).await?;
    Ok(StatusCode::OK)
}

async fn inspect(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let view = state.engine.execs().inspect(&id)?;
    let args = &view.process.args;
    let process = &view.settings.process;
    Ok(Json(json!({
        "ID": view.id,
        "Running": view.running,
        "ExitCode": view.exit_code,
        "ProcessConfig": {
            "tty": process.tty,
            "entrypoint": args.first().map_or("", String::as_str),
            "arguments": args.get(1..).unwrap_or_default(),
            "privileged": view.settings.privileged,
            "user": view.process.user,
        },
        "OpenStdin": process.attach.stdin,
        "OpenStderr": process.attach.stderr,
        "OpenStdout": process.attach.stdout,
        "CanRemove": false,
        "ContainerID": view.container.as_str(),
        "DetachKeys": view.settings.detach_keys.as_deref().unwrap_or_default(),
        "Pid": view.pid,
    })))
}
