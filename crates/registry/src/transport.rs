//! One HTTP exchange: connection, redirects, deadlines, bounded bodies.
//!
//! Credentials ride along as far as the origin they were meant for, and no further. Knows nothing
//! of manifests, tokens or retries.

use crate::dial::{DialError, Dialer};
use crate::error::{RegistryError, RegistryReply};
use crate::options::RegistryOptions;
use crate::{retry, tls};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;

/// Redirects of one request; Go's client, and so docker, follows as many.
const REDIRECTS_MAX: usize = 10;
/// Longest body of a failure that is read.
const FAILURE_BYTES_MAX: usize = 64 * 1024;
/// How long an idle connection is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

type HttpClient = Client<Dialer, Full<Bytes>>;

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Transport {
    verified: HttpClient,
    unverified: HttpClient,
    answer_timeout: Duration,
    stall_timeout: Duration,
    user_agent: HeaderValue,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// Sent to `uri`'s origin only.
    pub(crate) authorization: Option<HeaderValue>,
    /// False: certificates are not verified, and plain HTTP will do.
    pub(crate) verify: bool,
    pub(crate) body: Bytes,
}

impl Exchange {
    pub(crate) fn get(uri: Uri, verify: bool) -> Self {
        Self {
            method: Method::GET,
            uri,
            headers: HeaderMap::new(),
            authorization: None,
            verify,
            body: Bytes::new(),
        }
    }
}

/// An answer, with the URL it finally came from.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) url: String,
    pub(crate) response: Response<Incoming>,
}

impl Transport {
    pub(crate) fn new(options: &RegistryOptions) -> Result<Self, rustls::Error> {
        let client = |tls| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .build(Dialer::new(tls, options.connect_timeout))
        };
        Ok(Self {
            verified: client(tls::verified()?),
            unverified: client(tls::unverified()?),
            answer_timeout: options.answer_timeout,
            stall_timeout: options.stall_timeout,
            user_agent: HeaderValue::from_str(&options.user_agent)
                .unwrap_or(HeaderValue::from_static("berth")),
        })
    }

    /// Sends one request and follows its redirects. Any status is an answer.
    pub(crate) async fn send(&self, mut exchange: Exchange) -> Result<Answer, RegistryError> {
        for _ in 0..=REDIRECTS_MAX {
            let url = shown(&exchange.uri);
            let response = self.send_once(&exchange, &url).await?;
            let follow = exchange.method == Method::GET || exchange.method == Method::HEAD;
            let Some(location) = location(&response).filter(|_| follow) else {
                return Ok(Answer { url, response });
            };
            let next = resolve(&exchange.uri, location).ok_or(RegistryError::Redirect {
                url: url.clone(),
                reason: "redirected to a malformed URL",
            })?;
            let downgraded = exchange.uri.scheme_str() == Some("https")
                && next.scheme_str() == Some("http")
                && exchange.verify;
            if downgraded {
                return Err(RegistryError::Redirect {
                    url,
                    reason: "redirected from https to http",
                });
            }
            if !same_origin(&exchange.uri, &next) {
                exchange.authorization = None;
            }
            exchange.uri = next;
        }
        Err(RegistryError::Redirect {
            url: shown(&exchange.uri),
            reason: "stopped after 10 redirects",
        })
    }

    async fn send_once(
        &self,
        exchange: &Exchange,
        url: &str,
    ) -> Result<Response<Incoming>, RegistryError> {
        let mut request = Request::new(Full::new(exchange.body.clone()));
        *request.method_mut() = exchange.method.clone();
        *request.uri_mut() = exchange.uri.clone();
        *request.headers_mut() = exchange.headers.clone();
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, self.user_agent.clone());
        if let Some(authorization) = &exchange.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let client = if exchange.verify {
            &self.verified
        } else {
            &self.unverified
        };
        match tokio::time::timeout(self.answer_timeout, client.request(request)).await {
            Err(_) => Err(RegistryError::NoAnswer {
                url: url.to_owned(),
                after: self.answer_timeout,
            }),
            Ok(Err(error)) => Err(failure(url, error)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// Reads the next piece of a body; none at its end.
    pub(crate) async fn next_chunk(
        &self,
        url: &str,
        body: &mut Incoming,
    ) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let frame = tokio::time::timeout(self.stall_timeout, body.frame()).await;
            let frame = frame.map_err(|_| RegistryError::NoAnswer {
                url: url.to_owned(),
                after: self.stall_timeout,
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(RegistryError::Broken {
                        url: url.to_owned(),
                        reason: innermost(&error),
                    });
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads a whole body of at most `limit` bytes.
    pub(crate) async fn read(&self, answer: Answer, limit: usize) -> Result<Bytes, RegistryError> {
        let Answer { url, response } = answer;
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.next_chunk(&url, &mut body).await? {
            if bytes.len() + chunk.len() > limit {
                return Err(RegistryError::TooLong { url, limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Makes the error of an answer that is a failure.
    pub(crate) async fn refusal(&self, answer: Answer) -> RegistryError {
        let url = answer.url.clone();
        let status = answer.response.status();
        let retry_after = retry::retry_after(answer.response.headers());
        let body = self.read(answer, FAILURE_BYTES_MAX).await;
        RegistryError::Refused {
            url,
            status,
            reply: RegistryReply::parse(status, &body.unwrap_or_default()),
            retry_after,
        }
    }
}

fn failure(url: &str, error: Error) -> RegistryError {
    let url = url.to_owned();
    match take_dial_error(error) {
        Ok(source) => RegistryError::Unreachable { url, source },
        Err(error) => RegistryError::Broken {
            url,
            reason: innermost(&error),
        },
    }
}

/// hyper boxes the dialer's error; it comes out by reference only, so its words are taken along.
fn take_dial_error(error: Error) -> Result<DialError, Error> {
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        if let Some(dial) = inner.downcast_ref::<DialError>() {
            return Ok(dial.duplicate());
        }
        source = inner.source();
    }
    Err(error)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// A URL without its query, which may hold a signature.
pub(crate) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // Nor a user's name and password, should a redirect carry them.
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}://{host}{}", uri.path())
}

fn location(response: &Response<Incoming>) -> Option<&str> {
    let redirects = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(header::LOCATION)?;
    location.to_str().ok().filter(|_| redirects)
}

/// Resolves a `Location` against the URL it was sent for (RFC 3986 §5.2, the cases in use).
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let absolute = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let directory = base
            .path()
            .rsplit_once('/')
            .map_or("", |(before, _)| before);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let uri: Uri = absolute.parse().ok()?;
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    uri.authority().is_some_and(|_| web).then_some(uri)
}

fn same_origin(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| {
        let default = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        uri.port_u16().unwrap_or(default)
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    one.scheme_str() == other.scheme_str() && host(one) == host(other) && port(one) == port(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn locations() {
        let base: Uri = "https://reg.example:5000/v2/a/blobs/x?y=1".parse().unwrap();
        let check = |location: &str, expected: Option<&str>| {
            let resolved = resolve(&base, location).map(|uri| uri.to_string());
            assert_eq!(resolved.as_deref(), expected, "{location}");
        };
        check(
            "https://cdn.example/b?sig=1#frag",
            Some("https://cdn.example/b?sig=1"),
        );
        check("//cdn.example/b", Some("https://cdn.example/b"));
        check("/b", Some("https://reg.example:5000/b"));
        check("b", Some("https://reg.example:5000/v2/a/blobs/b"));
        check("http://", None);
        check("https://bad host/", None);
    }

    #[test]
    fn origins() {
        let check = |one: &str, other: &str, expected: bool| {
            assert_eq!(
                same_origin(&one.parse().unwrap(), &other.parse().unwrap()),
                expected
            );
        };
        check("https://a/x", "https://A:443/y", true);
        check("http://a/", "https://a/", false);
        check("https://a/", "https://a:444/", false);
        check("https://a/", "https://b/", false);
    }

    #[test]
    fn queries_and_users_are_not_shown() {
        let uri: Uri = "https://user:word@cdn.example/b?sig=secret"
            .parse()
            .unwrap();
        assert_eq!(shown(&uri), "https://cdn.example/b");
    }

    proptest! {
        #[test]
        fn never_panics(location: String) {
            let base = Uri::from_static("https://reg.example/v2/");
            if let Some(uri) = resolve(&base, &location) {
                prop_assert!(matches!(uri.scheme_str(), Some("http" | "https")));
            }
        }
    }
}
