//! `/_ping`, and the headers by which clients negotiate.

use crate::error::from_engine_error;
use crate::{ApiVersion, AppState};
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, header};

from_engine_error!(engine::OpenError);

pub(crate) fn router() -> Router<AppState> {
    Router::new().route("/_ping", get(ping))
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
