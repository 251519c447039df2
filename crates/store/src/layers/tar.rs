//! Reads a tar stream entry by entry: ustar, PAX and GNU, as far as image layers use them.
//!
//! Owns what the bytes of an archive mean; knows nothing of files or whiteouts, and does no IO
//! but to read its source forward. File data is lent from the source's own buffer, not copied.
//!
//! ```text
//! next ─▶ Entry, then data/consume until empty (or not at all: next skips the rest)
//!   └──▶ end: two zero blocks, then zeros only
//! ```
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod header;
mod pax;
mod sparse;

use super::error::to_path;
use super::{UnpackError, UnpackLimits};
use header::{Block, Header};
use pax::Pax;
pub(super) use sparse::Segment;
use std::io::{self, BufRead};

const BLOCK_BYTES: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// A point in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// One member of the archive, its extended headers applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// As written: may be absolute, may hold `..`.
    pub(super) path: Vec<u8>,
    /// Target of a link, as written.
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    /// Permission bits, setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) atime: Option<Time>,
    pub(super) device: (u32, u32),
    /// Length of the file.
    pub(super) size_bytes: u64,
    /// Where the stored data goes in the file; nothing if it is the file.
    pub(super) sparse: Option<Vec<Segment>>,
    /// Name and value.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tar stream.
#[derive(Debug)]
pub(super) struct Reader<'a, R> {
    source: R,
    limits: &'a UnpackLimits,
    /// Bytes taken from the source.
    offset: u64,
    /// Data bytes of the current entry not yet taken.
    remaining: u64,
    /// Bytes from the end of the data to the next block.
    padding: u64,
    global: Pax,
}

impl<'a, R: BufRead> Reader<'a, R> {
    pub(super) fn new(source: R, limits: &'a UnpackLimits) -> Self {
        Self {
            source,
            limits,
            offset: 0,
            remaining: 0,
            padding: 0,
            global: Pax::default(),
        }
    }

    /// Goes on to the next entry, skipping what is left of this one.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut extended = false;
        let mut local = Pax::default();
        loop {
            self.skip(self.remaining.saturating_add(self.padding))?;
            let at = self.offset;
            let Some(block) = self.read_block()? else {
                // Go's reader too takes a stream that ends between entries as complete.
                return if extended {
                    Err(UnpackError::Truncated)
                } else {
                    Ok(None)
                };
            };
            if block.is_zero() {
                return self.finish(at).map(|()| None);
            }
            let header = Header::parse(&block)
                .map_err(|reason| UnpackError::InvalidHeader { offset: at, reason })?;
            self.begin_data(header.size);
            match header.kind {
                b'x' | b'X' => local.parse(&self.read_extension()?, at)?,
                b'g' => {
                    let bytes = self.read_extension()?;
                    self.global.parse(&bytes, at)?;
                    self.global.keep_global();
                }
                b'L' => local.path = Some(until_nul(&self.read_extension()?)),
                b'K' => local.link = Some(until_nul(&self.read_extension()?)),
                _ => return self.entry(&block, header, local).map(Some),
            }
            extended = true;
        }
    }

    /// Lends the next bytes of the entry's data; empty at its end.
    pub(super) fn data(&mut self) -> Result<&[u8], UnpackError> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let remaining = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let bytes = fill(&mut self.source)?;
        Ok(bytes.get(..remaining).unwrap_or(bytes))
    }

    /// Marks bytes that [`Self::data`] lent as used.
    pub(super) fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.remaining = self.remaining.saturating_sub(count as u64);
        self.offset = self.offset.saturating_add(count as u64);
    }

    fn begin_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size
            .checked_next_multiple_of(BLOCK_BYTES as u64)
            .map_or(0, |end| end.saturating_sub(size));
    }

    fn entry(
        &mut self,
        block: &Block,
        header: Header,
        mut local: Pax,
    ) -> Result<Entry, UnpackError> {
        local.fall_back(&self.global);
        let path = local.take_path().unwrap_or(header.path);
        self.check_length(&path)?;
        let invalid = |reason| UnpackError::InvalidEntry {
            path: to_path(&path),
            reason,
        };
        let kind = match header.kind {
            // Old archives tell a directory by the slash.
            b'0' | 0 | b'7' | b'S' if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            kind => {
                return Err(UnpackError::UnsupportedEntry {
                    path: to_path(&path),
                    kind,
                });
            }
        };
        let link = local.link.take().unwrap_or(header.link);
        self.check_length(&link)?;
        // Only files have data; some writers put a size on others that is no data.
        let stored = match kind {
            Kind::File => local.size.unwrap_or(header.size),
            _ => 0,
        };
        self.begin_data(stored);
        let sparse = if kind == Kind::File {
            self.sparse(block, header.kind, &local, &path)?
        } else {
            None
        };
        let (size_bytes, sparse) = match sparse {
            Some((size, segments)) => (size, Some(segments)),
            None => (stored, None),
        };
        let narrow = |number: u64| u32::try_from(number).map_err(|_| number);
        Ok(Entry {
            kind,
            link,
            mode: header.mode & 0o7777,
            uid: narrow(local.uid.unwrap_or(header.uid)).map_err(|_| invalid("owner"))?,
            gid: narrow(local.gid.unwrap_or(header.gid)).map_err(|_| invalid("group"))?,
            mtime: local.mtime.unwrap_or(header.mtime),
            atime: local.atime,
            device: header.device.map_err(invalid)?,
            size_bytes,
            sparse,
            xattrs: local.xattrs,
            path,
        })
    }

    /// The map of a sparse file, from wherever its flavour keeps it.
    fn sparse(
        &mut self,
        block: &Block,
        flag: u8,
        pax: &Pax,
        path: &[u8],
    ) -> Result<Option<(u64, Vec<Segment>)>, UnpackError> {
        let limit = self.limits.extension_bytes_max;
        let (size, segments) = if flag == b'S' {
            let (size, mut segments, mut more) = sparse::old_gnu(block);
            let mut taken = 0_u64;
            while more {
                taken = taken.saturating_add(BLOCK_BYTES as u64);
                if taken > limit {
                    return Err(UnpackError::ExtensionTooLarge {
                        size_bytes: taken,
                        limit,
                    });
                }
                // Extension blocks stand before the data and do not count into its size.
                let next = self.read_block()?.ok_or(UnpackError::Truncated)?;
                more = sparse::old_gnu_extension(&next, &mut segments);
            }
            (size, Some(segments))
        } else if let Some(map) = pax.sparse_map() {
            map
        } else if pax.is_sparse_1_0() {
            (pax.sparse_size(), Some(self.sparse_1_0()?))
        } else {
            return Ok(None);
        };
        let valid = segments
            .zip(size)
            .and_then(|(segments, size)| sparse::check(segments, size, self.remaining))
            .zip(size);
        match valid {
            Some((segments, size)) => Ok(Some((size, segments))),
            None => Err(UnpackError::InvalidEntry {
                path: to_path(path),
                reason: "its sparse map contradicts its data",
            }),
        }
    }

    /// Format 1.0 keeps the map in the data: a count, then that many offset and length pairs,
    /// each number on a line, padded to a block.
    fn sparse_1_0(&mut self) -> Result<Vec<Segment>, UnpackError> {
        let start = self.offset;
        let mut numbers = sparse::Numbers::default();
        loop {
            let mut block = Block::ZERO;
            self.read_data_exact(&mut block.0)?;
            let size_bytes = self.offset.saturating_sub(start);
            let limit = self.limits.extension_bytes_max;
            if size_bytes > limit {
                return Err(UnpackError::ExtensionTooLarge { size_bytes, limit });
            }
            match numbers.feed(&block.0) {
                sparse::Progress::More => {}
                sparse::Progress::Done(segments) => return Ok(segments),
                sparse::Progress::Bad => {
                    return Err(UnpackError::InvalidHeader {
                        offset: start,
                        reason: "the sparse map is no list of numbers",
                    });
                }
            }
        }
    }

    fn check_length(&self, path: &[u8]) -> Result<(), UnpackError> {
        let limit = self.limits.path_bytes_max;
        if path.len() <= limit {
            return Ok(());
        }
        Err(UnpackError::PathTooLong {
            start: to_path(path.get(..64).unwrap_or(path)),
            limit,
        })
    }

    /// Takes a whole extended header.
    fn read_extension(&mut self) -> Result<Vec<u8>, UnpackError> {
        let limit = self.limits.extension_bytes_max;
        if self.remaining > limit {
            return Err(UnpackError::ExtensionTooLarge {
                size_bytes: self.remaining,
                limit,
            });
        }
        let mut bytes = vec![0; usize::try_from(self.remaining).unwrap_or(0)];
        self.read_data_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn read_data_exact(&mut self, mut to: &mut [u8]) -> Result<(), UnpackError> {
        while !to.is_empty() {
            let from = self.data()?;
            let count = from.len().min(to.len());
            if count == 0 {
                return Err(UnpackError::Truncated);
            }
            copy(from, to, count);
            self.consume(count);
            to = to.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Takes one block, or nothing at a clean end.
    fn read_block(&mut self) -> Result<Option<Block>, UnpackError> {
        let mut block = Block::ZERO;
        let mut filled = 0_usize;
        while filled < BLOCK_BYTES {
            let from = fill_or_end(&mut self.source)?;
            let to = block.0.get_mut(filled..).unwrap_or_default();
            let count = from.len().min(to.len());
            if count == 0 {
                return if filled == 0 {
                    Ok(None)
                } else {
                    Err(UnpackError::Truncated)
                };
            }
            copy(from, to, count);
            self.source.consume(count);
            filled = filled.saturating_add(count);
        }
        self.offset = self.offset.saturating_add(BLOCK_BYTES as u64);
        Ok(Some(block))
    }

    fn skip(&mut self, mut count: u64) -> Result<(), UnpackError> {
        self.remaining = 0;
        self.padding = 0;
        self.offset = self.offset.saturating_add(count);
        while count > 0 {
            let available = fill(&mut self.source)?.len();
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(available);
            self.source.consume(step);
            count = count.saturating_sub(step as u64);
        }
        Ok(())
    }

    /// After the first zero block: a second one, then nothing but zeros.
    fn finish(&mut self, at: u64) -> Result<(), UnpackError> {
        match self.read_block()? {
            Some(block) if !block.is_zero() => {
                return Err(UnpackError::InvalidHeader {
                    offset: at,
                    reason: "a lone block of zeros",
                });
            }
            _ => {}
        }
        loop {
            let bytes = fill_or_end(&mut self.source)?;
            if bytes.is_empty() {
                return Ok(());
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(UnpackError::TrailingGarbage);
            }
            let count = bytes.len();
            self.source.consume(count);
        }
    }
}

/// Copies `count` bytes, which both have.
fn copy(from: &[u8], to: &mut [u8], count: usize) {
    if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
}

/// Lends what the source has next; its end is an error here.
fn fill(source: &mut impl BufRead) -> Result<&[u8], UnpackError> {
    match fill_or_end(source)? {
        [] => Err(UnpackError::Truncated),
        bytes => Ok(bytes),
    }
}

fn fill_or_end(source: &mut impl BufRead) -> Result<&[u8], UnpackError> {
    // Once for the error, once for the bytes: a loop that returns the borrow does not check.
    while let Err(error) = source.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(UnpackError::Source(error));
        }
    }
    source.fill_buf().map_err(UnpackError::Source)
}

/// GNU long names end with a NUL.
fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}

#[cfg(test)]
mod tests;
