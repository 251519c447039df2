//! The firewall plan carried out: one nftables table of our own.
//!
//! Owns the table named when it is opened and reads or writes no other. The table's chains and
//! rules are the same whatever runs; what comes and goes are elements of its sets and maps, each
//! change one transaction whose cost does not depend on how many ports are published:
//!
//! ```text
//! table ip <name>
//!   set bridges     device                            every bridge of ours
//!   set masquerade  device                            those whose outbound connections are NATed
//!   set inside      device . device                   (b . b) for every bridge: stays on it
//!   set hairpin     device . subnet                   every bridge with its own subnet
//!   map published   protocol . port → address . port             bound to all addresses
//!   map published_on  address . protocol . port → address . port bound to one
//!   chain martians     prerouting, raw    loopback addresses do not come in from a bridge
//!   chain prerouting   nat, dstnat        published ports, from elsewhere
//!   chain output       nat, dstnat        published ports, from the host itself
//!   chain postrouting  nat, srcnat        masquerade
//!   chain forward      filter             into a bridge: only replies and published ports
//! ```
//!
//! nftables asks every table's chain and one drop is enough, so a rule of the user's in a table
//! of their own applies to published ports as to everything else.

mod rules;
mod transaction;

use crate::netlink::{Attributes, Connection};
use model::firewall::{BridgeRules, Change, FirewallPlan, HostPort, Target};
use std::io;
use std::net::Ipv4Addr;
use sys::netlink::NetlinkFamily;
use transaction::{Key, Transaction};

/// A datagram holds a whole plan; 65,535 ports of two protocols take some 6 MiB.
const DATAGRAM_BYTES_MAX: usize = 16 << 20;

/// One table and the connection to change it.
#[derive(Debug)]
pub struct Firewall {
    connection: Connection,
    table: String,
}

impl Firewall {
    /// Opens the firewall of the calling thread's namespace; changes nothing yet.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open(table: &str) -> io::Result<Self> {
        let connection = Connection::open(NetlinkFamily::Netfilter)?;
        connection.allow_message_size(DATAGRAM_BYTES_MAX)?;
        Ok(Self {
            connection,
            table: table.to_owned(),
        })
    }

    /// Tells whether the table exists.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn exists(&mut self) -> io::Result<bool> {
        let mut found = false;
        let mut request = transaction::get_table(&self.table);
        let asked = self.connection.query(&mut request, |_, payload| {
            let name = Attributes::after(payload, transaction::HEADER).get_str(1);
            found |= name == Some(self.table.as_str());
        });
        match asked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| found),
        }
    }

    /// Makes the table what the plan says, in one transaction, whatever it was before.
    ///
    /// # Errors
    /// As the kernel answers; the table is then as it was.
    pub fn install(&mut self, plan: &FirewallPlan) -> io::Result<()> {
        let mut transaction = Transaction::new(&self.table);
        transaction.replace_table();
        rules::build(&mut transaction);
        add_changes(&mut transaction, &plan.all());
        self.connection.execute(&mut transaction.finish())
    }

    /// Carries out changes in one transaction.
    ///
    /// # Errors
    /// As the kernel answers; the table is then as it was. [`io::ErrorKind::NotFound`] if somebody
    /// removed the table or its content: [`Self::install`] the whole plan.
    pub fn apply(&mut self, changes: &[Change]) -> io::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut transaction = Transaction::new(&self.table);
        add_changes(&mut transaction, changes);
        self.connection.execute(&mut transaction.finish())
    }

    /// Removes the table; one that is gone already is no error.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn remove(&mut self) -> io::Result<()> {
        let mut transaction = Transaction::new(&self.table);
        transaction.remove_table();
        self.connection.execute(&mut transaction.finish())
    }
}

fn add_changes(transaction: &mut Transaction, changes: &[Change]) {
    let bridges = |add: bool| {
        changes.iter().filter_map(move |change| match change {
            Change::AddBridge(device, rules) if add => Some((device.as_str(), *rules)),
            Change::RemoveBridge(device, rules) if !add => Some((device.as_str(), *rules)),
            _ => None,
        })
    };
    let ports = |add: bool| {
        changes.iter().filter_map(move |change| match change {
            Change::Publish(from, to) if add => Some((*from, *to)),
            Change::Withdraw(from, to) if !add => Some((*from, *to)),
            _ => None,
        })
    };
    for add in [false, true] {
        for (set, elements) in bridge_elements(bridges(add)) {
            transaction.elements(add, set, &elements);
        }
        for (map, elements) in port_elements(ports(add)) {
            transaction.elements(add, map, &elements);
        }
    }
}

fn bridge_elements<'a>(
    bridges: impl Iterator<Item = (&'a str, BridgeRules)>,
) -> [(&'static str, Vec<Key>); 4] {
    let (mut all, mut masquerade) = (Vec::new(), Vec::new());
    let (mut inside, mut hairpin) = (Vec::new(), Vec::new());
    for (device, rules) in bridges {
        let name = rules::device_name(device);
        all.push(Key::of(&name));
        if rules.masquerade {
            masquerade.push(Key::of(&name));
        }
        inside.push(Key::of(&[name, name].concat()));
        let bound = |address: Ipv4Addr| [&name[..], &address.octets()].concat();
        let first = rules.subnet.network().address();
        hairpin.push(Key::range(&bound(first), &bound(rules.subnet.last())));
    }
    [
        (rules::BRIDGES, all),
        (rules::MASQUERADE, masquerade),
        (rules::INSIDE, inside),
        (rules::HAIRPIN, hairpin),
    ]
}

fn port_elements(ports: impl Iterator<Item = (HostPort, Target)>) -> [(&'static str, Vec<Key>); 2] {
    let (mut everywhere, mut somewhere) = (Vec::new(), Vec::new());
    for (from, to) in ports {
        // Each field of a concatenation is padded to four bytes.
        let mut key = vec![from.transport.number(), 0, 0, 0];
        key.extend(from.port.to_be_bytes());
        key.extend([0, 0]);
        let mut value = to.address.octets().to_vec();
        value.extend(to.port.to_be_bytes());
        value.extend([0, 0]);
        match from.address {
            None => everywhere.push(Key::mapping(&key, &value)),
            Some(address) => {
                let key = [&address.octets()[..], &key].concat();
                somewhere.push(Key::mapping(&key, &value));
            }
        }
    }
    [
        (rules::PUBLISHED, everywhere),
        (rules::PUBLISHED_ON, somewhere),
    ]
}
