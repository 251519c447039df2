//! Netlink sockets and fresh network namespaces: the system calls, without what is said over them.
//!
//! Messages are built and read by the `network` crate. The kernel answers a netlink request while
//! `send` runs, so a socket is never waited on: what is not there after a send will not come.

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Which part of the kernel a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetlinkFamily {
    /// Links, addresses, routes.
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// A socket that stays with the network namespace in which it was opened.
#[derive(Debug)]
pub struct NetlinkSocket {
    fd: OwnedFd,
}

impl NetlinkSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub fn open(family: NetlinkFamily) -> io::Result<Self> {
        let protocol = match family {
            // NETLINK_ROUTE is protocol 0, which rustix spells as none.
            NetlinkFamily::Route => None,
            NetlinkFamily::Netfilter => Some(rustix::net::netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { fd })
    }

    /// Lets one message be as large as `size_bytes`, beyond the system's limit.
    ///
    /// # Errors
    /// As setsockopt(2); needs `CAP_NET_ADMIN`.
    pub fn allow_message_size(&self, size_bytes: usize) -> io::Result<()> {
        Ok(sockopt::set_socket_send_buffer_size_force(
            &self.fd, size_bytes,
        )?)
    }

    /// Sends one datagram to the kernel, which handles it before this returns.
    ///
    /// # Errors
    /// As send(2).
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, datagram, SendFlags::empty()))?;
        Ok(())
    }

    /// Receives one datagram into `buffer` if there is one; none when the queue is empty.
    ///
    /// # Errors
    /// As recv(2), and [`io::ErrorKind::InvalidData`] if the buffer is too small for it.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let (_, len) =
            match rustix::io::retry_on_intr(|| rustix::net::recv(&self.fd, &mut *buffer, flags)) {
                Ok(received) => received,
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        buffer
            .get(..len)
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "netlink message cut off"))
    }

    /// Returns the index of a device in the socket's namespace; none if there is no such device.
    ///
    /// Unlike a netlink request it does not wait for the lock that is held while the kernel takes
    /// devices apart.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn device_index(&self, name: &str) -> io::Result<Option<u32>> {
        match rustix::net::netdevice::name_to_index(&self.fd, name) {
            Ok(index) => Ok(Some(index)),
            Err(Errno::NODEV) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens the calling thread's network namespace.
///
/// # Errors
/// As open(2).
pub fn current_network_namespace() -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(
        "/proc/thread-self/ns/net",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Moves the calling thread into a fresh network namespace.
///
/// Other threads stay where they are, so a thread that does this should do nothing else, or go
/// back with [`enter_network_namespace`].
///
/// # Errors
/// As unshare(2).
pub fn unshare_network_namespace() -> io::Result<()> {
    // SAFETY: unshare_unsafe demands that the file table is not unshared under code that holds
    // descriptors (CLONE_FILES); a network namespace leaves it alone.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Moves the calling thread into a network namespace.
///
/// # Errors
/// As setns(2).
pub fn enter_network_namespace(netns: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::thread::LinkNameSpaceType;
    rustix::thread::move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
    Ok(())
}
