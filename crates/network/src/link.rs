//! Links, addresses and routes of one network namespace, over rtnetlink.
//!
//! Says what the kernel is to do and reads what it has; decides nothing.

use crate::netlink::{ACK, Attributes, CREATE, Connection, DUMP, EXCL, Message};
use model::ipam::Cidr;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};
use sys::netlink::NetlinkFamily;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const IFF_UP: u32 = 1;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

/// Longest name of a device, without the closing zero.
pub const DEVICE_NAME_MAX: usize = 15;

/// A device's index in its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkIndex(u32);

/// The loopback device, which the kernel makes first in every namespace.
pub const LOOPBACK: LinkIndex = LinkIndex(1);

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Returns the address that docker derives from an IPv4 address: `02:42` and its four bytes.
    ///
    /// Who gets an address again gets the hardware address again, so neighbours that still
    /// remember the previous holder are not wrong.
    #[must_use]
    pub const fn of_address(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl std::fmt::Display for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for MacAddress {
    type Err = InvalidMacAddress;

    fn from_str(text: &str) -> Result<Self, InvalidMacAddress> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            *byte = parts
                .next()
                .filter(|p| p.len() == 2)
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(|| InvalidMacAddress(text.chars().take(32).collect()))?;
        }
        // The lowest bit of the first byte marks a group address, which no device may have.
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(InvalidMacAddress(text.chars().take(32).collect()));
        }
        Ok(Self(bytes))
    }
}

/// Why a text is no hardware address of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {0}")]
pub struct InvalidMacAddress(String);

/// A device as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: LinkIndex,
    /// Its name.
    pub name: String,
    /// `bridge`, `veth`, …; empty for real devices.
    pub kind: String,
    /// The bridge it is a port of.
    pub master: Option<LinkIndex>,
    /// Its hardware address, if it is six bytes long.
    pub mac: Option<MacAddress>,
}

/// The far end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct VethPeer<'a> {
    /// Namespace it is made in.
    pub netns: BorrowedFd<'a>,
    /// Name there.
    pub name: &'a str,
    /// Hardware address.
    pub mac: MacAddress,
}

/// A connection to the rtnetlink of one namespace.
#[derive(Debug)]
pub struct Links {
    connection: Connection,
}

impl Links {
    /// Opens a connection in the calling thread's namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            connection: Connection::open(NetlinkFamily::Route)?,
        })
    }

    /// Finds a device by name; none if there is no such device.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn find(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = Message::new(RTM_GETLINK, 0, &link_header(0, 0));
        message.put_str(IFLA_IFNAME, name);
        let mut found = None;
        let asked = self
            .connection
            .query(&mut message.finish(), |kind, payload| {
                if kind == RTM_NEWLINK {
                    found = parse_link(payload);
                }
            });
        match asked {
            Ok(()) => Ok(found),
            Err(error) if is_no_device(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finds a device's index by name, without waiting for what the kernel does to other devices.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn index_of(&self, name: &str) -> io::Result<Option<LinkIndex>> {
        Ok(self.connection.device_index(name)?.map(LinkIndex))
    }

    /// Lists all devices.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn list(&mut self) -> io::Result<Vec<Link>> {
        let message = Message::new(RTM_GETLINK, DUMP, &link_header(0, 0));
        let mut links = Vec::new();
        self.connection
            .query(&mut message.finish(), |kind, payload| {
                if kind == RTM_NEWLINK {
                    links.extend(parse_link(payload));
                }
            })?;
        Ok(links)
    }

    /// Makes a bridge with a hardware address of its own; one without takes that of a port, and
    /// changes it under its neighbours as ports come and go.
    ///
    /// # Errors
    /// As the kernel answers; `EEXIST` if the name is taken.
    pub fn create_bridge(
        &mut self,
        name: &str,
        mac: MacAddress,
        mtu: Option<u32>,
    ) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, CREATE | EXCL | ACK, &link_header(0, 0));
        message.put_str(IFLA_IFNAME, name);
        message.put(IFLA_ADDRESS, &mac.0);
        if let Some(mtu) = mtu {
            message.put_u32(IFLA_MTU, mtu);
        }
        message.nest(IFLA_LINKINFO, |m| {
            m.put_str(IFLA_INFO_KIND, "bridge");
        });
        self.connection.execute(&mut message.finish())
    }

    /// Makes a veth pair: `name` here, up and a port of `bridge`; its peer in another namespace
    /// from the first moment, so that no device is ever moved (which takes a grace period).
    ///
    /// # Errors
    /// As the kernel answers; nothing is left of a pair that failed.
    pub fn create_veth(
        &mut self,
        name: &str,
        bridge: LinkIndex,
        mtu: Option<u32>,
        peer: VethPeer<'_>,
    ) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, CREATE | EXCL | ACK, &link_header(0, IFF_UP));
        message.put_str(IFLA_IFNAME, name);
        message.put_u32(IFLA_MASTER, bridge.0);
        if let Some(mtu) = mtu {
            message.put_u32(IFLA_MTU, mtu);
        }
        let netns = peer.netns.as_raw_fd().to_ne_bytes();
        message.nest(IFLA_LINKINFO, |m| {
            m.put_str(IFLA_INFO_KIND, "veth");
            m.nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    // Not up yet: the kernel refuses to bring up an end before its pair is whole.
                    m.raw(&link_header(0, 0));
                    m.put_str(IFLA_IFNAME, peer.name);
                    m.put(IFLA_ADDRESS, &peer.mac.0);
                    m.put(IFLA_NET_NS_FD, &netns);
                    if let Some(mtu) = mtu {
                        m.put_u32(IFLA_MTU, mtu);
                    }
                });
            });
        });
        self.connection.execute(&mut message.finish())
    }

    /// Changes a device's hardware address.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn set_mac(&mut self, link: LinkIndex, mac: MacAddress) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, ACK, &link_header(link.0, 0));
        message.put(IFLA_ADDRESS, &mac.0);
        self.connection.execute(&mut message.finish())
    }

    /// Lets a bridge send packets back out of the port that they came from.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn set_hairpin(&mut self, port: &str) -> io::Result<()> {
        const IFLA_PROTINFO: u16 = 12;
        const IFLA_BRPORT_MODE: u16 = 4;
        let index = self.index_of(port)?.ok_or(io::ErrorKind::NotFound)?;
        let mut header = link_header(index.0, 0);
        header[0] = AF_BRIDGE;
        let mut message = Message::new(RTM_SETLINK, ACK, &header);
        message.nest(IFLA_PROTINFO, |m| {
            m.put(IFLA_BRPORT_MODE, &[1]);
        });
        self.connection.execute(&mut message.finish())
    }

    /// Brings a device up.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn set_up(&mut self, link: LinkIndex) -> io::Result<()> {
        let message = Message::new(RTM_NEWLINK, ACK, &link_header(link.0, IFF_UP));
        self.connection.execute(&mut message.finish())
    }

    /// Removes a device; a device that is gone already is no error.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn delete(&mut self, link: LinkIndex) -> io::Result<()> {
        let message = Message::new(RTM_DELLINK, ACK, &link_header(link.0, 0));
        match self.connection.execute(&mut message.finish()) {
            Err(error) if is_no_device(&error) => Ok(()),
            other => other,
        }
    }

    /// Gives a device an address; one that it has already is no error.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn add_address(&mut self, link: LinkIndex, address: Cidr) -> io::Result<()> {
        let mut message = Message::default();
        push_address(
            &mut message,
            RTM_NEWADDR,
            CREATE | EXCL | ACK,
            link,
            address,
        );
        match self.connection.execute(&mut message.finish()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Takes an address from a device.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn delete_address(&mut self, link: LinkIndex, address: Cidr) -> io::Result<()> {
        let mut message = Message::default();
        push_address(&mut message, RTM_DELADDR, ACK, link, address);
        self.connection.execute(&mut message.finish())
    }

    /// Configures a container's device in one exchange: its hardware address if it is to change,
    /// its address, up, and the default route.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn configure(
        &mut self,
        link: LinkIndex,
        mac: Option<MacAddress>,
        address: Cidr,
        gateway: Option<Ipv4Addr>,
    ) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, ACK, &link_header(link.0, IFF_UP));
        if let Some(mac) = mac {
            message.put(IFLA_ADDRESS, &mac.0);
        }
        push_address(
            &mut message,
            RTM_NEWADDR,
            CREATE | EXCL | ACK,
            link,
            address,
        );
        if let Some(gateway) = gateway {
            let fixed = [
                AF_INET,
                0,
                0,
                0,
                RT_TABLE_MAIN,
                RTPROT_BOOT,
                0,
                RTN_UNICAST,
                0,
                0,
                0,
                0,
            ];
            message.begin(RTM_NEWROUTE, CREATE | EXCL | ACK, &fixed);
            message.put(RTA_GATEWAY, &gateway.octets());
            message.put_u32(RTA_OIF, link.0);
        }
        self.connection.execute(&mut message.finish())
    }

    /// Lists the IPv4 addresses with the device that has each.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn addresses(&mut self) -> io::Result<Vec<(LinkIndex, Cidr)>> {
        let message = Message::new(RTM_GETADDR, DUMP, &[AF_INET, 0, 0, 0, 0, 0, 0, 0]);
        let mut addresses = Vec::new();
        self.connection
            .query(&mut message.finish(), |kind, payload| {
                if kind == RTM_NEWADDR {
                    addresses.extend(parse_address(payload));
                }
            })?;
        Ok(addresses)
    }

    /// Lists the destinations of the IPv4 routes in the main table with their device, without
    /// default routes: the subnets that the host uses already.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn routes(&mut self) -> io::Result<Vec<(Option<LinkIndex>, Cidr)>> {
        let message = Message::new(
            RTM_GETROUTE,
            DUMP,
            &[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        );
        let mut routes = Vec::new();
        self.connection
            .query(&mut message.finish(), |kind, payload| {
                if kind == RTM_NEWROUTE {
                    routes.extend(parse_route(payload));
                }
            })?;
        Ok(routes)
    }
}

fn is_no_device(error: &io::Error) -> bool {
    const ENODEV: i32 = 19;
    error.raw_os_error() == Some(ENODEV)
}

/// `struct ifinfomsg`.
fn link_header(index: u32, up: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&up.to_ne_bytes());
    header[12..16].copy_from_slice(&up.to_ne_bytes());
    header
}

fn push_address(message: &mut Message, kind: u16, flags: u16, link: LinkIndex, address: Cidr) {
    let [a, b, c, d] = link.0.to_ne_bytes();
    let fixed = [AF_INET, address.prefix_len(), 0, 0, a, b, c, d];
    message.begin(kind, flags, &fixed);
    message.put(IFA_LOCAL, &address.address().octets());
    message.put(IFA_ADDRESS, &address.address().octets());
    message.put(IFA_BROADCAST, &address.last().octets());
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let attributes = Attributes::after(payload, 16);
    let info = Attributes::after(attributes.get(IFLA_LINKINFO).unwrap_or(&[]), 0);
    Some(Link {
        index: LinkIndex(index),
        name: attributes.get_str(IFLA_IFNAME)?.to_owned(),
        kind: info.get_str(IFLA_INFO_KIND).unwrap_or_default().to_owned(),
        master: attributes.get_u32(IFLA_MASTER).map(LinkIndex),
        mac: attributes
            .get(IFLA_ADDRESS)
            .and_then(|mac| mac.try_into().ok())
            .map(MacAddress),
    })
}

fn parse_address(payload: &[u8]) -> Option<(LinkIndex, Cidr)> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let attributes = Attributes::after(payload, 8);
    let octets: [u8; 4] = attributes.get(IFA_LOCAL)?.try_into().ok()?;
    Some((
        LinkIndex(index),
        Cidr::new(octets.into(), *payload.get(1)?)?,
    ))
}

fn parse_route(payload: &[u8]) -> Option<(Option<LinkIndex>, Cidr)> {
    if *payload.get(4)? != RT_TABLE_MAIN {
        return None;
    }
    let attributes = Attributes::after(payload, 12);
    let octets: [u8; 4] = attributes.get(RTA_DST)?.try_into().ok()?;
    let device = attributes.get_u32(RTA_OIF).map(LinkIndex);
    Some((device, Cidr::new(octets.into(), *payload.get(1)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_parse() {
        let mac: MacAddress = "02:42:AC:11:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!(mac, MacAddress::of_address(Ipv4Addr::new(172, 17, 0, 2)));
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "01:00:5e:00:00:01",
            "x",
        ] {
            bad.parse::<MacAddress>().unwrap_err();
        }
    }
}
