//! Requests and answers over a netlink socket, synchronously.
//!
//! Owns sequence numbers and the reading of acknowledgements; what a message says is in `link`
//! and `firewall`.

mod message;

pub(crate) use message::{Attributes, Message};

use message::Replies;
use std::io;
use sys::netlink::{NetlinkFamily, NetlinkSocket};

/// `NLM_F_REQUEST`: set on everything we send.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer success too.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`: all objects, not one.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`: fail if it exists.
pub(crate) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`: make it if it does not exist.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: at the end of the list.
pub(crate) const APPEND: u16 = 0x800;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// The kernel fills at most 32 KiB per datagram of a dump. A refusal quotes the message that was
/// refused; the longest of ours are lists of elements, which are cut to fit.
const RECEIVE_BYTES: usize = 32 * 1024;

/// One socket and what is needed to talk over it.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: NetlinkSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens a connection in the calling thread's network namespace.
    pub(crate) fn open(family: NetlinkFamily) -> io::Result<Self> {
        Ok(Self {
            socket: NetlinkSocket::open(family)?,
            sequence: 0,
            buffer: Vec::new(),
        })
    }

    /// Sends messages in one datagram; fails with the first error that the kernel answers.
    pub(crate) fn execute(&mut self, datagram: &mut [u8]) -> io::Result<()> {
        self.exchange(datagram, |_, _| ())
    }

    /// Sends messages in one datagram and hands each object of the answer to `visit`, with its
    /// message type.
    pub(crate) fn query(
        &mut self,
        datagram: &mut [u8],
        visit: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.exchange(datagram, visit)
    }

    /// Lets a datagram be as large as `size_bytes`.
    pub(crate) fn allow_message_size(&self, size_bytes: usize) -> io::Result<()> {
        self.socket.allow_message_size(size_bytes)
    }

    /// Returns the index of a device, without waiting for the kernel's lock.
    pub(crate) fn device_index(&self, name: &str) -> io::Result<Option<u32>> {
        self.socket.device_index(name)
    }

    fn exchange(
        &mut self,
        datagram: &mut [u8],
        mut visit: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence = message::number(datagram, self.sequence);
        self.buffer.resize(RECEIVE_BYTES, 0);
        self.socket.send(datagram)?;
        let mut first_error = None;
        // Bounded by what the kernel queued for this request.
        while let Some(answer) = self.socket.receive(&mut self.buffer)? {
            for (kind, payload) in Replies::new(answer) {
                match kind {
                    NLMSG_ERROR => {
                        let code = payload.first_chunk().map_or(0, |b| i32::from_ne_bytes(*b));
                        if code != 0 && first_error.is_none() {
                            first_error = Some(io::Error::from_raw_os_error(-code));
                        }
                    }
                    NLMSG_DONE => {}
                    _ => visit(kind, payload),
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}
