//! Frames on a unix stream socket: length, JSON, and descriptors beside them.
//!
//! Used by both ends. Nothing here waits: a caller learns by `WouldBlock` to try again later.

use super::protocol::{MAX_FRAME_BYTES, MAX_FRAME_FDS};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

const HEADER_BYTES: usize = 4;

/// Makes a frame's bytes.
///
/// # Errors
/// When the value has no JSON form or is too long.
pub fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut bytes, value)?;
    let length = bytes.len() - HEADER_BYTES;
    if length > MAX_FRAME_BYTES {
        return Err(io::Error::other("frame too long"));
    }
    let length = u32::try_from(length).map_err(io::Error::other)?;
    bytes
        .iter_mut()
        .zip(length.to_le_bytes())
        .for_each(|(to, from)| *to = from);
    Ok(bytes)
}

/// Sends some of `bytes`, with `fds` on the first of them; returns how many went.
///
/// # Errors
/// `WouldBlock`, or the connection's end.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FRAME_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// What has come in and is not a whole frame yet.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Incoming {
    /// Reads once; false at the connection's end.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing now.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FRAME_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut chunk = [0; 4096];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut chunk)];
            match recvmsg(socket, &mut slices, &mut ancillary, flags) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        let got = chunk.get(..received.bytes).unwrap_or_default();
        self.bytes.extend_from_slice(got);
        Ok(received.bytes > 0)
    }

    /// Takes the next whole frame, if there is one.
    ///
    /// # Errors
    /// When the other end does not keep to the protocol.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(header) = self.bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
        }
        let Some(body) = self.bytes.get(HEADER_BYTES..HEADER_BYTES + length) else {
            return Ok(None);
        };
        let value = serde_json::from_slice(body)?;
        self.bytes.drain(..HEADER_BYTES + length);
        if self.bytes.is_empty() {
            self.bytes = Vec::new(); // a launch is large, and the memory is not needed again
        }
        Ok(Some(value))
    }

    /// Takes the next `count` descriptors.
    ///
    /// # Errors
    /// When fewer have come.
    pub fn take_fds(&mut self, count: usize) -> io::Result<VecDeque<OwnedFd>> {
        if count > self.fds.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame's descriptors are missing",
            ));
        }
        let rest = self.fds.split_off(count);
        Ok(std::mem::replace(&mut self.fds, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd as _;

    #[test]
    fn frames_and_descriptors_arrive_in_order() {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let long = "x".repeat(10_000);
        for text in ["one", &long, "three"] {
            let bytes = encode(&text).unwrap();
            assert_eq!(send(a.as_fd(), &bytes, &[a.as_fd()]).unwrap(), bytes.len());
        }
        drop(a);
        let mut incoming = Incoming::default();
        let mut texts: Vec<String> = Vec::new();
        // The descriptors in flight keep the other end open until they are received and dropped.
        while texts.len() < 3 {
            assert!(incoming.receive(b.as_fd()).unwrap());
            while let Some(text) = incoming.take().unwrap() {
                assert_eq!(incoming.take_fds(1).unwrap().len(), 1);
                texts.push(text);
            }
        }
        assert_eq!(texts, ["one", &long, "three"]);
        incoming.take_fds(1).unwrap_err();
        assert!(!incoming.receive(b.as_fd()).unwrap());
    }

    #[test]
    fn a_frame_without_bounds_is_refused() {
        let mut incoming = Incoming {
            bytes: vec![0xff; 8],
            fds: VecDeque::new(),
        };
        incoming.take::<String>().unwrap_err();
    }
}
