//! `GET /containers/{id}/logs`: entries of the log as docker's stream.

use super::hijack::{content_type, frame};
use crate::query::Params;
use crate::{ApiError, ApiVersion, AppState};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use engine::containers::{LogEntry, LogReader, LogRequest, LogStream};
use http::header;
use std::io;

/// What is written before each entry.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Decoration {
    timestamps: bool,
    details: bool,
}

/// Writes one entry: raw with a terminal, framed without.
pub(crate) fn encode(entry: &LogEntry, tty: bool, decoration: Decoration) -> Vec<u8> {
    let mut text = String::with_capacity(entry.text.len() + 40);
    if decoration.timestamps {
        text.push_str(&fixed_width(&entry.time));
        text.push(' ');
    }
    if decoration.details {
        // No driver option adds attributes here; docker still writes the separator.
        text.push(' ');
    }
    text.push_str(&entry.text);
    if tty {
        return text.into_bytes();
    }
    let stream = match entry.stream {
        LogStream::Stdout => 1,
        LogStream::Stderr => 2,
    };
    frame(stream, text.as_bytes())
}

/// Docker writes all nine digits of the fraction, so that lines align.
fn fixed_width(time: &str) -> String {
    let Some(body) = time.strip_suffix('Z') else {
        return time.to_owned();
    };
    let (seconds, fraction) = body.split_once('.').unwrap_or((body, ""));
    format!("{seconds}.{fraction:0<9}Z")
}

/// Answers.
pub(crate) fn respond(
    state: &AppState,
    id: &str,
    params: &Params,
    version: ApiVersion,
) -> Result<Response, ApiError> {
    let only = match (params.flag("stdout"), params.flag("stderr")) {
        (true, true) => None,
        (true, false) => Some(LogStream::Stdout),
        (false, true) => Some(LogStream::Stderr),
        (false, false) => {
            return Err(ApiError::bad_request(
                "Bad parameters: you must choose at least one stream",
            ));
        }
    };
    // Docker takes anything that is no number, such as `all`, for all.
    let tail = params.text("tail").and_then(|tail| tail.parse().ok());
    let request = LogRequest {
        follow: params.flag("follow"),
        tail,
        since_unix_ns: params.time_ns("since")?,
        until_unix_ns: params.time_ns("until")?,
        only,
    };
    let decoration = Decoration {
        timestamps: params.flag("timestamps"),
        details: params.flag("details"),
    };
    let containers = state.engine.containers();
    let tty = containers.inspect(id)?.definition.process.tty;
    let reader = containers.logs(id, request)?;
    let media_type = content_type(tty, version);
    let body = Body::from_stream(futures_util::stream::try_unfold(reader, move |reader| {
        next(reader, tty, decoration)
    }));
    Ok(([(header::CONTENT_TYPE, media_type)], body).into_response())
}

async fn next(
    mut reader: LogReader,
    tty: bool,
    decoration: Decoration,
) -> io::Result<Option<(Bytes, LogReader)>> {
    let entry = reader.next().await?;
    Ok(entry.map(|entry| (encode(&entry, tty, decoration).into(), reader)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_align() {
        assert_eq!(
            fixed_width("2026-01-02T03:04:05.6Z"),
            "2026-01-02T03:04:05.600000000Z"
        );
        assert_eq!(
            fixed_width("2026-01-02T03:04:05Z"),
            "2026-01-02T03:04:05.000000000Z"
        );
    }

    #[test]
    fn frames() {
        let entry = LogEntry {
            stream: LogStream::Stderr,
            time: "2026-01-02T03:04:05Z".to_owned(),
            text: "hi\n".to_owned(),
        };
        let framed = encode(&entry, false, Decoration::default());
        assert_eq!(framed, b"\x02\0\0\0\0\0\0\x03hi\n");
        assert_eq!(encode(&entry, true, Decoration::default()), b"hi\n");
    }
}
