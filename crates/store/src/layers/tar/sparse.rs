//! Sparse maps in their four spellings: old GNU headers, and PAX 0.0, 0.1 and 1.0.

use super::header::{Block, number};

/// A run of stored bytes and its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Segment {
    pub(in super::super) offset: u64,
    pub(in super::super) length: u64,
}

/// Reads the map that begins in an old GNU header: the file's size, the first segments, and
/// whether an extension block follows.
pub(super) fn old_gnu(block: &Block) -> (Option<u64>, Vec<Segment>, bool) {
    let mut segments = Vec::new();
    add_entries(block.field(386..482), &mut segments);
    let size = number(block.field(483..495)).and_then(|size| u64::try_from(size).ok());
    (size, segments, block.field(482..483) != [0])
}

/// Reads an extension block; says whether another follows.
pub(super) fn old_gnu_extension(block: &Block, segments: &mut Vec<Segment>) -> bool {
    add_entries(block.field(0..504), segments);
    block.field(504..505) != [0]
}

fn add_entries(field: &[u8], segments: &mut Vec<Segment>) {
    for entry in field.chunks_exact(24) {
        let (offset, length) = entry.split_at(12);
        if offset.first() == Some(&0) {
            break;
        }
        // What is no number becomes a segment that no file has, and the check refuses it.
        let read = |field| {
            number(field)
                .and_then(|n| u64::try_from(n).ok())
                .unwrap_or(u64::MAX)
        };
        segments.push(Segment {
            offset: read(offset),
            length: read(length),
        });
    }
}

/// Pairs up offsets and lengths.
pub(super) fn pairs(numbers: &[u64]) -> Option<Vec<Segment>> {
    let (pairs, []) = numbers.as_chunks::<2>() else {
        return None;
    };
    let segment = |[offset, length]: &[u64; 2]| Segment {
        offset: *offset,
        length: *length,
    };
    Some(pairs.iter().map(segment).collect())
}

/// Returns the segments if they ascend, lie inside the file and use up the stored bytes.
pub(super) fn check(segments: Vec<Segment>, size: u64, stored: u64) -> Option<Vec<Segment>> {
    let mut end = 0_u64;
    let mut total = 0_u64;
    for segment in &segments {
        if segment.offset < end {
            return None;
        }
        end = segment.offset.checked_add(segment.length)?;
        total = total.checked_add(segment.length)?;
    }
    (end <= size && total == stored).then_some(segments)
}

/// Reads format 1.0's lines across blocks.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The count comes first.
    expected: Option<u64>,
    read: Vec<u64>,
    current: Option<u64>,
}

/// Where [`Numbers`] stands after a block.
#[derive(Debug)]
pub(super) enum Progress {
    More,
    Done(Vec<Segment>),
    Bad,
}

impl Numbers {
    pub(super) fn feed(&mut self, block: &[u8]) -> Progress {
        for byte in block {
            if self.is_complete() {
                break;
            }
            if self.take(*byte).is_none() {
                return Progress::Bad;
            }
        }
        if !self.is_complete() {
            return Progress::More;
        }
        pairs(&self.read).map_or(Progress::Bad, Progress::Done)
    }

    fn is_complete(&self) -> bool {
        self.expected
            .and_then(|count| count.checked_mul(2))
            .is_some_and(|count| self.read.len() as u64 >= count)
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        if byte != b'\n' {
            let digit = char::from(byte).to_digit(10)?;
            let number = self.current.unwrap_or(0);
            self.current = Some(number.checked_mul(10)?.checked_add(digit.into())?);
            return Some(());
        }
        let number = self.current.take()?;
        match self.expected {
            None => self.expected = Some(number),
            Some(_) => self.read.push(number),
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_maps() {
        let check = |numbers: &[u64], size, stored| {
            pairs(numbers)
                .and_then(|segments| check(segments, size, stored))
                .is_some()
        };
        assert!(check(&[], 0, 0));
        assert!(check(&[0, 5, 10, 5], 15, 10));
        assert!(check(&[0, 5, 20, 0], 20, 5));
        assert!(!check(&[0, 5, 10], 15, 5));
        assert!(!check(&[10, 5, 0, 5], 15, 10));
        assert!(!check(&[0, 5, 4, 5], 15, 10));
        assert!(!check(&[0, 5], 4, 5));
        assert!(!check(&[0, 5], 10, 4));
        assert!(!check(&[1, u64::MAX], u64::MAX, u64::MAX));
    }

    #[test]
    fn reads_lines_across_blocks() {
        let mut numbers = Numbers::default();
        assert!(matches!(numbers.feed(b"2\n0\n51"), Progress::More));
        let Progress::Done(segments) = numbers.feed(b"2\n1024\n7\n\0\0\0") else {
            panic!();
        };
        assert_eq!(segments.len(), 2);
        assert_eq!((segments[0].length, segments[1].offset), (512, 1024));
        for bad in [
            &b"x\n"[..],
            b"\n",
            b"1\n0\n\0",
            b"99999999999999999999999\n",
        ] {
            assert!(matches!(Numbers::default().feed(bad), Progress::Bad));
        }
    }
}
