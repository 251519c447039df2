//! Name → addresses → connection → TLS, with the words that docker's users know.
//!
//! Names are resolved by our own resolver: a static binary must not call the C library's, which
//! loads shared objects of the machine's.

use hickory_resolver::TokioResolver;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Why a host could not be reached. The wording is Go's, as docker prints it.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("dial tcp: lookup {host}: no such host")]
    NoSuchHost {
        /// The name.
        host: String,
    },
    /// The name servers did not answer.
    #[error("dial tcp: lookup {host}: {reason}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// The address did not accept.
    #[error("dial tcp {address}: connect: {}", go_words(error))]
    Connect {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The address did not answer in time.
    #[error("dial tcp {address}: i/o timeout")]
    Timeout {
        /// The address.
        address: SocketAddr,
    },
    /// The other side speaks no TLS.
    #[error("http: server gave HTTP response to HTTPS client")]
    NotTls,
    /// The handshake failed.
    #[error("tls: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
    /// The URL names no host.
    #[error("no host in request URL")]
    NoHost,
}

impl DialError {
    /// Copies what an `io::Error` does not let be cloned.
    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Self::NoSuchHost { host } => Self::NoSuchHost { host: host.clone() },
            Self::Lookup { host, reason } => Self::Lookup {
                host: host.clone(),
                reason: reason.clone(),
            },
            Self::Connect { address, error } => Self::Connect {
                address: *address,
                error: error
                    .raw_os_error()
                    .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error),
            },
            Self::Timeout { address } => Self::Timeout { address: *address },
            Self::NotTls => Self::NotTls,
            Self::Tls { reason } => Self::Tls {
                reason: reason.clone(),
            },
            Self::NoHost => Self::NoHost,
        }
    }
}

/// Rust says `Connection refused (os error 111)`, Go `connection refused`.
fn go_words(error: &io::Error) -> String {
    lower_first(&error.to_string())
}

fn lower_first(text: &str) -> String {
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// Connects for hyper's client.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    tls: Arc<ClientConfig>,
    timeout: Duration,
}

impl Dialer {
    pub(crate) fn new(tls: Arc<ClientConfig>, timeout: Duration) -> Self {
        Self { tls, timeout }
    }

    async fn dial(self, uri: Uri) -> Result<TokioIo<Stream>, DialError> {
        let host = uri.host().ok_or(DialError::NoHost)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let (stream, address) = self.connect(host, port).await?;
        if !tls {
            return Ok(TokioIo::new(Stream::Plain(stream)));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| DialError::NoHost)?;
        let handshake = TlsConnector::from(self.tls).connect(name, stream);
        match tokio::time::timeout(self.timeout, handshake).await {
            Err(_) => Err(DialError::Timeout { address }),
            Ok(Err(error)) => Err(handshake_error(&error)),
            Ok(Ok(stream)) => Ok(TokioIo::new(Stream::Tls(Box::new(stream)))),
        }
    }

    async fn connect(&self, host: &str, port: u16) -> Result<(TcpStream, SocketAddr), DialError> {
        let lookup = tokio::time::timeout(self.timeout, lookup(host)).await;
        let addresses = lookup.unwrap_or_else(|_| {
            Err(DialError::Lookup {
                host: host.to_owned(),
                reason: "i/o timeout".to_owned(),
            })
        })?;
        // Of several failures the first is told: it is that of the preferred address.
        let mut first = None;
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            let address = SocketAddr::new(address, port);
            match tokio::time::timeout(self.timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // A request goes out whole; waiting for more to send only adds latency.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "set TCP_NODELAY");
                    }
                    return Ok((stream, address));
                }
                Ok(Err(error)) => first = first.or(Some(DialError::Connect { address, error })),
                Err(_) => first = first.or(Some(DialError::Timeout { address })),
            }
        }
        Err(first.unwrap_or_else(|| DialError::NoSuchHost {
            host: host.to_owned(),
        }))
    }
}

/// Resolves a name by `/etc/hosts` and the name servers of `/etc/resolv.conf`, both read anew: a
/// daemon lives longer than a laptop stays in one network.
pub(crate) async fn lookup(host: &str) -> Result<Vec<IpAddr>, DialError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if host == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let failed = |error: &dyn std::error::Error| DialError::Lookup {
        host: host.to_owned(),
        reason: lower_first(error.to_string().rsplit(": ").next().unwrap_or_default()),
    };
    let resolver = TokioResolver::builder_tokio()
        .map_err(|error| failed(&error))?
        .build();
    match resolver.lookup_ip(host).await {
        Ok(found) => Ok(found.iter().collect()),
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
            Err(DialError::NoSuchHost {
                host: host.to_owned(),
            })
        }
        Err(error) => Err(failed(&error)),
    }
}

fn handshake_error(error: &io::Error) -> DialError {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => DialError::NotTls,
        Some(rustls::Error::InvalidCertificate(reason)) => DialError::Tls {
            reason: format!("failed to verify certificate: {reason}"),
        },
        Some(other) => DialError::Tls {
            reason: other.to_string(),
        },
        None => DialError::Tls {
            reason: go_words(error),
        },
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

/// A connection with or without TLS.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
