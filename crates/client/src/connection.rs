//! HTTP/1.1 on one blocking stream: writes requests, reads heads and bodies.
//!
//! Only what an API client needs: no pipelining beyond what the caller does, no compression, no
//! trailers' meaning. Heads and chunk headers are bounded.

use crate::{ClientError, Host};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Longest head we read: hyper's and Go's servers stay far below.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Most headers in a head.
const MAX_HEADERS: usize = 64;
/// Longest line before a chunk, with its extensions.
const MAX_CHUNK_LINE_BYTES: usize = 4096;
/// One read; what a pipe holds by default.
const READ_BYTES: usize = 64 * 1024;

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// A unix socket.
    Unix(UnixStream),
    /// A TCP socket.
    Tcp(TcpStream),
}

impl Stream {
    pub(crate) fn connect(host: &Host) -> Result<Self, ClientError> {
        let connected = match host {
            Host::Unix(path) => UnixStream::connect(path).map(Self::Unix),
            Host::Tcp(address) => TcpStream::connect(address).and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }),
        };
        connected.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::PermissionDenied { host: host.clone() },
            _ => ClientError::Connect {
                host: host.clone(),
                source,
            },
        })
    }

    /// Makes reads and writes return instead of waiting.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(on),
            Self::Tcp(stream) => stream.set_nonblocking(on),
        }
    }

    /// Bounds every later read.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_read_timeout(&self, timeout: Option<std::time::Duration>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(timeout),
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// Tells the other side that nothing more will be written.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(buffer),
            Self::Tcp(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first lines of a response.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn framing(&self) -> Framing {
        let chunked = self
            .header("transfer-encoding")
            .is_some_and(|value| value.to_ascii_lowercase().contains("chunked"));
        if matches!(self.status, 100..=199 | 204 | 304) {
            Framing::Length(0)
        } else if chunked {
            Framing::Chunk {
                left: 0,
                first: true,
            }
        } else {
            match self
                .header("content-length")
                .and_then(|n| n.trim().parse().ok())
            {
                Some(length) => Framing::Length(length),
                None => Framing::UntilClose,
            }
        }
    }
}

/// How much of the body is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunk { left: u64, first: bool },
    UntilClose,
    Done,
}

/// A stream with what was read ahead of need.
#[derive(Debug)]
pub(crate) struct Connection<S = Stream> {
    stream: S,
    buffer: Vec<u8>,
    at: usize,
    framing: Framing,
}

impl<S: Read + Write> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            at: 0,
            framing: Framing::Done,
        }
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.stream.write_all(bytes).map_err(ClientError::Broken)
    }

    /// Gives up HTTP: the stream, and what arrived after the head.
    pub(crate) fn into_parts(mut self) -> (S, Vec<u8>) {
        self.buffer.drain(..self.at);
        (self.stream, self.buffer)
    }

    /// Says whether the body was read to its end, so that the connection can serve again.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.framing, Framing::Done | Framing::Length(0)) && self.at == self.buffer.len()
    }

    /// Says whether body bytes are here already, so that polling the socket would miss them.
    pub(crate) fn has_buffered(&self) -> bool {
        self.at < self.buffer.len()
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let old = self.buffer.len();
        self.buffer.resize(old + READ_BYTES.min(old.max(4096)), 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[old..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer
            .truncate(old + read.as_ref().copied().unwrap_or_default());
        read
    }

    /// Reads a response's head, past any `100 Continue`.
    pub(crate) fn read_head(&mut self) -> Result<Head, ClientError> {
        loop {
            if let Some(head) = self.parse_head()? {
                if head.status == 100 {
                    continue;
                }
                self.framing = head.framing();
                return Ok(head);
            }
            if self.buffer.len() - self.at > MAX_HEAD_BYTES {
                return Err(ClientError::Protocol("the head is too long"));
            }
            if self.fill().map_err(ClientError::Broken)? == 0 {
                return Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn parse_head(&mut self) -> Result<Option<Head>, ClientError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response
            .parse(&self.buffer[self.at..])
            .map_err(|_| ClientError::Protocol("the head cannot be parsed"))?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok(None);
        };
        let head = Head {
            status: response.code.unwrap_or_default(),
            headers: response
                .headers
                .iter()
                .map(|header| {
                    let value = String::from_utf8_lossy(header.value);
                    (header.name.to_owned(), value.into_owned())
                })
                .collect(),
        };
        self.at += length;
        Ok(Some(head))
    }

    /// Reads a part of the body; zero: it is over.
    pub(crate) fn read_body(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.framing {
            Framing::Done | Framing::Length(0) => Ok(0),
            Framing::Length(left) => {
                let read = self.take(out, left)?;
                if read == 0 && !out.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.framing = Framing::Length(left - read as u64);
                Ok(read)
            }
            Framing::UntilClose => {
                let read = self.take(out, u64::MAX)?;
                if read == 0 && !out.is_empty() {
                    self.framing = Framing::Done;
                }
                Ok(read)
            }
            Framing::Chunk { left: 0, first } => {
                let left = self.read_chunk_line(first)?;
                if left == 0 {
                    self.skip_trailers()?;
                    self.framing = Framing::Done;
                    return Ok(0);
                }
                self.framing = Framing::Chunk { left, first: false };
                self.read_body(out)
            }
            Framing::Chunk { left, .. } => {
                let read = self.take(out, left)?;
                if read == 0 && !out.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let left = left - read as u64;
                self.framing = Framing::Chunk { left, first: false };
                Ok(read)
            }
        }
    }

    fn take(&mut self, out: &mut [u8], most: u64) -> io::Result<usize> {
        if self.at == self.buffer.len() && self.fill()? == 0 {
            return Ok(0);
        }
        let here = &self.buffer[self.at..];
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = here.len().min(out.len()).min(most);
        out[..count].copy_from_slice(&here[..count]);
        self.at += count;
        Ok(count)
    }

    fn read_chunk_line(&mut self, first: bool) -> io::Result<u64> {
        if !first && !self.read_line()?.is_empty() {
            return Err(invalid("a chunk does not end where it should"));
        }
        let line = self.read_line()?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
            .ok_or_else(|| invalid("a chunk has no length"))
    }

    fn skip_trailers(&mut self) -> io::Result<()> {
        for _ in 0..MAX_HEADERS {
            if self.read_line()?.is_empty() {
                return Ok(());
            }
        }
        Err(invalid("too many trailers"))
    }

    fn read_line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let here = &self.buffer[self.at..];
            if let Some(end) = here.iter().position(|byte| *byte == b'\n') {
                let line = here[..end]
                    .strip_suffix(b"\r")
                    .unwrap_or(&here[..end])
                    .to_vec();
                self.at += end + 1;
                return Ok(line);
            }
            if here.len() > MAX_CHUNK_LINE_BYTES {
                return Err(invalid("a line is too long"));
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives its bytes in pieces of the sizes said.
    struct Script {
        bytes: Vec<u8>,
        at: usize,
        pieces: Vec<usize>,
    }

    impl Read for Script {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let piece = self.pieces.pop().unwrap_or(usize::MAX);
            let count = piece.min(out.len()).min(self.bytes.len() - self.at);
            out[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
            self.at += count;
            Ok(count)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn response(text: &[u8], pieces: Vec<usize>) -> Connection<Script> {
        Connection::new(Script {
            bytes: text.to_vec(),
            at: 0,
            pieces,
        })
    }

    fn body(connection: &mut Connection<Script>) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = [0; 7];
        loop {
            match connection.read_body(&mut buffer)? {
                0 => return Ok(all),
                read => all.extend(&buffer[..read]),
            }
        }
    }

    #[test]
    fn framings() {
        let check = |text: &str, expected: &str, idle: bool| {
            let mut connection = response(text.as_bytes(), vec![]);
            connection.read_head().unwrap();
            assert_eq!(
                body(&mut connection).unwrap(),
                expected.as_bytes(),
                "{text}"
            );
            assert_eq!(connection.is_idle(), idle, "{text}");
        };
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "hello",
            true,
        );
        check("HTTP/1.1 204 No Content\r\n\r\n", "", true);
        check("HTTP/1.1 200 OK\r\n\r\nall of it", "all of it", true);
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n",
            "",
            true,
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            "hello world",
            true,
        );
    }

    #[test]
    fn cut_bodies_are_errors() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        ] {
            let mut connection = response(text.as_bytes(), vec![]);
            connection.read_head().unwrap();
            assert!(body(&mut connection).is_err(), "{text}");
        }
    }

    #[test]
    fn what_follows_an_upgrade_is_kept() {
        let mut connection = response(
            b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nearly",
            vec![],
        );
        assert_eq!(connection.read_head().unwrap().status, 101);
        assert_eq!(connection.into_parts().1, b"early");
    }

    proptest! {
        #[test]
        fn chunks_arrive_whole_however_they_are_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..30), 0..8),
            pieces in prop::collection::vec(1usize..9, 0..200),
        ) {
            let mut wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in &chunks {
                wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\n");
            let mut connection = response(&wire, pieces);
            connection.read_head().unwrap();
            prop_assert_eq!(body(&mut connection).unwrap(), chunks.concat());
            prop_assert!(connection.is_idle());
        }

        #[test]
        fn nonsense_never_panics(wire in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut connection = response(&wire, vec![]);
            if connection.read_head().is_ok() {
                body(&mut connection).ok();
            }
        }
    }
}
