//! Takes a client's connection out of HTTP, for attach and exec.
//!
//! A client that asks for an upgrade gets 101 and its own socket is handed on, descriptor and all.
//! One that does not gets 200 with the output as the body; its input cannot be had from HTTP then.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use engine::containers::{Connection, Reservation};
use http::{Request, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::net::UnixStream;
use tokio_util::io::ReaderStream;

/// Docker's media types of the stream.
pub(crate) fn content_type(tty: bool, version: crate::ApiVersion) -> &'static str {
    if !tty && version.at_least(42) {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    }
}

/// A response that hands the connection over, and where it will be.
pub(crate) struct Hijack {
    /// To be returned from the handler.
    pub response: Response,
    connection: Source,
}

enum Source {
    Upgrade(OnUpgrade),
    Pair(UnixStream),
}

/// Prepares the hand-over.
pub(crate) fn hijack(
    request: &mut Request<Body>,
    tty: bool,
    version: crate::ApiVersion,
) -> io::Result<Hijack> {
    let media_type = content_type(tty, version);
    let wants_upgrade = request.headers().contains_key(header::UPGRADE);
    if wants_upgrade {
        let upgrade = hyper::upgrade::on(request);
        let headers = [
            (header::CONTENT_TYPE, media_type),
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "tcp"),
        ];
        let response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
        return Ok(Hijack {
            response,
            connection: Source::Upgrade(upgrade),
        });
    }
    let (ours, theirs) = UnixStream::pair()?;
    let body = Body::from_stream(ReaderStream::new(ours));
    let response = ([(header::CONTENT_TYPE, media_type)], body).into_response();
    Ok(Hijack {
        response,
        connection: Source::Pair(theirs),
    })
}

impl Hijack {
    /// Splits into the response and the future connection.
    pub(crate) fn split(self) -> (Response, Arriving) {
        (self.response, Arriving(self.connection))
    }
}

/// A connection that is on its way out of HTTP.
pub(crate) struct Arriving(Source);

impl Arriving {
    /// Waits for it; none if the client went away.
    pub(crate) async fn stream(self) -> Option<(UnixStream, Vec<u8>)> {
        match self.0 {
            Source::Pair(stream) => Some((stream, Vec::new())),
            Source::Upgrade(upgrade) => {
                let upgraded: Upgraded = upgrade.await.ok()?;
                let parts = upgraded.downcast::<TokioIo<UnixStream>>().ok()?;
                Some((parts.io.into_inner(), parts.read_buf.to_vec()))
            }
        }
    }
}

/// Hands a stream to whoever kept a place for it.
pub(crate) fn fulfil(reservation: Reservation, stream: UnixStream, read_ahead: Vec<u8>) {
    match stream.into_std() {
        Ok(stream) => reservation.fulfil(Connection {
            stream: stream.into(),
            read_ahead,
        }),
        Err(error) => tracing::warn!(%error, "take a connection out of the event loop"),
    }
}

/// Frames bytes as docker does without a terminal: 1 is stdout, 2 is stderr.
pub(crate) fn frame(stream: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![stream, 0, 0, 0];
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}
