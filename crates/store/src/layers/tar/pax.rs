//! Extended headers: `length key=value\n`, one after the other.

use super::sparse::{self, Segment};
use super::{Time, UnpackError};

/// Prefix under which star, GNU tar and Go keep extended attributes.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// What extended headers said, as far as layers use it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) atime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_name: Option<Vec<u8>>,
    sparse_version: Option<(u64, u64)>,
    sparse_size: Option<u64>,
    /// Offset, length, offset, length… of formats 0.0 and 0.1.
    sparse_numbers: Option<Vec<u64>>,
}

impl Pax {
    /// Adds the records of one extended header; later ones win.
    pub(super) fn parse(&mut self, mut bytes: &[u8], offset: u64) -> Result<(), UnpackError> {
        // Some writers pad with NULs inside the size.
        while bytes.iter().any(|byte| *byte != 0) {
            let (key, value, rest) = split(bytes).ok_or(UnpackError::InvalidHeader {
                offset,
                reason: "a malformed extended header",
            })?;
            self.set(key, value).ok_or(UnpackError::InvalidHeader {
                offset,
                reason: "a malformed value in an extended header",
            })?;
            bytes = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let text = || std::str::from_utf8(value).ok();
        let number = || text()?.parse::<u64>().ok();
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            self.xattrs.retain(|(known, _)| known != name);
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Some(());
        }
        let without_nul = || (!value.contains(&0)).then(|| value.to_vec());
        match key {
            b"path" => self.path = unless_empty(value, without_nul)?,
            b"GNU.sparse.name" => self.sparse_name = unless_empty(value, without_nul)?,
            b"linkpath" => self.link = unless_empty(value, without_nul)?,
            b"size" => self.size = unless_empty(value, number)?,
            b"uid" => self.uid = unless_empty(value, number)?,
            b"gid" => self.gid = unless_empty(value, number)?,
            b"mtime" => self.mtime = unless_empty(value, || time(text()?))?,
            b"atime" => self.atime = unless_empty(value, || time(text()?))?,
            b"GNU.sparse.major" => self.sparse_version.get_or_insert_default().0 = number()?,
            b"GNU.sparse.minor" => self.sparse_version.get_or_insert_default().1 = number()?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse_size = Some(number()?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse_numbers.get_or_insert_default().push(number()?);
            }
            b"GNU.sparse.map" => {
                let parse = |part: &str| part.parse::<u64>().ok();
                self.sparse_numbers = Some(match text()? {
                    "" => Vec::new(),
                    text => text.split(',').map(parse).collect::<Option<_>>()?,
                });
            }
            _ => {}
        }
        Some(())
    }

    /// Forgets what may not stand for all entries that follow.
    pub(super) fn keep_global(&mut self) {
        let Self {
            uid,
            gid,
            mtime,
            atime,
            ..
        } = std::mem::take(self);
        *self = Self {
            uid,
            gid,
            mtime,
            atime,
            ..Self::default()
        };
    }

    /// Takes from the global headers what the entry's own do not say.
    pub(super) fn fall_back(&mut self, global: &Self) {
        self.uid = self.uid.or(global.uid);
        self.gid = self.gid.or(global.gid);
        self.mtime = self.mtime.or(global.mtime);
        self.atime = self.atime.or(global.atime);
    }

    /// Size and map of formats 0.0 and 0.1, which keep it here.
    pub(super) fn sparse_map(&self) -> Option<(Option<u64>, Option<Vec<Segment>>)> {
        let numbers = self.sparse_numbers.as_ref()?;
        Some((self.sparse_size, sparse::pairs(numbers)))
    }

    /// The path; a sparse file's real name goes before the one made up for other readers.
    pub(super) fn take_path(&mut self) -> Option<Vec<u8>> {
        self.sparse_name.take().or_else(|| self.path.take())
    }

    /// Whether the map stands in the data.
    pub(super) fn is_sparse_1_0(&self) -> bool {
        self.sparse_version == Some((1, 0))
    }

    pub(super) fn sparse_size(&self) -> Option<u64> {
        self.sparse_size
    }
}

/// An empty value takes the key back (POSIX); another must parse.
fn unless_empty<T>(value: &[u8], parse: impl FnOnce() -> Option<T>) -> Option<Option<T>> {
    if value.is_empty() {
        return Some(None);
    }
    parse().map(Some)
}

/// Splits the first record off.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(bytes.get(..blank)?)
        .ok()?
        .parse()
        .ok()?;
    let record = bytes.get(blank.checked_add(1)?..length)?;
    let rest = bytes.get(length..)?;
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = record.split_at_checked(equals)?;
    (!key.is_empty()).then_some((key, value.get(1..)?, rest))
}

/// Reads `[-]seconds[.fraction]`; digits below the nanosecond are cut.
fn time(text: &str) -> Option<Time> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanoseconds = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0_u32, |number, digit| {
            number
                .wrapping_mul(10)
                .wrapping_add(u32::from(digit.wrapping_sub(b'0')))
        });
    match (negative, nanoseconds) {
        (false, _) => Some(Time {
            seconds,
            nanoseconds,
        }),
        (true, 0) => Some(Time {
            seconds: seconds.checked_neg()?,
            nanoseconds,
        }),
        (true, _) => Some(Time {
            seconds: seconds.checked_neg()?.checked_sub(1)?,
            nanoseconds: 1_000_000_000_u32.checked_sub(nanoseconds)?,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = body.len();
        while length != body.len() + length.to_string().len() {
            length = body.len() + length.to_string().len();
        }
        [length.to_string().as_bytes(), &body].concat()
    }

    fn parse(records: &[(&str, &[u8])]) -> Option<Pax> {
        let bytes: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
        let mut pax = Pax::default();
        pax.parse(&bytes, 0).ok().map(|()| pax)
    }

    #[test]
    fn reads_times() {
        let check = |text, expected: Option<(i64, u32)>| {
            let expected = expected.map(|(seconds, nanoseconds)| Time {
                seconds,
                nanoseconds,
            });
            assert_eq!(time(text), expected, "{text}");
        };
        check("0", Some((0, 0)));
        check("12.5", Some((12, 500_000_000)));
        check("12.", Some((12, 0)));
        check("1700000000.1234567899", Some((1_700_000_000, 123_456_789)));
        check("-1.25", Some((-2, 750_000_000)));
        check("-3", Some((-3, 0)));
        check("", None);
        check(".5", None);
        check("1.x", None);
        check("--1", None);
        check("+1", None);
        check("99999999999999999999", None);
    }

    #[test]
    fn later_records_win_and_empty_ones_take_back() {
        let pax = parse(&[("path", b"a"), ("path", b"b"), ("uid", b"7"), ("uid", b"")]).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"b"[..]));
        assert_eq!(pax.uid, None);
    }

    #[test]
    fn the_real_name_of_a_sparse_file_wins() {
        for order in [0, 1] {
            let mut records = [
                ("GNU.sparse.name", &b"real"[..]),
                ("path", b"GNUSparseFile.1/real"),
            ];
            records.rotate_left(order);
            let all: Vec<_> = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0")]
                .into_iter()
                .chain(records)
                .collect();
            assert_eq!(
                parse(&all).unwrap().take_path().as_deref(),
                Some(&b"real"[..])
            );
        }
    }

    #[test]
    fn extended_attributes_are_bytes() {
        let value = b"\x01\0\0\x02\n=\0";
        let pax = parse(&[("SCHILY.xattr.security.capability", value)]).unwrap();
        assert_eq!(
            pax.xattrs,
            [(b"security.capability".to_vec(), value.to_vec())]
        );
    }

    #[test]
    fn refuses_what_is_malformed() {
        for bytes in [
            &b"x"[..],
            b"5 a\n",
            b"999 a=b\n",
            b"6 a=b",
            b"0 a=b\n",
            b"6 a=bc",
            b"4 =b\n",
        ] {
            Pax::default().parse(bytes, 0).unwrap_err();
        }
        assert_eq!(parse(&[("uid", b"-1")]), None);
        assert_eq!(parse(&[("path", b"nul\0inside")]), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _unused = Pax::default().parse(&bytes, 0).is_ok();
        }

        #[test]
        fn round_trips(path in "[^\0]{1,80}", link in "[^\0]{1,80}", uid: u64) {
            let pax = parse(&[
                ("path", path.as_bytes()),
                ("linkpath", link.as_bytes()),
                ("uid", uid.to_string().as_bytes()),
            ]).unwrap();
            prop_assert_eq!(pax.path, Some(path.into_bytes()));
            prop_assert_eq!(pax.link, Some(link.into_bytes()));
            prop_assert_eq!(pax.uid, Some(uid));
        }
    }
}
