//! The talk between the runtime and the process it forked: framed messages with descriptors.
//!
//! A frame is a length (u32), a kind, a count of descriptors, and the body. The descriptors
//! travel with its first bytes. There is one reader and one writer at each end, and neither sends
//! more than the other expects, so the buffering below needs no bound but the frame's own.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// What a message means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// To the child: the plan, a seccomp program, descriptors.
    Fill = 1,
    /// To the child: the runtime's hooks have run.
    Continue = 2,
    /// To the child: execute the program.
    Start = 3,
    /// From the child: the runtime's hooks may run.
    Hooks = 4,
    /// From the child: all is ready but the execution; the steps so far.
    Ready = 5,
    /// From the child: it failed and is ending.
    Failed = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Fill,
            Self::Continue,
            Self::Start,
            Self::Hooks,
            Self::Ready,
            Self::Failed,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A received message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// One end of the talk.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

const HEADER: usize = 6;
/// Plans are some kilobytes; environments can be large, but execve(2) itself stops at 2 MiB.
const MAX_BODY: usize = 8 << 20;
/// Standard streams, a network namespace, a listener, a terminal.
const MAX_FDS: usize = 8;

impl Channel {
    /// Makes both ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self::new(a), Self::new(b)))
    }

    /// Speaks over a connected stream socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            bytes: Vec::new(),
            fds: VecDeque::new(),
        }
    }

    /// Sends one message, all of it.
    pub(crate) fn send(
        &self,
        kind: Kind,
        parts: &[&[u8]],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > MAX_BODY || fds.len() > MAX_FDS {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut frame = Vec::with_capacity(HEADER + length);
        frame.extend_from_slice(
            &u32::try_from(length)
                .map_err(io::Error::other)?
                .to_le_bytes(),
        );
        frame.push(kind as u8);
        frame.push(u8::try_from(fds.len()).map_err(io::Error::other)?);
        parts.iter().for_each(|part| frame.extend_from_slice(part));

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let mut sent = 0;
        while sent < frame.len() {
            let slice = [IoSlice::new(&frame[sent..])];
            match sendmsg(&self.socket, &slice, &mut control, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    sent += count;
                    control.clear();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for one message; `None` when the other end is closed.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let start = self.bytes.len();
            let wanted = self.missing().max(4096);
            self.bytes.resize(start + wanted, 0);
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut slice = [IoSliceMut::new(&mut self.bytes[start..])];
            let received = recvmsg(
                &self.socket,
                &mut slice,
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    self.fds.extend(fds);
                }
            }
            let count = match received {
                Ok(received) => received.bytes,
                Err(rustix::io::Errno::INTR) => {
                    self.bytes.truncate(start);
                    continue;
                }
                // Where the other end died with bytes unread, the kernel says so this way.
                Err(rustix::io::Errno::CONNRESET) => 0,
                Err(error) => return Err(error.into()),
            };
            self.bytes.truncate(start + count);
            if count == 0 {
                return Ok(None);
            }
        }
    }

    fn length(&self) -> Option<usize> {
        let bytes: [u8; 4] = self.bytes.get(..4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    }

    fn missing(&self) -> usize {
        self.length().map_or(0, |length| {
            (HEADER + length).saturating_sub(self.bytes.len())
        })
    }

    fn take(&mut self) -> io::Result<Option<Message>> {
        let Some(length) = self.length() else {
            return Ok(None);
        };
        if length > MAX_BODY {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.bytes.len() < HEADER + length {
            return Ok(None);
        }
        let kind = Kind::from_byte(self.bytes[4]).ok_or(io::ErrorKind::InvalidData)?;
        let count = usize::from(self.bytes[5]);
        if count > self.fds.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let body = self.bytes[HEADER..HEADER + length].to_vec();
        self.bytes.drain(..HEADER + length);
        Ok(Some(Message {
            kind,
            body,
            fds: self.fds.drain(..count).collect(),
        }))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_order_bodies_and_descriptors() {
        let (left, mut right) = Channel::pair().unwrap();
        let (a, b) = rustix::pipe::pipe().unwrap();
        left.send(Kind::Hooks, &[], &[]).unwrap();
        left.send(Kind::Ready, &[b"abc", b"def"], &[a.as_fd(), b.as_fd()])
            .unwrap();
        left.send(Kind::Failed, &[&[7; 100_000]], &[b.as_fd()])
            .unwrap();
        drop(left);
        let message = right.receive().unwrap().unwrap();
        assert_eq!((message.kind, message.fds.len()), (Kind::Hooks, 0));
        let message = right.receive().unwrap().unwrap();
        assert_eq!(
            (message.kind, &message.body[..]),
            (Kind::Ready, &b"abcdef"[..])
        );
        assert_eq!(message.fds.len(), 2);
        let message = right.receive().unwrap().unwrap();
        assert_eq!((message.kind, message.body.len()), (Kind::Failed, 100_000));
        assert_eq!(message.fds.len(), 1);
        assert!(right.receive().unwrap().is_none());
    }
}
