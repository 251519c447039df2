//! Docker's framing of stdout and stderr on one stream: an eight-byte header (stream, three
//! zeroes, length as big-endian u32) before each chunk.
//!
//! The demultiplexer is fed whatever arrived and hands out slices of it; it keeps at most a
//! header, so a huge frame costs no memory.

/// Which stream a chunk belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Standard output (and stdin's echo, which docker files under 0).
    Stdout,
    /// Standard error.
    Stderr,
    /// A message of the daemon about the stream itself.
    SystemError,
}

/// A piece of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Where it belongs.
    pub kind: StreamKind,
    /// The bytes: perhaps only a part of what the header announced.
    pub bytes: &'a [u8],
}

/// The stream is not framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized stream: {0}")]
pub struct DemuxError(pub u8);

const HEADER: usize = 8;

/// The state between two reads.
#[derive(Debug, Default)]
pub struct Demux {
    header: [u8; HEADER],
    have: usize,
    left: usize,
}

impl Demux {
    /// Takes what arrived, and gives each piece to `sink` in order.
    ///
    /// # Errors
    /// The stream is not framed (`Ok(Err(_))` never happens: `sink`'s own error is returned as
    /// it is, wrapped in the outer result).
    pub fn feed<E: From<DemuxError>>(
        &mut self,
        mut input: &[u8],
        mut sink: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !input.is_empty() {
            if self.left == 0 {
                let wanted = (HEADER - self.have).min(input.len());
                let (taken, rest) = input.split_at(wanted);
                self.header[self.have..self.have + wanted].copy_from_slice(taken);
                self.have += wanted;
                input = rest;
                if self.have < HEADER {
                    return Ok(());
                }
                self.kind()?;
                let [_, _, _, _, length @ ..] = self.header;
                self.left = u32::from_be_bytes(length) as usize;
                if self.left == 0 {
                    self.have = 0;
                }
                continue;
            }
            let (bytes, rest) = input.split_at(self.left.min(input.len()));
            let kind = self.kind()?;
            self.left -= bytes.len();
            if self.left == 0 {
                self.have = 0;
            }
            sink(Frame { kind, bytes })?;
            input = rest;
        }
        Ok(())
    }

    fn kind(&self) -> Result<StreamKind, DemuxError> {
        match self.header[0] {
            0 | 1 => Ok(StreamKind::Stdout),
            2 => Ok(StreamKind::Stderr),
            3 => Ok(StreamKind::SystemError),
            other => Err(DemuxError(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut framed = vec![kind, 0, 0, 0];
        framed.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        framed.extend(bytes);
        framed
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_streams(
            frames in prop::collection::vec((1u8..=2, prop::collection::vec(any::<u8>(), 0..40)), 0..10),
            cuts in prop::collection::vec(1usize..20, 0..60),
        ) {
            let mut expected: [Vec<u8>; 2] = Default::default();
            let mut wire = Vec::new();
            for (kind, bytes) in &frames {
                expected[usize::from(*kind) - 1].extend(bytes);
                wire.extend(frame(*kind, bytes));
            }
            let mut actual: [Vec<u8>; 2] = Default::default();
            let mut demux = Demux::default();
            let mut rest = &wire[..];
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() {
                let cut = cuts.next().unwrap_or(rest.len()).min(rest.len());
                let (now, later) = rest.split_at(cut);
                demux.feed::<DemuxError>(now, |frame| {
                    actual[usize::from(frame.kind == StreamKind::Stderr)].extend(frame.bytes);
                    Ok(())
                }).unwrap();
                rest = later;
            }
            prop_assert_eq!(actual, expected);
        }

        #[test]
        fn never_panics(input in prop::collection::vec(any::<u8>(), 0..200)) {
            Demux::default().feed::<DemuxError>(&input, |_| Ok(())).ok();
        }
    }

    #[test]
    fn raw_text_is_refused() {
        let refused = Demux::default().feed::<DemuxError>(b"hello world", |_| Ok(()));
        assert_eq!(refused, Err(DemuxError(b'h')));
    }
}
