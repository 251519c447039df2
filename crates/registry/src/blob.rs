//! One blob as a stream that survives broken connections.
//!
//! ```text
//! closed ──open (Range from the position)──▶ open ──chunk──▶ open … ──last byte──▶ end
//!    ▲                                        │
//!    └── pause, reported ◀── broken, stalled ─┘     gives up after a bounded number of tries
//! ```
//!
//! The stream counts bytes; whoever stores them compares the digest.

use crate::client::{Ask, Repository};
use crate::error::RegistryError;
use crate::retry;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming;
use model::image::Descriptor;
use std::time::Duration;

/// What a [`BlobStream`] yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobEvent {
    /// The next bytes.
    Bytes(Bytes),
    /// The connection broke; the next call waits so long and goes on where it stopped.
    Retrying {
        /// The pause.
        after: Duration,
        /// Why, in one line.
        reason: String,
    },
}

/// A download. Dropped, its connection is closed.
#[derive(Debug)]
pub struct BlobStream {
    repository: Repository,
    descriptor: Descriptor,
    position: u64,
    open: Option<Open>,
    pause: Option<Duration>,
    /// Tries since the last byte.
    tries: u32,
    /// Broken connections in all.
    breaks: u32,
}

#[derive(Debug)]
struct Open {
    url: String,
    body: Incoming,
    /// Bytes to throw away, where the registry does not know Range.
    skip: u64,
}

impl Repository {
    /// Starts to fetch a blob from `offset`. Nothing is asked before the first event is.
    #[must_use]
    pub fn fetch_blob(&self, descriptor: &Descriptor, offset: u64) -> BlobStream {
        BlobStream {
            repository: self.clone(),
            descriptor: descriptor.clone(),
            position: offset,
            open: None,
            pause: None,
            tries: 0,
            breaks: 0,
        }
    }
}

impl BlobStream {
    /// Returns what comes next; none after the last byte. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The registry refuses, has another size than the descriptor, or the connection broke too
    /// often.
    pub async fn next(&mut self) -> Result<Option<BlobEvent>, RegistryError> {
        if let Some(pause) = self.pause {
            tokio::time::sleep(pause).await;
            self.pause = None;
        }
        loop {
            if self.position >= self.descriptor.size {
                return Ok(None);
            }
            let step = match &mut self.open {
                None => self.reopen().await.map(|()| None),
                Some(open) => {
                    let chunk = self
                        .repository
                        .transport()
                        .next_chunk(&open.url, &mut open.body);
                    let url = &open.url;
                    chunk.await.and_then(|chunk| {
                        // The body ended, and with it the server's patience.
                        let ended = || RegistryError::Broken {
                            url: url.clone(),
                            reason: "unexpected EOF".to_owned(),
                        };
                        chunk.map(Some).ok_or_else(ended)
                    })
                }
            };
            match step {
                Ok(None) => {}
                Ok(Some(chunk)) => {
                    if let Some(bytes) = self.accept(chunk) {
                        return Ok(Some(BlobEvent::Bytes(bytes)));
                    }
                }
                Err(error) if error.is_transient() => return self.broken(error).map(Some),
                Err(error) => return Err(error),
            }
        }
    }

    async fn reopen(&mut self) -> Result<(), RegistryError> {
        let mut headers = HeaderMap::new();
        if self.position > 0 {
            let range = format!("bytes={}-", self.position);
            if let Ok(range) = HeaderValue::from_str(&range) {
                headers.insert(header::RANGE, range);
            }
        }
        let ask = Ask {
            method: Method::GET,
            path: self
                .repository
                .path(&format!("blobs/{}", self.descriptor.digest)),
            headers,
        };
        let answer = self
            .repository
            .ask(&ask)
            .await
            .map_err(|error| match error {
                // The blob ends before the place where it should go on.
                RegistryError::Refused { url, status, .. }
                    if status == StatusCode::RANGE_NOT_SATISFIABLE =>
                {
                    self.wrong_size(url, self.position)
                }
                other => other,
            })?;
        let partial = answer.response.status() == StatusCode::PARTIAL_CONTENT;
        let start = if partial {
            content_range_start(answer.response.headers()).unwrap_or(self.position)
        } else {
            0
        };
        if start > self.position {
            return Err(RegistryError::Broken {
                url: answer.url,
                reason: "registry answered with another range".to_owned(),
            });
        }
        let length = hyper::body::Body::size_hint(answer.response.body()).exact();
        if let Some(length) = length.filter(|length| start + length != self.descriptor.size) {
            return Err(self.wrong_size(answer.url, start + length));
        }
        self.open = Some(Open {
            url: answer.url,
            body: answer.response.into_body(),
            skip: self.position - start,
        });
        Ok(())
    }

    fn wrong_size(&self, url: String, actual: u64) -> RegistryError {
        RegistryError::WrongSize {
            url,
            expected: self.descriptor.size,
            actual,
        }
    }

    /// Takes what is new of a chunk.
    fn accept(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let open = self.open.as_mut()?;
        let known = usize::try_from(open.skip)
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        chunk = chunk.split_off(known);
        open.skip -= known as u64;
        // A body without a length may run on for ever; no more than announced is taken.
        let missing = usize::try_from(self.descriptor.size - self.position).unwrap_or(usize::MAX);
        chunk.truncate(missing);
        if chunk.is_empty() {
            return None;
        }
        self.position += chunk.len() as u64;
        self.tries = 0;
        Some(chunk)
    }

    fn broken(&mut self, error: RegistryError) -> Result<BlobEvent, RegistryError> {
        self.open = None;
        self.tries += 1;
        self.breaks += 1;
        if self.tries >= retry::TRIES_WITHOUT_PROGRESS_MAX || self.breaks >= retry::BREAKS_MAX {
            return Err(RegistryError::GaveUp {
                breaks: self.breaks,
                source: Box::new(error),
            });
        }
        if self.tries >= 2 {
            self.repository.leave_mirror();
        }
        let after = error
            .retry_after()
            .unwrap_or_else(|| retry::pause(self.repository.retry_pause(), self.tries));
        self.pause = Some(after);
        Ok(BlobEvent::Retrying {
            after,
            reason: error.to_string(),
        })
    }
}

/// `Content-Range: bytes 5-9/10` → 5.
fn content_range_start(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let range = value.trim().strip_prefix("bytes")?.trim_start();
    range.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let check = |value: &str, expected: Option<u64>| {
            let value = HeaderValue::from_str(value).unwrap();
            let headers = HeaderMap::from_iter([(header::CONTENT_RANGE, value)]);
            assert_eq!(content_range_start(&headers), expected);
        };
        check("bytes 5-9/10", Some(5));
        check("bytes 0-9/*", Some(0));
        check("bytes */10", None);
        check("items 5-9/10", None);
    }
}
