//! Requests and what comes back: a whole answer, a stream, or the connection itself.

use crate::connection::{Connection, Head, Stream};
use crate::{ClientError, Host};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

/// Piece of a streamed request body.
const CHUNK_BYTES: usize = 64 * 1024;
/// Most bytes of an error's body that are read.
const MAX_ERROR_BYTES: u64 = 64 * 1024;

/// A daemon to speak to.
///
/// It keeps one idle connection, so that requests made one after the other share it.
#[derive(Debug)]
pub struct Client {
    host: Host,
    prefix: String,
    trace: Option<String>,
    idle: RefCell<Option<Connection>>,
}

/// What a request carries.
enum Body<'a> {
    /// Nothing.
    Empty,
    /// A JSON document.
    Json(Vec<u8>),
    /// Anything, chunk by chunk.
    Stream(&'a mut dyn Read),
}

impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Json(document) => f.debug_tuple("Json").field(&document.len()).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// A request.
#[derive(Debug)]
pub struct Request<'a> {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Body<'a>,
}

impl<'a> Request<'a> {
    /// Makes a GET.
    #[must_use]
    pub fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    /// Makes a POST without a body.
    #[must_use]
    pub fn post(target: impl Into<String>) -> Self {
        Self::new("POST", target)
    }

    /// Makes a DELETE.
    #[must_use]
    pub fn delete(target: impl Into<String>) -> Self {
        Self::new("DELETE", target)
    }

    fn new(method: &'static str, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            headers: Vec::new(),
            body: Body::Empty,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Carries a JSON document.
    #[must_use]
    pub fn json(mut self, document: &impl Serialize) -> Self {
        // Our own wire types: string keys and no failing Serialize.
        self.body = Body::Json(serde_json::to_vec(document).unwrap_or_default());
        self
    }

    /// Carries a stream.
    #[must_use]
    pub fn stream(mut self, reader: &'a mut dyn Read) -> Self {
        self.body = Body::Stream(reader);
        self
    }

    /// Asks for the connection itself, as attach and exec do.
    #[must_use]
    pub fn upgrade(self) -> Self {
        self.header("Connection", "Upgrade")
            .header("Upgrade", "tcp")
    }
}

impl Client {
    /// Makes a client; nothing is connected yet.
    ///
    /// Requests carry no API version: the daemon then speaks its newest, and no round trip is
    /// spent on asking. [`Client::with_version`] pins one.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self {
            host,
            prefix: String::new(),
            trace: None,
            idle: RefCell::new(None),
        }
    }

    /// Pins the API version, such as `1.41`.
    #[must_use]
    pub fn with_version(self, version: &str) -> Self {
        Self {
            prefix: format!("/v{version}"),
            ..self
        }
    }

    /// Marks every later request as part of a trace.
    #[must_use]
    pub fn with_trace(self, id: Option<String>) -> Self {
        Self { trace: id, ..self }
    }

    /// Returns the daemon's address.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Connects ahead of need; the next request uses it.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self) -> Result<(), ClientError> {
        let connection = self.connection()?;
        self.idle.replace(Some(connection));
        Ok(())
    }

    /// Sends a request on a connection of its own and returns at once.
    ///
    /// # Errors
    /// Nobody listens, or the connection breaks.
    pub fn begin(&self, request: Request<'_>) -> Result<Pending, ClientError> {
        let mut connection = self.connection()?;
        let target = format!("{}{}", self.prefix, request.target);
        let head = self.head(&request, &target);
        match request.body {
            Body::Empty => connection.write(head.as_bytes())?,
            Body::Json(document) => {
                let mut bytes = head.into_bytes();
                bytes.extend(document);
                connection.write(&bytes)?;
            }
            Body::Stream(reader) => {
                connection.write(head.as_bytes())?;
                write_chunks(&mut connection, reader)?;
            }
        }
        Ok(Pending { connection, target })
    }

    /// Sends a request and waits for the head of its answer; an error status is an error.
    ///
    /// # Errors
    /// Nobody listens, the connection breaks, the daemon refuses.
    pub fn send(&self, request: Request<'_>) -> Result<Response, ClientError> {
        self.begin(request)?.response()
    }

    /// Sends a request, reads the whole answer, and keeps the connection for the next one.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn call(&self, request: Request<'_>) -> Result<(u16, Vec<u8>), ClientError> {
        self.finish(self.begin(request)?)
    }

    /// Reads the whole answer to a request that was begun, and keeps its connection.
    ///
    /// # Errors
    /// The connection breaks, the daemon refuses.
    pub fn finish(&self, pending: Pending) -> Result<(u16, Vec<u8>), ClientError> {
        let mut connection = pending.connection;
        let head = connection.read_head()?;
        let body = read_all(&mut connection, u64::MAX)?;
        let keep = head
            .header("connection")
            .is_none_or(|value| !value.eq_ignore_ascii_case("close"));
        if keep && connection.is_idle() {
            self.idle.replace(Some(connection));
        }
        if head.status >= 400 {
            return Err(daemon_error(head.status, &body));
        }
        Ok((head.status, body))
    }

    /// Sends a request whose answer is a JSON document.
    ///
    /// # Errors
    /// As [`Client::send`], or the document is not of that type.
    pub fn fetch<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<T, ClientError> {
        let path = request.target.clone();
        let (_, body) = self.call(request)?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Decode { path, source })
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub fn get<T: DeserializeOwned>(&self, target: impl Into<String>) -> Result<T, ClientError> {
        self.fetch(Request::get(target))
    }

    fn connection(&self) -> Result<Connection, ClientError> {
        match self.idle.take() {
            Some(connection) => Ok(connection),
            None => Stream::connect(&self.host).map(Connection::new),
        }
    }

    fn head(&self, request: &Request<'_>, target: &str) -> String {
        let mut head = String::with_capacity(512);
        let host = match &self.host {
            Host::Unix(_) => "berth",
            Host::Tcp(address) => address,
        };
        // Infallible: the target is a String.
        let mut line = |arguments: std::fmt::Arguments<'_>| {
            head.write_fmt(arguments).ok();
            head.push_str("\r\n");
        };
        line(format_args!("{} {target} HTTP/1.1", request.method));
        line(format_args!("Host: {host}"));
        line(format_args!(
            "User-Agent: Berth-Client/{}",
            env!("CARGO_PKG_VERSION")
        ));
        if let Some(id) = &self.trace {
            line(format_args!("Berth-Trace: {id}"));
        }
        for (name, value) in &request.headers {
            line(format_args!("{name}: {value}"));
        }
        match &request.body {
            Body::Empty if request.method == "POST" => line(format_args!("Content-Length: 0")),
            Body::Empty => {}
            Body::Json(document) => {
                line(format_args!("Content-Type: application/json"));
                line(format_args!("Content-Length: {}", document.len()));
            }
            Body::Stream(_) => {
                line(format_args!("Content-Type: application/x-tar"));
                line(format_args!("Transfer-Encoding: chunked"));
            }
        }
        line(format_args!(""));
        head
    }
}

fn write_chunks(connection: &mut Connection, reader: &mut dyn Read) -> Result<(), ClientError> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ClientError::Broken(error)),
        };
        let mut chunk = format!("{read:x}\r\n").into_bytes();
        chunk.extend(&buffer[..read]);
        chunk.extend(b"\r\n");
        match connection.write(&chunk) {
            Ok(()) => {}
            // The daemon answered before the end, with what it dislikes: its answer says more.
            Err(ClientError::Broken(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if read == 0 {
            return Ok(());
        }
    }
}

fn read_all(connection: &mut Connection, most: u64) -> Result<Vec<u8>, ClientError> {
    let mut all = Vec::new();
    BodyReader(connection)
        .take(most)
        .read_to_end(&mut all)
        .map_err(ClientError::Broken)?;
    Ok(all)
}

struct BodyReader<'a>(&'a mut Connection);

impl Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_body(buffer)
    }
}

fn daemon_error(status: u16, body: &[u8]) -> ClientError {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let message = match serde_json::from_slice::<Message>(body) {
        Ok(Message { message }) => message,
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            match text.trim() {
                "" => format!("status {status} without a message"),
                text => text.to_owned(),
            }
        }
    };
    ClientError::Daemon { status, message }
}

/// A request that was sent and not yet answered.
#[derive(Debug)]
pub struct Pending {
    connection: Connection,
    target: String,
}

impl Pending {
    /// Waits for the head of the answer; an error status is an error.
    ///
    /// # Errors
    /// The connection breaks, the daemon refuses.
    pub fn response(mut self) -> Result<Response, ClientError> {
        let head = self.connection.read_head()?;
        if head.status >= 400 {
            let body = read_all(&mut self.connection, MAX_ERROR_BYTES)?;
            return Err(daemon_error(head.status, &body));
        }
        Ok(Response {
            head,
            connection: self.connection,
            target: self.target,
        })
    }

    /// Waits for the daemon to hand the connection over.
    ///
    /// # Errors
    /// The connection breaks, the daemon refuses.
    pub fn hijacked(self) -> Result<Hijacked, ClientError> {
        let response = self.response()?;
        let (stream, early) = response.connection.into_parts();
        Ok(Hijacked { stream, early })
    }
}

/// An answer whose body is read as it comes.
#[derive(Debug)]
pub struct Response {
    head: Head,
    connection: Connection,
    target: String,
}

impl Response {
    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Returns a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Reads the rest as a JSON document.
    ///
    /// # Errors
    /// The connection breaks, or the document is not of that type.
    pub fn json<T: DeserializeOwned>(mut self) -> Result<T, ClientError> {
        let body = read_all(&mut self.connection, u64::MAX)?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Decode {
            path: self.target,
            source,
        })
    }

    /// Bounds how long a read may wait.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_read_timeout(&self, timeout: Option<std::time::Duration>) -> io::Result<()> {
        self.connection.stream().set_read_timeout(timeout)
    }

    /// Says whether a part of the body is here already, so that polling would miss it.
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        self.connection.has_buffered()
    }
}

impl Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.connection.read_body(buffer)
    }
}

impl AsFd for Response {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.stream().as_fd()
    }
}

/// A connection that is no longer HTTP.
#[derive(Debug)]
pub struct Hijacked {
    /// The socket.
    pub stream: Stream,
    /// What arrived together with the answer's head: the first of the output.
    pub early: Vec<u8>,
}
