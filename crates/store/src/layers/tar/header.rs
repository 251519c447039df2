//! One 512-byte header block.

use super::{BLOCK_BYTES, Time};
use std::ops::Range;

/// A block of an archive.
#[derive(Debug, Clone)]
pub(super) struct Block(pub(super) [u8; BLOCK_BYTES]);

impl Block {
    pub(super) const ZERO: Self = Self([0; BLOCK_BYTES]);

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// A field by its place; every place used lies inside the block.
    pub(super) fn field(&self, range: Range<usize>) -> &[u8] {
        self.0.get(range).unwrap_or_default()
    }

    fn text(&self, range: Range<usize>) -> &[u8] {
        self.field(range)
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default()
    }
}

/// The fields of a header, as written.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: Time,
    /// Only devices need it, and other entries have odd things there.
    pub(super) device: Result<(u32, u32), &'static str>,
}

impl Header {
    pub(super) fn parse(block: &Block) -> Result<Self, &'static str> {
        check_sum(block)?;
        let kind = block.field(156..157).first().copied().unwrap_or(0);
        let unsigned = |range, what| {
            number(block.field(range))
                .and_then(|n| u64::try_from(n).ok())
                .ok_or(what)
        };
        let mode = unsigned(100..108, "mode")?;
        let device = match kind {
            b'3' | b'4' => unsigned(329..337, "device number")
                .and_then(|major| Ok((major, unsigned(337..345, "device number")?)))
                .and_then(|(major, minor)| {
                    let narrow = |n| u32::try_from(n).map_err(|_| "device number");
                    Ok((narrow(major)?, narrow(minor)?))
                }),
            _ => Ok((0, 0)),
        };
        Ok(Self {
            path: path(block),
            link: block.text(157..257).to_vec(),
            kind,
            // Some writers put the file type above the permissions.
            mode: u32::try_from(mode & 0o7777).unwrap_or(0),
            uid: unsigned(108..116, "owner")?,
            gid: unsigned(116..124, "group")?,
            size: unsigned(124..136, "size")?,
            mtime: Time {
                seconds: number(block.field(136..148)).ok_or("time")?,
                nanoseconds: 0,
            },
            device,
        })
    }
}

/// Ustar splits long names in two; GNU uses the second part's place for other things.
fn path(block: &Block) -> Vec<u8> {
    let name = block.text(0..100);
    let prefix = block.text(345..500);
    if block.field(257..263) != b"ustar\0" || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// Sums the block with blanks in place of the sum. Some old writers added signed bytes.
fn check_sum(block: &Block) -> Result<(), &'static str> {
    let stored = number(block.field(148..156)).ok_or("checksum is no number")?;
    let bytes = || {
        block.0.iter().enumerate().map(|(at, byte)| match at {
            148..156 => b' ',
            _ => *byte,
        })
    };
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    if stored == unsigned || stored == signed {
        Ok(())
    } else {
        Err("checksum does not match")
    }
}

/// Reads a number: octal digits between blanks and NULs, or big-endian binary if the first bit
/// is set.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(0x80..) => binary(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field
        .iter()
        .position(|byte| !blank(byte))
        .unwrap_or(field.len());
    let digits = field.get(start..)?.split(blank).next()?;
    digits.iter().try_fold(0_i64, |number, digit| {
        let digit = char::from(*digit).to_digit(8)?;
        number.checked_mul(8)?.checked_add(digit.into())
    })
}

fn binary(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    // The first bit marks the form, the second is the sign.
    let negative = first & 0x40 != 0;
    let first = if negative { *first } else { first & 0x7f };
    let start = i128::from(if negative {
        first.cast_signed()
    } else {
        first.cast_signed() & 0x3f
    });
    let wide = rest.iter().try_fold(start, |number, byte| {
        number.checked_mul(256)?.checked_add(i128::from(*byte))
    })?;
    i64::try_from(wide).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_numbers() {
        let check = |field: &[u8], expected| assert_eq!(number(field), expected, "{field:?}");
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(b"\0\0\0\0\0\0\0\0", Some(0));
        check(b"00000000000", Some(0));
        check(b"0000x44\0", None);
        check(b"0000844\0", None);
        check(&[0x80, 0, 0, 0, 0, 0, 1, 0], Some(256));
        check(&[0xff; 12], Some(-1));
        check(
            &[
                0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
            None,
        );
        check(
            &[
                0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
            Some(i64::MAX),
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let _unused = number(&bytes).is_some();
        }

        #[test]
        fn octal_round_trips(value in 0_i64..0o77_777_777_777) {
            prop_assert_eq!(number(format!("{value:011o}\0").as_bytes()), Some(value));
        }
    }
}
