//! `POST /images/create`: pull and import.
//!
//! A pull's HTTP status is decided before its first line, as in dockerd: what fails while the
//! name is being resolved is a status, what fails later is a line. The pull lives in the body:
//! when the client goes, the body is dropped, and the pull with it.

use super::{Pairs, Parameters, auth, parse_reference, with_tag};
use crate::wire::images::Message;
use crate::{ApiError, AppState};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use engine::images::{Images, ImportOptions, PullError, PullEvent, Pulled};
use futures_util::stream;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use model::Reference;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use tokio::sync::mpsc;
use tracing::Instrument;

/// Events between a pull and its body: enough for a burst of small layers.
const EVENTS: usize = 64;
/// Chunks between an import's body and the unpacker.
const CHUNKS: usize = 32;

pub(super) async fn create(
    State(state): State<AppState>,
    Query(pairs): Pairs,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let parameters = Parameters(pairs);
    let images = state.engine.images();
    if let Some(name) = parameters.text("fromImage") {
        return pull(images, name, &parameters, &headers).await;
    }
    match parameters.text("fromSrc") {
        Some("-") => import(images, &parameters, body).await,
        Some(_) => Err(ApiError::not_supported("importing from a URL")),
        None => Err(ApiError::bad_request(
            "one of fromImage and fromSrc is needed",
        )),
    }
}

type Pull = Pin<Box<dyn Future<Output = Result<Pulled, PullError>> + Send>>;

/// A pull and what it still has to tell.
struct Running {
    pull: Pull,
    events: mpsc::Receiver<PullEvent>,
    reference: Reference,
}

/// What comes out of a [`Running`] pull.
enum Step {
    Event(PullEvent),
    Done(Box<Result<Pulled, PullError>>),
}

async fn pull(
    images: &Images,
    name: &str,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let tag = parameters.text("tag");
    let named = parse_reference(name)?;
    if tag.is_none() && !has_tag(name) {
        let what = "pulling all tags of a repository";
        return Err(ApiError::not_supported(what));
    }
    // A digest in the name wins over the tag parameter.
    let tag = tag.filter(|_| named.digest().is_none());
    let reference = with_tag(named, tag)?;
    let platform = parameters.platform()?;
    let credentials = auth::from_headers(headers);
    let (sender, events) = mpsc::channel(EVENTS);
    let (images, wanted) = (images.clone(), reference.clone());
    let pull = async move { images.pull(&wanted, platform, credentials, &sender).await };
    let mut running = Running {
        // The body outlives the handler; its steps still belong to this request.
        pull: Box::pin(pull.in_current_span()),
        events,
        reference,
    };
    let first = match running.next().await {
        Step::Event(event) => Step::Event(event),
        Step::Done(result) => match *result {
            Err(error) => return Err(without_login(api_error(&error, &running.reference))),
            Ok(pulled) => Step::Done(Box::new(Ok(pulled))),
        },
    };
    Ok(stream_response(running, first))
}

impl Running {
    /// Events go first: the result is the last word.
    async fn next(&mut self) -> Step {
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => Step::Event(event),
            result = &mut self.pull => Step::Done(Box::new(result)),
        }
    }

    fn last_lines(&mut self, result: Result<Pulled, PullError>) -> Vec<u8> {
        let mut lines = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            lines.extend(Message::pull(&event).line());
        }
        match result {
            Ok(pulled) => {
                let name = self.reference.familiar();
                let status = if pulled.newer {
                    format!("Status: Downloaded newer image for {name}")
                } else {
                    format!("Status: Image is up to date for {name}")
                };
                lines.extend(Message::status(format!("Digest: {}", pulled.digest)).line());
                lines.extend(Message::status(status).line());
            }
            Err(error) => {
                let error = api_error(&error, &self.reference);
                lines.extend(Message::error(error.message()).line());
            }
        }
        lines
    }
}

fn stream_response(running: Running, first: Step) -> Response {
    let lines = stream::unfold(Some((running, Some(first))), |state| async {
        let (mut running, step) = state?;
        let step = match step {
            Some(step) => step,
            None => running.next().await,
        };
        Some(match step {
            Step::Event(event) => (Message::pull(&event).line(), Some((running, None))),
            Step::Done(result) => (running.last_lines(*result), None),
        })
    });
    let chunks = futures_util::StreamExt::map(lines, |line| Ok::<_, Infallible>(Bytes::from(line)));
    json_stream(Body::from_stream(chunks))
}

fn json_stream(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The message and, where there is one, the hint, in one line.
fn api_error(error: &PullError, reference: &Reference) -> ApiError {
    let plain = ApiError::from_error(error.kind(), error);
    match error.hint(reference) {
        Some(hint) => ApiError::new(error.kind(), format!("{} ({hint})", plain.message())),
        None => plain,
    }
}

/// A registry's refusal is not the daemon's own 401: docker's client would ask for a login, and
/// wait for ever where nobody can type one. dockerd answers 500 here.
fn without_login(error: ApiError) -> ApiError {
    if error.status() == http::StatusCode::UNAUTHORIZED {
        return ApiError::new(model::ErrorKind::Internal, error.message());
    }
    error
}

/// A tag or a digest is written in the name itself.
fn has_tag(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    name.contains('@') || last.contains(':')
}

async fn import(
    images: &Images,
    parameters: &Parameters,
    body: Body,
) -> Result<Response, ApiError> {
    let reference = match parameters.text("repo") {
        Some(repo) => Some(with_tag(parse_reference(repo)?, parameters.text("tag"))?),
        None => None,
    };
    let options = ImportOptions {
        reference,
        message: parameters.text("message").unwrap_or_default().to_owned(),
        changes: parameters.all("changes"),
        platform: parameters.platform()?,
    };
    let (chunks, receiver) = mpsc::channel(CHUNKS);
    let (image, ()) = tokio::join!(images.import(receiver, options), forward(body, chunks));
    let line = Message::status(image?.id.to_string()).line();
    Ok(json_stream(Body::from(line)))
}

/// Hands a request's body over until it ends or nobody wants it.
async fn forward(mut body: Body, chunks: mpsc::Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let chunk = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => Ok(data),
            // Trailers say nothing here.
            Ok(Err(_)) => continue,
            Err(error) => Err(io::Error::other(error)),
        };
        if chunks.send(chunk).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_seen() {
        for (name, expected) in [
            ("busybox", false),
            ("localhost:5000/busybox", false),
            ("localhost:5000/busybox:1", true),
            ("busybox@sha256:00", true),
        ] {
            assert_eq!(has_tag(name), expected, "{name}");
        }
    }
}
