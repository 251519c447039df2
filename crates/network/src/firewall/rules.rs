//! The fixed part of the table: its sets, chains and rules.

use super::transaction::{DataType, Hook, Register, Transaction};

pub(super) const BRIDGES: &str = "bridges";
pub(super) const MASQUERADE: &str = "masquerade";
pub(super) const INSIDE: &str = "inside";
pub(super) const HAIRPIN: &str = "hairpin";
pub(super) const PUBLISHED: &str = "published";
pub(super) const PUBLISHED_ON: &str = "published_on";

const MARTIANS: &str = "martians";
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const POSTROUTING: &str = "postrouting";
const FORWARD: &str = "forward";

const RAW_PRIORITY: i32 = -300;
const DNAT_PRIORITY: i32 = -100;
const SNAT_PRIORITY: i32 = 100;
const FILTER_PRIORITY: i32 = 0;

const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `IPS_DST_NAT`: the connection came through a published port (ours, or somebody's).
const DESTINATION_NATED: u32 = 0x20;
const LOOPBACK_NET: &[u8] = &[127];

const FIRST: Register = Register(1);
/// Behind a device name in `FIRST`, which takes 16 bytes.
const SECOND: Register = Register(2);
/// Behind four bytes, and behind eight, in `FIRST`.
const FIRST_PLUS_4: Register = Register(9);
const FIRST_PLUS_8: Register = Register(10);

/// A device's name as the firewall compares it: 16 bytes, filled up with zeros.
pub(super) fn device_name(device: &str) -> [u8; 16] {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(device.bytes().take(15)) {
        *to = from;
    }
    name
}

/// Fills an empty table.
pub(super) fn build(t: &mut Transaction) {
    let hook = |kind, number, priority| Hook {
        kind,
        number,
        priority,
    };
    let port = DataType::PROTOCOL.then(DataType::PORT);
    let target = DataType::ADDRESS.then(DataType::PORT);
    t.set(BRIDGES, DataType::DEVICE, None);
    t.set(MASQUERADE, DataType::DEVICE, None);
    t.set(INSIDE, DataType::DEVICE.then(DataType::DEVICE), None);
    t.range_set(HAIRPIN, &[DataType::DEVICE, DataType::ADDRESS]);
    t.set(PUBLISHED, port, Some(target));
    t.set(
        PUBLISHED_ON,
        DataType::ADDRESS
            .then(DataType::PROTOCOL)
            .then(DataType::PORT),
        Some(target),
    );

    t.chain(MARTIANS, hook("filter", 0, RAW_PRIORITY));
    t.chain(PREROUTING, hook("nat", 0, DNAT_PRIORITY));
    t.chain(OUTPUT, hook("nat", 3, DNAT_PRIORITY));
    t.chain(POSTROUTING, hook("nat", 4, SNAT_PRIORITY));
    t.chain(FORWARD, hook("filter", 2, FILTER_PRIORITY));

    // `route_localnet` on a bridge lets the host's loopback reach containers; it would also let a
    // container reach what listens on the host's loopback (CVE-2020-8558).
    t.rule(MARTIANS, |e| {
        e.in_device(FIRST).is_in(BRIDGES, FIRST);
        e.destination_byte(FIRST).equals(FIRST, LOOPBACK_NET).drop();
    });
    for chain in [PREROUTING, OUTPUT] {
        published_ports(t, chain);
    }
    source_nat(t);
    forward(t);
}

fn published_ports(t: &mut Transaction, chain: &str) {
    t.rule(chain, |e| {
        e.destination(FIRST).protocol(FIRST_PLUS_4);
        e.destination_port(FIRST_PLUS_8).map(PUBLISHED_ON, FIRST);
        e.destination_nat(FIRST, FIRST_PLUS_4);
    });
    t.rule(chain, |e| {
        e.destination_is_local();
        e.protocol(FIRST).destination_port(FIRST_PLUS_4);
        e.map(PUBLISHED, FIRST).destination_nat(FIRST, FIRST_PLUS_4);
    });
}

fn source_nat(t: &mut Transaction) {
    // From the host's own 127.0.0.1 through a published port: the container must have an address
    // that it can answer to.
    t.rule(POSTROUTING, |e| {
        e.out_device(FIRST).is_in(BRIDGES, FIRST);
        e.source_byte(FIRST)
            .equals(FIRST, LOOPBACK_NET)
            .masquerade();
    });
    // From a container through a published port into its own bridge (or itself): the answer would
    // go straight to it, past the translation, if it came from its neighbour's address. Told by
    // the source address: with br_netfilter the input device is not known here.
    t.rule(POSTROUTING, |e| {
        e.out_device(FIRST).source(SECOND).is_in(HAIRPIN, FIRST);
        e.status(DESTINATION_NATED).masquerade();
    });
    t.rule(POSTROUTING, |e| {
        e.in_device(FIRST).is_in(MASQUERADE, FIRST);
        e.out_device(FIRST).is_not_in(BRIDGES, FIRST).masquerade();
    });
}

fn forward(t: &mut Transaction) {
    t.rule(FORWARD, |e| {
        e.state(ESTABLISHED_OR_RELATED).accept();
    });
    t.rule(FORWARD, |e| {
        e.out_device(FIRST).is_in(BRIDGES, FIRST);
        e.status(DESTINATION_NATED).accept();
    });
    // Seen here only where br_netfilter hands bridged packets to the IP hooks.
    t.rule(FORWARD, |e| {
        e.in_device(FIRST)
            .out_device(SECOND)
            .is_in(INSIDE, FIRST)
            .accept();
    });
    t.rule(FORWARD, |e| {
        e.out_device(FIRST).is_in(BRIDGES, FIRST).drop();
    });
}
