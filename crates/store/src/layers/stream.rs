//! The conveyor between a compressed stream and the files: three stages, one thread each.
//!
//! ```text
//! caller's thread          layer-hash            layer-files
//! read, decompress ─chunk─▶ SHA-256 ─chunk─▶ tar, extract
//!        ▲                                        │
//!        └──────────── empty chunks ◀─────────────┘
//! ```
//!
//! A fixed set of chunks goes round, so memory is bounded and a slow stage holds the others
//! back. A stage that stops closes its channels, and the others come to their end.

use super::extract::Extractor;
use super::tar::Reader;
use super::{Sizes, UnpackError, UnpackLimits};
use model::{DiffId, Digest};
use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;

/// Size of a chunk: large enough that handing it on costs nothing, small enough that all of a
/// layer's chunks stay in the second-level cache between the stages.
const CHUNK_BYTES: usize = 128 * 1024;
/// Chunks in flight: two being worked on by each stage, and some to even out their pace.
const CHUNKS: usize = 8;
/// Buffer in front of the decompressor.
const INPUT_BYTES: usize = 128 * 1024;

/// Unpacks `compressed` beneath `root`.
pub(super) fn unpack_stream(
    compressed: &mut dyn Read,
    root: &impl AsFd,
    limits: &UnpackLimits,
) -> Result<(DiffId, Sizes), UnpackError> {
    let root = root.as_fd();
    let (to_hash, hash_input) = mpsc::sync_channel(CHUNKS);
    let (to_files, files_input) = mpsc::sync_channel(CHUNKS);
    let (give_back, empty) = mpsc::channel();
    for _ in 0..CHUNKS {
        // The receiver is right here.
        drop(give_back.send(Vec::with_capacity(CHUNK_BYTES)));
    }
    let (fed, hashed, extracted) = thread::scope(|scope| {
        let hash = spawn(scope, "layer-hash", move || hash(hash_input, to_files))?;
        let files = spawn(scope, "layer-files", move || {
            extract(root, Chunks::new(files_input, give_back), limits)
        })?;
        let fed = feed(compressed, limits, &to_hash, &empty);
        drop(to_hash);
        Ok((fed, join(hash), join(files)))
    })?;
    // A failure at the source makes the later stages see a truncated stream: it goes first. A
    // feeder that was hung up on has nothing to say itself.
    match fed {
        Err(FeedError::Failed(error)) => Err(error),
        Err(FeedError::HungUp) | Ok(()) => Ok((DiffId(hashed), extracted?)),
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<thread::ScopedJoinHandle<'scope, T>, UnpackError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn_scoped(scope, work)
        .map_err(|error| UnpackError::io(b".", error))
}

/// Passes on what a stage returned, or its panic.
fn join<T>(stage: thread::ScopedJoinHandle<'_, T>) -> T {
    stage
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Why the first stage stopped early.
enum FeedError {
    Failed(UnpackError),
    /// A later stage stopped; it knows why.
    HungUp,
}

/// First stage: reads and decompresses into chunks.
fn feed(
    compressed: &mut dyn Read,
    limits: &UnpackLimits,
    output: &SyncSender<Vec<u8>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<(), FeedError> {
    let read = Cell::new(0);
    let source = Source {
        inner: compressed,
        read: &read,
    };
    let mut decoder = Decoder::sniff(source).map_err(FeedError::Failed)?;
    let mut produced = 0;
    loop {
        let mut chunk = empty.recv().map_err(|_| FeedError::HungUp)?;
        chunk.clear();
        let count = (&mut decoder.stream)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut chunk)
            .map_err(|error| FeedError::Failed(decoder.explain(error)))?;
        if count == 0 {
            return Ok(());
        }
        produced += count as u64;
        check_size(produced, read.get(), limits).map_err(FeedError::Failed)?;
        output.send(chunk).map_err(|_| FeedError::HungUp)?;
    }
}

fn check_size(produced: u64, read: u64, limits: &UnpackLimits) -> Result<(), UnpackError> {
    if produced > limits.uncompressed_bytes_max {
        return Err(UnpackError::TooLarge(limits.uncompressed_bytes_max));
    }
    if produced > limits.ratio_free_bytes && produced / limits.ratio_max > read {
        return Err(UnpackError::Bomb {
            compressed_bytes: read,
            uncompressed_bytes: produced,
        });
    }
    Ok(())
}

/// Second stage: hashes chunks on their way. Returns the digest of all it saw.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the channels close when this stage ends"
)]
fn hash(input: Receiver<Vec<u8>>, output: SyncSender<Vec<u8>>) -> Digest {
    let mut hash = Sha256::new();
    for chunk in &input {
        hash.update(&chunk);
        if output.send(chunk).is_err() {
            break;
        }
    }
    Digest::from_sha256(hash.finalize().into())
}

/// Third stage: reads entries and makes files.
fn extract(
    root: BorrowedFd<'_>,
    chunks: Chunks,
    limits: &UnpackLimits,
) -> Result<Sizes, UnpackError> {
    let mut reader = Reader::new(chunks, limits);
    let mut extractor = Extractor::new(root, limits)?;
    while let Some(entry) = reader.next()? {
        extractor.entry(&entry, &mut reader)?;
    }
    extractor.finish()
}

/// Chunks as one stream; empty ones go back.
struct Chunks {
    input: Receiver<Vec<u8>>,
    give_back: Sender<Vec<u8>>,
    current: Vec<u8>,
    used: usize,
}

impl Chunks {
    fn new(input: Receiver<Vec<u8>>, give_back: Sender<Vec<u8>>) -> Self {
        Self {
            input,
            give_back,
            current: Vec::new(),
            used: 0,
        }
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.current.len() {
            let next = self.input.recv().unwrap_or_default();
            let old = std::mem::replace(&mut self.current, next);
            self.used = 0;
            if old.capacity() > 0 {
                // Nobody takes it back at the end of the stream.
                drop(self.give_back.send(old));
            }
        }
        Ok(self.current.get(self.used..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.used = self.current.len().min(self.used + count);
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// The compressed stream: counts, and marks its own errors so that they are not taken for the
/// decompressor's.
struct Source<'a> {
    inner: &'a mut dyn Read,
    read: &'a Cell<u64>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SourceFailed(io::Error);

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.read.set(self.read.get() + count as u64);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(io::Error::other(SourceFailed(error))),
        }
    }
}

/// The uncompressed stream.
struct Decoder<'a> {
    stream: Box<dyn Read + 'a>,
    compression: &'static str,
}

impl<'a> Decoder<'a> {
    /// Tells the compression by the first bytes; the media type is not asked, as in docker.
    fn sniff(source: Source<'a>) -> Result<Self, UnpackError> {
        let mut start = [0; 6];
        let mut source = source;
        let count = read_up_to(&mut source, &mut start).map_err(|error| explain("tar", error))?;
        let start = start.get(..count).unwrap_or_default().to_vec();
        let compression = match start[..] {
            [0x1f, 0x8b, ..] => "gzip",
            // A frame, or a skippable frame as seekable zstd begins with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => "zstd",
            [b'B', b'Z', b'h', ..] => return Err(UnpackError::UnsupportedCompression("bzip2")),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => {
                return Err(UnpackError::UnsupportedCompression("xz"));
            }
            _ => "tar",
        };
        let whole = io::Cursor::new(start).chain(source);
        let stream: Box<dyn Read + 'a> = match compression {
            // Several members in a row are one stream: pigz and estargz write such.
            "gzip" => Box::new(flate2::bufread::MultiGzDecoder::new(
                BufReader::with_capacity(INPUT_BYTES, whole),
            )),
            "zstd" => Box::new(
                zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(
                    INPUT_BYTES,
                    whole,
                ))
                .map_err(|error| explain(compression, error))?,
            ),
            _ => Box::new(whole),
        };
        Ok(Self {
            stream,
            compression,
        })
    }

    fn explain(&self, error: io::Error) -> UnpackError {
        explain(self.compression, error)
    }
}

fn explain(compression: &'static str, error: io::Error) -> UnpackError {
    match error.downcast::<SourceFailed>() {
        Ok(SourceFailed(error)) => UnpackError::Source(error),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => UnpackError::Truncated,
        Err(source) => UnpackError::Decompress {
            compression,
            source,
        },
    }
}

fn read_up_to(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(buffer.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
