//! Volumes, as far as containers make them.

use crate::error::from_engine_error;
use crate::query::Params;
use crate::{ApiError, AppState};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use engine::Engine;
use engine::volumes::{Volume, VolumeError};
use serde_json::{Value, json};

from_engine_error!(VolumeError);

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/{name}", get(inspect))
}

/// Converts one volume.
pub(crate) fn json(engine: &Engine, volume: &Volume) -> Value {
    json!({
        "CreatedAt": crate::convert::human::rfc3339(Some(volume.created_unix_ns)),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": engine.volumes().path(&volume.name),
        "Name": volume.name,
        "Options": null,
        "Scope": "local",
    })
}

async fn list(State(state): State<AppState>, params: Params) -> Result<Json<Value>, ApiError> {
    let filters = params.filters()?;
    if let Some(key) = filters.keys().find(|key| *key != "name") {
        return Err(ApiError::not_supported(&format!("the volume filter {key}")));
    }
    let names = filters.get("name").cloned().unwrap_or_default();
    let volumes = state.engine.volumes().list()?;
    let volumes: Vec<Value> = volumes
        .iter()
        .filter(|volume| names.is_empty() || names.iter().any(|n| volume.name.contains(n)))
        .map(|volume| json(&state.engine, volume))
        .collect();
    Ok(Json(json!({ "Volumes": volumes, "Warnings": null })))
}

async fn inspect(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let volume = state.engine.volumes().get(&name)?;
    Ok(Json(json(&state.engine, &volume)))
}
