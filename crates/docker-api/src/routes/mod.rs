//! Every route, a file per noun; what docker has and Berth does not yet have answers 501.

mod containers;
mod execs;
mod hijack;
mod images;
mod known;
mod logs;
mod networks;
pub(crate) mod system;
mod volumes;

use crate::{ApiError, AppState};
use axum::Router;
use http::{Method, Uri};
use model::ErrorKind;

/// Builds the router of all endpoints, without version prefix.
pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .merge(containers::router())
        .merge(execs::router())
        .merge(images::router())
        .merge(networks::router())
        .merge(system::router())
        .merge(volumes::router())
        .fallback(not_served)
        .method_not_allowed_fallback(not_served)
        .with_state(state)
}

async fn not_served(method: Method, uri: Uri) -> ApiError {
    match known::template(&method, uri.path()) {
        Some(template) => ApiError::not_supported(&format!("{method} {template}")),
        None => ApiError::new(ErrorKind::NotFound, "page not found"),
    }
}
