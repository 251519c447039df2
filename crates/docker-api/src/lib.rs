//! The Docker Engine API over HTTP: routes, wire types, conversion to and from the model, one
//! error table, hijacked streams.
//!
//! It may depend on `engine` and `model` and knows nothing of disks and kernels. The API version
//! is an argument of conversions and handlers and never reaches the engine.
//!
//! ```no_run
//! # async fn serve(engine: std::sync::Arc<engine::Engine>, listener: tokio::net::UnixListener) {
//! let state = docker_api::AppState { engine };
//! docker_api::serve(listener, state, std::future::pending()).await;
//! # }
//! ```

#![recursion_limit = "256"] // json! of a large object

mod convert;
mod error;
mod query;
mod routes;
mod server;
mod version;
mod wire;

pub use error::ApiError;
pub use server::serve;
pub use version::ApiVersion;

use std::sync::Arc;

/// Reads the body of `POST /containers/create` into settings, as the route does.
///
/// Public because it is where the richest of outside bytes come in: the fuzz target calls it.
///
/// # Errors
/// The body is no JSON of that shape, or asks for what cannot be had.
pub fn read_create_body(bytes: &[u8]) -> Result<model::settings::ContainerSettings, ApiError> {
    let body = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad_request(format!("invalid JSON: {error}")))?;
    convert::create::settings(body)
}

/// What every handler can reach.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The engine behind the API.
    pub engine: Arc<engine::Engine>,
}
