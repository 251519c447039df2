//! Ports on the host that are held while a container publishes them.
//!
//! The firewall takes the packets, so the sockets here never see one; they are real all the same:
//! that is what makes another program's bind fail, and ours if another program has the port.

use model::firewall::{HostPort, Transport};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

/// A bound socket; the port is free again when it is dropped.
#[derive(Debug)]
pub struct HeldPort {
    port: HostPort,
    _socket: Socket,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held for what the kernel does with them")]
enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Why a port cannot be held.
#[derive(Debug, thiserror::Error)]
#[error("{}", describe(source))]
pub struct BindError {
    /// What the kernel said.
    pub source: io::Error,
}

impl HeldPort {
    /// Binds a port in the calling thread's namespace.
    ///
    /// # Errors
    /// As bind(2) and listen(2).
    pub fn bind(port: HostPort) -> Result<Self, BindError> {
        let address = SocketAddrV4::new(port.address.unwrap_or(Ipv4Addr::UNSPECIFIED), port.port);
        let socket = match port.transport {
            Transport::Tcp => TcpListener::bind(address).map(Socket::Tcp),
            Transport::Udp => UdpSocket::bind(address).map(Socket::Udp),
        };
        match socket {
            Ok(socket) => Ok(Self {
                port,
                _socket: socket,
            }),
            Err(source) => Err(BindError { source }),
        }
    }

    /// Returns the port that is held.
    #[must_use]
    pub fn port(&self) -> HostPort {
        self.port
    }
}

/// The kernel's word as Go programs print it, which docker's users know.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Returns the ports that are given out when none is asked for: the kernel's own range for
/// outgoing connections, as docker does.
#[must_use]
pub fn ephemeral_range() -> RangeInclusive<u16> {
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let mut numbers = text.split_whitespace().map(str::parse);
        let range = numbers.next()?.ok()?..=numbers.next()?.ok()?;
        (!range.is_empty() && *range.start() > 0).then_some(range)
    };
    // What IANA sets aside, and docker's fall-back.
    read().unwrap_or(49153..=65535)
}
