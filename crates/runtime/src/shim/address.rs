//! The address of a shim's socket, however long the path of its directory.

use super::protocol::SOCKET_NAME;
use rustix::fs::{Mode, OFlags};
use rustix::net::SocketAddrUnix;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

/// A socket's address, valid as long as this lives: it goes through a descriptor of the
/// directory, as a unix address holds 107 bytes only.
#[derive(Debug)]
pub struct SocketAddress {
    address: SocketAddrUnix,
    _directory: OwnedFd,
}

impl SocketAddress {
    /// Names the socket in a shim's directory.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn beneath(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}/{SOCKET_NAME}", directory.as_raw_fd());
        Ok(Self {
            address: SocketAddrUnix::new(path)?,
            _directory: directory,
        })
    }

    /// Returns the address itself.
    #[must_use]
    pub fn get(&self) -> &SocketAddrUnix {
        &self.address
    }
}
