//! Building one nftables transaction: tables, chains, sets, rules, elements, and the expressions
//! that rules are made of.

use crate::netlink::{ACK, APPEND, CREATE, Message};

/// Length of `struct nfgenmsg`.
pub(super) const HEADER: usize = 4;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEWTABLE: u16 = SUBSYSTEM << 8;
const GETTABLE: u16 = NEWTABLE | 1;
const DELTABLE: u16 = NEWTABLE | 2;
const NEWCHAIN: u16 = NEWTABLE | 3;
const NEWRULE: u16 = NEWTABLE | 6;
const NEWSET: u16 = NEWTABLE | 9;
const NEWSETELEM: u16 = NEWTABLE | 12;
const DELSETELEM: u16 = NEWTABLE | 14;

const IPV4: u8 = 2;
/// An element takes at most 72 bytes; a list of them is to fit a refusal that quotes it.
const ELEMENTS_PER_MESSAGE: usize = 400;

/// What a set's keys, and a map's values, look like: a number that the `nft` program knows, and
/// a length.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataType {
    number: u32,
    len: u32,
}

impl DataType {
    pub(super) const DEVICE: Self = Self {
        number: 41,
        len: 16,
    };
    pub(super) const ADDRESS: Self = Self { number: 7, len: 4 };
    pub(super) const PROTOCOL: Self = Self { number: 12, len: 4 };
    pub(super) const PORT: Self = Self { number: 13, len: 4 };

    /// Puts another field behind this one.
    pub(super) const fn then(self, next: Self) -> Self {
        Self {
            number: self.number << 6 | next.number,
            len: self.len + next.len,
        }
    }
}

/// One element of a set, or of a map with its value.
#[derive(Debug, Clone)]
pub(super) struct Key {
    key: Vec<u8>,
    /// The last of a range of keys.
    end: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

impl Key {
    pub(super) fn of(key: &[u8]) -> Self {
        Self {
            key: key.to_vec(),
            end: None,
            value: None,
        }
    }

    pub(super) fn range(first: &[u8], last: &[u8]) -> Self {
        Self {
            key: first.to_vec(),
            end: Some(last.to_vec()),
            value: None,
        }
    }

    pub(super) fn mapping(key: &[u8], value: &[u8]) -> Self {
        Self {
            key: key.to_vec(),
            end: None,
            value: Some(value.to_vec()),
        }
    }
}

/// Where a chain is hooked in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    pub(super) kind: &'static str,
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// A register, as rules name them: 16 bytes each, or the four-byte parts of the same space.
#[derive(Debug, Clone, Copy)]
pub(super) struct Register(pub(super) u32);

/// Messages that the kernel takes all or none.
#[derive(Debug)]
pub(super) struct Transaction {
    message: Message,
    table: String,
    sets: u32,
}

impl Transaction {
    pub(super) fn new(table: &str) -> Self {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        Self {
            message: Message::new(BATCH_BEGIN, 0, &[0, 0, high, low]),
            table: table.to_owned(),
            sets: 0,
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        self.message.begin(BATCH_END, 0, &[0, 0, high, low]);
        self.message.finish()
    }

    /// An empty table, whether or not there was one.
    pub(super) fn replace_table(&mut self) {
        self.remove_table();
        self.begin(NEWTABLE, CREATE).put_be32(2, 0);
    }

    /// No table, whether or not there was one: one that is missing is made first.
    pub(super) fn remove_table(&mut self) {
        self.begin(NEWTABLE, CREATE).put_be32(2, 0);
        self.begin(DELTABLE, 0);
    }

    pub(super) fn chain(&mut self, name: &str, hook: Hook) {
        let message = self.begin(NEWCHAIN, CREATE);
        message.put_str(3, name);
        message.put_str(7, hook.kind);
        message.nest(4, |m| {
            m.put_be32(1, hook.number);
            m.put(2, &hook.priority.to_be_bytes());
        });
    }

    pub(super) fn set(&mut self, name: &str, key: DataType, value: Option<DataType>) {
        const MAP: u32 = 8;
        let flags = if value.is_some() { MAP } else { 0 };
        self.new_set(name, flags, key, value);
    }

    /// A set whose elements are ranges in each of several fields.
    pub(super) fn range_set(&mut self, name: &str, fields: &[DataType]) {
        const INTERVAL: u32 = 4;
        const CONCATENATION: u32 = 0x80;
        let key = fields[1..].iter().fold(fields[0], |key, f| key.then(*f));
        self.new_set(name, INTERVAL | CONCATENATION, key, None);
        self.message.nest(9, |m| {
            m.nest(2, |m| {
                for field in fields {
                    m.nest(1, |m| {
                        m.put_be32(1, field.len);
                    });
                }
            });
        });
    }

    fn new_set(&mut self, name: &str, flags: u32, key: DataType, value: Option<DataType>) {
        self.sets += 1;
        let id = self.sets;
        let message = self.begin(NEWSET, CREATE);
        message.put_str(2, name);
        message.put_be32(3, flags);
        message.put_be32(4, key.number);
        message.put_be32(5, key.len);
        if let Some(value) = value {
            message.put_be32(6, value.number);
            message.put_be32(7, value.len);
        }
        message.put_be32(10, id);
        if key.number == DataType::DEVICE.number {
            // For the `nft` program, which otherwise shows names as empty: byte order of keys
            // (tag 0, four bytes): the host's (1).
            let [a, b, c, d] = 1_u32.to_ne_bytes();
            message.put(13, &[0, 4, a, b, c, d]);
        }
    }

    pub(super) fn elements(&mut self, add: bool, set: &str, elements: &[Key]) {
        let (kind, flags) = if add {
            (NEWSETELEM, CREATE)
        } else {
            (DELSETELEM, 0)
        };
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let message = self.begin(kind, flags);
            message.put_str(2, set);
            message.nest(3, |m| {
                for Key { key, end, value } in chunk {
                    m.nest(1, |m| {
                        m.nest(1, |m| {
                            m.put(1, key);
                        });
                        if let Some(end) = end {
                            m.nest(10, |m| {
                                m.put(1, end);
                            });
                        }
                        if let Some(value) = value.as_ref().filter(|_| add) {
                            m.nest(2, |m| {
                                m.put(1, value);
                            });
                        }
                    });
                }
            });
        }
    }

    pub(super) fn rule(&mut self, chain: &str, fill: impl FnOnce(&mut Expressions<'_>)) {
        let message = self.begin(NEWRULE, CREATE | APPEND);
        message.put_str(2, chain);
        message.nest(4, |m| fill(&mut Expressions { message: m }));
    }

    /// Starts a message about the table; every sort of message names it in attribute 1.
    fn begin(&mut self, kind: u16, flags: u16) -> &mut Message {
        self.message.begin(kind, flags, &[IPV4, 0, 0, 0]);
        self.message.put_str(1, &self.table)
    }
}

/// A request for one table, outside of any transaction.
pub(super) fn get_table(table: &str) -> Vec<u8> {
    let mut message = Message::new(GETTABLE, ACK, &[IPV4, 0, 0, 0]);
    message.put_str(1, table);
    message.finish()
}

/// The expressions of one rule, each working on registers, in order.
#[derive(Debug)]
pub(super) struct Expressions<'a> {
    message: &'a mut Message,
}

impl Expressions<'_> {
    pub(super) fn in_device(&mut self, to: Register) -> &mut Self {
        self.meta(6, to)
    }

    pub(super) fn out_device(&mut self, to: Register) -> &mut Self {
        self.meta(7, to)
    }

    pub(super) fn protocol(&mut self, to: Register) -> &mut Self {
        self.meta(16, to)
    }

    pub(super) fn source(&mut self, to: Register) -> &mut Self {
        self.payload(1, 12, 4, to)
    }

    pub(super) fn source_byte(&mut self, to: Register) -> &mut Self {
        self.payload(1, 12, 1, to)
    }

    pub(super) fn destination_byte(&mut self, to: Register) -> &mut Self {
        self.payload(1, 16, 1, to)
    }

    pub(super) fn destination(&mut self, to: Register) -> &mut Self {
        self.payload(1, 16, 4, to)
    }

    pub(super) fn destination_port(&mut self, to: Register) -> &mut Self {
        self.payload(2, 2, 2, to)
    }

    /// Goes on if the destination is one of the host's own addresses.
    pub(super) fn destination_is_local(&mut self) -> &mut Self {
        const ADDRTYPE: u32 = 3;
        const BY_DESTINATION: u32 = 2;
        const RTN_LOCAL: u32 = 2;
        let register = Register(1);
        self.expression("fib", |m| {
            m.put_be32(1, register.0);
            m.put_be32(2, ADDRTYPE);
            m.put_be32(3, BY_DESTINATION);
        });
        self.equals(register, &RTN_LOCAL.to_ne_bytes())
    }

    /// Goes on if the connection's state is one of a bit mask.
    pub(super) fn state(&mut self, mask: u32) -> &mut Self {
        self.conntrack(0, mask)
    }

    /// Goes on if the connection's status has one of the bits.
    pub(super) fn status(&mut self, mask: u32) -> &mut Self {
        self.conntrack(2, mask)
    }

    pub(super) fn equals(&mut self, register: Register, value: &[u8]) -> &mut Self {
        self.compare(register, 0, value)
    }

    pub(super) fn is_in(&mut self, set: &str, register: Register) -> &mut Self {
        self.expression("lookup", |m| {
            m.put_be32(2, register.0);
            m.put_str(1, set);
        })
    }

    pub(super) fn is_not_in(&mut self, set: &str, register: Register) -> &mut Self {
        self.expression("lookup", |m| {
            m.put_be32(2, register.0);
            m.put_str(1, set);
            m.put_be32(5, 1);
        })
    }

    /// Looks a key up in a map and puts its value into the same registers.
    pub(super) fn map(&mut self, map: &str, register: Register) -> &mut Self {
        self.expression("lookup", |m| {
            m.put_be32(2, register.0);
            m.put_be32(3, register.0);
            m.put_str(1, map);
        })
    }

    /// Sends the connection to the address and port in two registers.
    pub(super) fn destination_nat(&mut self, address: Register, port: Register) -> &mut Self {
        const DNAT: u32 = 1;
        self.expression("nat", |m| {
            m.put_be32(1, DNAT);
            m.put_be32(2, u32::from(IPV4));
            m.put_be32(3, address.0);
            m.put_be32(5, port.0);
        })
    }

    pub(super) fn masquerade(&mut self) -> &mut Self {
        self.expression("masq", |_| ())
    }

    pub(super) fn accept(&mut self) -> &mut Self {
        self.verdict(1)
    }

    pub(super) fn drop(&mut self) -> &mut Self {
        self.verdict(0)
    }

    fn verdict(&mut self, code: u32) -> &mut Self {
        self.expression("immediate", |m| {
            m.put_be32(1, 0);
            m.nest(2, |m| {
                m.nest(2, |m| {
                    m.put_be32(1, code);
                });
            });
        })
    }

    fn meta(&mut self, key: u32, to: Register) -> &mut Self {
        self.expression("meta", |m| {
            m.put_be32(2, key);
            m.put_be32(1, to.0);
        })
    }

    fn payload(&mut self, base: u32, offset: u32, len: u32, to: Register) -> &mut Self {
        self.expression("payload", |m| {
            m.put_be32(1, to.0);
            m.put_be32(2, base);
            m.put_be32(3, offset);
            m.put_be32(4, len);
        })
    }

    fn conntrack(&mut self, key: u32, mask: u32) -> &mut Self {
        let register = Register(1);
        self.expression("ct", |m| {
            m.put_be32(2, key);
            m.put_be32(1, register.0);
        });
        self.expression("bitwise", |m| {
            m.put_be32(1, register.0);
            m.put_be32(2, register.0);
            m.put_be32(3, 4);
            m.nest(4, |m| {
                m.put(1, &mask.to_ne_bytes());
            });
            m.nest(5, |m| {
                m.put(1, &[0; 4]);
            });
        });
        self.compare(register, 1, &[0; 4])
    }

    fn compare(&mut self, register: Register, operator: u32, value: &[u8]) -> &mut Self {
        self.expression("cmp", |m| {
            m.put_be32(1, register.0);
            m.put_be32(2, operator);
            m.nest(3, |m| {
                m.put(1, value);
            });
        })
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Message)) -> &mut Self {
        self.message.nest(1, |m| {
            m.put_str(1, name);
            m.nest(2, fill);
        });
        self
    }
}
