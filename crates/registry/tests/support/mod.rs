//! A small HTTP server for tests: it answers as told, breaks off as told, and keeps a diary.
//!
//! It speaks HTTP/1.1 over plain TCP, one request a connection. A TLS hello gets an answer that is
//! no TLS, as from any plain server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// First byte that a Range header asks for.
    pub(crate) fn range_start(&self) -> usize {
        let range = self.header("range").unwrap_or("bytes=0-");
        let start = range.trim_start_matches("bytes=").trim_end_matches('-');
        start.parse().unwrap()
    }
}

/// One answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes after which the connection is cut.
    pub(crate) cut_after: Option<usize>,
    /// Pause before the body.
    pub(crate) pause: Duration,
    /// Silence after the body, before the connection is closed.
    pub(crate) hold: Duration,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The part of `bytes` that a Range request asks for.
    pub(crate) fn ranged(request: &Request, bytes: &[u8]) -> Self {
        let start = request.range_start();
        if request.header("range").is_none() {
            return Self::new(200, bytes);
        }
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        Self::new(206, &bytes[start..]).header("Content-Range", range)
    }

    /// An error in the distribution specification's JSON.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
        Self::new(status, body).header("Content-Type", "application/json")
    }
}

/// A running server; it ends with the test's runtime.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
        };
        let (requests, answer) = (Arc::clone(&server.requests), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut stream = stream;
                    if let Some(request) = read(&mut stream).await {
                        requests.lock().unwrap().push(request.clone());
                        write(&mut stream, &request, &answer(&request)).await;
                    }
                });
            }
        });
        server
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Requests whose path contains `part`.
    pub(crate) fn requests_for(&self, part: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.path.contains(part));
        requests
    }

    /// `127.0.0.1:port/name`.
    pub(crate) fn reference(&self, name: &str) -> model::Reference {
        format!("{}/{name}", self.address).parse().unwrap()
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        // The first byte of a TLS record.
        if bytes.first() == Some(&0x16) {
            let _gone = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
            return None;
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |l| l.parse().unwrap());
    let mut body = bytes[head_end..].to_vec();
    while body.len() < length {
        let mut chunk = [0; 4096];
        let count = stream
            .read(&mut chunk)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        body.extend_from_slice(&chunk[..count]);
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
    })
}

async fn write(stream: &mut TcpStream, request: &Request, answer: &Answer) {
    let mut head = format!(
        "HTTP/1.1 {} Whatever\r\nConnection: close\r\n",
        answer.status
    );
    if !answer
        .headers
        .iter()
        .any(|(name, _)| name == "Content-Length")
    {
        head += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let mut body: &[u8] = if request.method == "HEAD" {
        &[]
    } else {
        &answer.body
    };
    if let Some(cut) = answer.cut_after {
        body = &body[..cut.min(body.len())];
    }
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    tokio::time::sleep(answer.pause).await;
    // A client that went away is part of some tests.
    let _gone = stream.write_all(body).await;
    tokio::time::sleep(answer.hold).await;
    let _gone = stream.shutdown().await;
}

/// SHA-256 as a digest.
pub(crate) fn digest(bytes: &[u8]) -> model::Digest {
    use sha2::Digest as _;
    model::Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}

/// Options that do not wait long.
pub(crate) fn options() -> registry::RegistryOptions {
    registry::RegistryOptions {
        connect_timeout: Duration::from_secs(2),
        answer_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_millis(300),
        retry_pause: Duration::from_millis(10),
        ..registry::RegistryOptions::default()
    }
}
