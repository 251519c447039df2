//! One control connection from a daemon.

use super::frame::{self, Incoming};
use super::protocol::{Envelope, Message};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// A daemon that does not read this much is cut off; it can connect again.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// A connection, and what waits in either direction.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    incoming: Incoming,
    waiting: Vec<u8>,
    open: bool,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            incoming: Incoming::default(),
            waiting: Vec::new(),
            open: true,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Reads what is there.
    pub(super) fn receive(&mut self) {
        loop {
            match self.incoming.receive(self.socket.as_fd()) {
                Ok(true) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(false) | Err(_) => {
                    self.open = false;
                    return;
                }
            }
        }
    }

    /// Takes the next request with its descriptors. One that breaks the protocol ends the
    /// connection.
    pub(super) fn next(&mut self) -> Option<(Envelope, VecDeque<OwnedFd>)> {
        let next = self.incoming.take::<Envelope>().and_then(|envelope| {
            envelope
                .map(|envelope| Ok((self.incoming.take_fds(envelope.fds)?, envelope)))
                .transpose()
        });
        match next {
            Ok(found) => found.map(|(fds, envelope)| (envelope, fds)),
            Err(_) => {
                self.open = false;
                None
            }
        }
    }

    /// Sends a message, as far as the socket takes it now.
    pub(super) fn send(&mut self, message: &Message) {
        match frame::encode(message) {
            Ok(bytes) if self.waiting.len() + bytes.len() <= MAX_WAITING_BYTES => {
                self.waiting.extend_from_slice(&bytes);
                self.flush();
            }
            _ => self.open = false,
        }
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) {
        while !self.waiting.is_empty() {
            match frame::send(self.socket.as_fd(), &self.waiting, &[]) {
                Ok(count) => {
                    self.waiting.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.open = false;
                    return;
                }
            }
        }
        self.waiting = Vec::new();
    }
}
