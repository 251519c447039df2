//! Forgetting what the kernel remembers of UDP flows.
//!
//! UDP has no connections, so the kernel takes every packet between two ports as one flow for as
//! long as they keep coming, and translates only a flow's first packet anew. A client that keeps
//! its port would be led to a container that is gone, or past one that has come. TCP needs none of
//! this: its connections end.

use crate::link::Links;
use crate::netlink::{ACK, Attributes, Connection, DUMP, Message};
use model::firewall::{HostPort, Target, Transport};
use std::io;
use std::net::Ipv4Addr;
use sys::netlink::NetlinkFamily;

const CT_NEW: u16 = 1 << 8;
const CT_GET: u16 = CT_NEW | 1;
const CT_DELETE: u16 = CT_NEW | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const NESTED: u16 = 0x8000;
/// `struct nfgenmsg` for IPv4.
const HEADER: [u8; 4] = [2, 0, 0, 0];

/// One flow, as far as it matters here.
#[derive(Debug)]
struct Flow {
    transport: u8,
    /// Where the client sent it.
    to: (Ipv4Addr, u16),
    /// Who answers.
    answered_by: Ipv4Addr,
    /// The original tuple and the flow's number, as the kernel wrote them.
    tuple: Vec<u8>,
    number: Vec<u8>,
}

/// Makes the kernel forget the UDP flows through ports that have just been published or withdrawn;
/// returns how many there were.
///
/// # Errors
/// As the kernel answers.
pub fn forget_flows(ports: &[(HostPort, Target)]) -> io::Result<usize> {
    let udp = |(from, _): &&(HostPort, Target)| from.transport == Transport::Udp;
    let ports: Vec<_> = ports.iter().filter(udp).collect();
    if ports.is_empty() {
        return Ok(0);
    }
    let addresses = Links::open()?.addresses()?;
    let is_local = |ip: Ipv4Addr| {
        ip.is_loopback() || addresses.iter().any(|(_, address)| address.address() == ip)
    };
    let concerns = |flow: &Flow| {
        ports.iter().any(|(from, to)| {
            flow.transport == Transport::Udp.number()
                && flow.to.1 == from.port
                && from.address.is_none_or(|address| address == flow.to.0)
                && (flow.answered_by == to.address || is_local(flow.to.0))
        })
    };
    let mut connection = Connection::open(NetlinkFamily::Netfilter)?;
    let mut flows = Vec::new();
    let mut request = Message::new(CT_GET, DUMP, &HEADER).finish();
    connection.query(&mut request, |kind, payload| {
        if kind == CT_NEW {
            flows.extend(parse(payload).filter(&concerns));
        }
    })?;
    for flow in &flows {
        let mut message = Message::new(CT_DELETE, ACK, &HEADER);
        message.put(CTA_TUPLE_ORIG | NESTED, &flow.tuple);
        message.put(CTA_ID, &flow.number);
        match connection.execute(&mut message.finish()) {
            // It ended by itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(flows.len())
}

fn parse(payload: &[u8]) -> Option<Flow> {
    let attributes = Attributes::after(payload, HEADER.len());
    let original = attributes.get(CTA_TUPLE_ORIG)?;
    let reply = attributes.get(CTA_TUPLE_REPLY)?;
    let field = |tuple, group, kind| {
        let group = Attributes::after(tuple, 0).get(group)?;
        Attributes::after(group, 0).get(kind)
    };
    let address = |bytes: &[u8]| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?));
    let port = field(original, CTA_TUPLE_PROTO, 3)?;
    Some(Flow {
        transport: *field(original, CTA_TUPLE_PROTO, 1)?.first()?,
        to: (
            address(field(original, CTA_TUPLE_IP, 2)?)?,
            u16::from_be_bytes(port.try_into().ok()?),
        ),
        answered_by: address(field(reply, CTA_TUPLE_IP, 1)?)?,
        tuple: original.to_vec(),
        number: attributes.get(CTA_ID)?.to_vec(),
    })
}
