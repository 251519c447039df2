//! Building and taking apart netlink messages: headers, attributes, nesting, padding.

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// What an attribute's type field carries beside the type.
const TYPE_MASK: u16 = 0x3fff;

/// Messages for one datagram, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    start: usize,
}

impl Message {
    /// Starts with one message's header and its fixed part.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut message = Self::default();
        message.begin(kind, flags, fixed);
        message
    }

    /// Starts another message in the same datagram.
    pub(crate) fn begin(&mut self, kind: u16, flags: u16, fixed: &[u8]) {
        self.close();
        self.start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | super::REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(fixed);
        self.pad();
    }

    /// Adds an attribute.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(value.len() + 4).expect("attributes of ours are short");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds a number in the machine's byte order, as rtnetlink wants it.
    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order, as nftables wants it.
    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Adds a text with its closing zero.
    pub(crate) fn put_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// Adds an attribute that holds what `fill` adds.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let len = u16::try_from(self.bytes.len() - start).expect("callers bound their lists");
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// Adds bytes that stand before the attributes inside a nest, such as a peer's header.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Returns the datagram.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.close();
        self.bytes
    }

    fn close(&mut self) {
        if self.bytes.len() > self.start {
            let len = u32::try_from(self.bytes.len() - self.start).expect("below the send buffer");
            self.bytes[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
        }
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Writes sequence numbers after `last` into every message of a datagram; returns the last one.
pub(super) fn number(datagram: &mut [u8], last: u32) -> u32 {
    let mut sequence = last;
    let mut rest = datagram;
    while let Some(len) = rest.first_chunk().map(|b| u32::from_ne_bytes(*b) as usize)
        && len >= HEADER
        && len <= rest.len()
    {
        sequence = sequence.wrapping_add(1);
        rest[8..12].copy_from_slice(&sequence.to_ne_bytes());
        let next = len.next_multiple_of(4).min(rest.len());
        rest = &mut rest[next..];
    }
    sequence
}

/// The messages of an answer: type and payload.
pub(super) struct Replies<'a> {
    rest: &'a [u8],
}

impl<'a> Replies<'a> {
    pub(super) fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Replies<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = u32::from_ne_bytes(*self.rest.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(self.rest.get(4..6)?.try_into().ok()?);
        let payload = self.rest.get(HEADER..len)?;
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, payload))
    }
}

/// The attributes of a message or of a nest: type and value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Reads the attributes that follow a fixed part of `skip` bytes.
    pub(crate) fn after(payload: &'a [u8], skip: usize) -> Self {
        Self {
            rest: payload.get(skip..).unwrap_or(&[]),
        }
    }

    /// Returns the first attribute of one type.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(k, _)| *k == kind).map(|(_, v)| v)
    }

    /// Returns an attribute that is a number in the machine's byte order.
    pub(crate) fn get_u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(*self.get(kind)?.first_chunk()?))
    }

    /// Returns an attribute that is a text.
    pub(crate) fn get_str(self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
        std::str::from_utf8(&value[..end]).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16::from_ne_bytes(*self.rest.first_chunk()?));
        let kind = u16::from_ne_bytes(self.rest.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = self.rest.get(4..len)?;
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_read_back(
            attributes in proptest::collection::vec(
                (1_u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
            kind in 16_u16..,
        ) {
            let mut message = Message::new(kind, 0, &[1, 2, 3, 4]);
            message.nest(7, |m| for (k, v) in &attributes { m.put(*k, v); });
            message.begin(kind, 0, &[]);
            let mut bytes = message.finish();
            prop_assert_eq!(number(&mut bytes, 41), 43);
            let replies: Vec<_> = Replies::new(&bytes).collect();
            prop_assert_eq!(replies.len(), 2);
            prop_assert_eq!(replies[0].0, kind);
            let nest = Attributes::after(replies[0].1, 4).get(7).unwrap();
            let read: Vec<_> = Attributes::after(nest, 0).map(|(k, v)| (k, v.to_vec())).collect();
            prop_assert_eq!(read, attributes);
        }

        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (_, payload) in Replies::new(&bytes) {
                for (_, value) in Attributes::after(payload, 4) {
                    Attributes::after(value, 0).for_each(drop);
                }
            }
            number(&mut bytes, 0);
        }
    }
}
