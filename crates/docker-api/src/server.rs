//! Serves HTTP/1.1 on accepted connections: cuts off the version, routes, hands upgraded
//! connections over. Refuses to know what any route does.

use crate::{AppState, routes, version};
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use engine::Traces;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::pin;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::Instrument;

/// Accepts and serves until `shutdown` resolves. Requests in flight are finished; connections
/// that were upgraded are no longer ours and stay.
pub async fn serve(listener: UnixListener, state: AppState, shutdown: impl Future<Output = ()>) {
    let traces = state.engine.traces().clone();
    let router = routes::router(state);
    let connections = TaskTracker::new();
    let stop = tokio_util::sync::CancellationToken::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let serving = Serving {
                    router: router.clone(),
                    traces: traces.clone(),
                };
                connections.spawn(connection(stream, serving, stop.clone()));
            }
            // Out of descriptors or a client that is gone already: neither ends the daemon.
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
    stop.cancel();
    connections.close();
}

async fn connection(
    stream: UnixStream,
    serving: Serving,
    stop: tokio_util::sync::CancellationToken,
) {
    let service = hyper::service::service_fn(move |request| traced(serving.clone(), request));
    let serving = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

/// What answers requests.
#[derive(Clone)]
struct Serving {
    router: Router,
    traces: Traces,
}

/// Answers within the span of a trace, if the client asks for one.
async fn traced(serving: Serving, request: Request<Incoming>) -> Result<Response, Infallible> {
    let header = request.headers().get("Berth-Trace");
    let id = header.and_then(|id| Traces::parse_id(id.to_str().ok()?));
    let Some(id) = id.map(str::to_owned) else {
        return answer(serving.router, request).await;
    };
    let _active = serving.traces.enter(&id);
    let is_id = |part: &str| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let parts = request.uri().path().split('/');
    let path: Vec<&str> = parts.filter(|part| !is_id(part)).collect();
    let step = format!("{} {}", request.method(), path.join("/"));
    let span = tracing::info_span!(
        target: "berth::step", "request", trace = id, actor = "daemon", step
    );
    answer(serving.router, request).instrument(span).await
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response, Infallible> {
    let mut response = match version::split(request.uri()) {
        Ok((version, uri)) => {
            let (mut parts, body) = request.into_parts();
            parts.uri = uri;
            parts.extensions.insert(version);
            router
                .oneshot(Request::from_parts(parts, Body::new(body)))
                .await?
        }
        Err(error) => error.into_response(),
    };
    routes::system::identify(response.headers_mut());
    response
        .headers_mut()
        .entry("Server")
        .or_insert(HeaderValue::from_static(concat!(
            "Berth/",
            env!("CARGO_PKG_VERSION"),
            " (linux)"
        )));
    Ok(response)
}
