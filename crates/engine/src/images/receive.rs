//! One layer's bytes, from a channel into a kept blob and an unpacked tree, in one pass.
//!
//! ```text
//! network ──channel──▶ Received (Read): writes and hashes the blob ──▶ LayerWriter::unpack
//! ```
//!
//! Runs on a thread that may block. The channel is short, so a slow disk slows the network.

use bytes::Bytes;
use model::image::Descriptor;
use model::{DiffId, Digest};
use registry::RegistryError;
use std::io::{self, Read};
use store::{
    CommitError, Content, ContentError, Ingest, IngestError, LayerError, Layers, UnpackError,
    UnpackLimits,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Why a layer did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The registry failed.
    #[error(transparent)]
    Fetch(#[from] RegistryError),
    /// The bytes could not be kept, or are the wrong ones.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// A kept blob could not be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// There is no room to unpack in.
    #[error(transparent)]
    Begin(#[from] LayerError),
    /// It is no layer, or a hostile one.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// It is not the layer that the config names.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Nobody wants it any more.
    #[error("cancelled")]
    Cancelled,
}

impl ReceiveError {
    /// Says whether the registry sent other bytes than were asked for.
    pub(super) const fn is_wrong_content(&self) -> bool {
        matches!(
            self,
            Self::Ingest(IngestError::DigestMismatch { .. })
                | Self::Commit(CommitError::DiffIdMismatch { .. })
                | Self::Fetch(RegistryError::WrongSize { .. })
        )
    }
}

/// A blob that is on its way.
pub(super) struct Arrival {
    pub descriptor: Descriptor,
    pub ingest: Ingest,
    pub chunks: mpsc::Receiver<Bytes>,
    pub cancelled: CancellationToken,
}

/// Takes a layer from the channel, keeps it as a blob and unpacks it. `verified` is called when
/// all bytes are here and are those that were asked for.
pub(super) fn receive(
    arrival: Arrival,
    layers: &Layers,
    diff_id: &DiffId,
    verified: &dyn Fn(),
) -> Result<(), ReceiveError> {
    let writer = layers.begin()?;
    let mut received = Received::new(arrival, verified)?;
    match writer.unpack(&mut received, &UnpackLimits::default()) {
        Ok(unpacked) => {
            received.drain()?;
            Ok(unpacked.commit(diff_id)?)
        }
        Err(error) => Err(received.explain(error)),
    }
}

/// Unpacks a layer whose blob is here already.
pub(super) fn unpack_kept(
    content: &Content,
    digest: &Digest,
    layers: &Layers,
    diff_id: &DiffId,
) -> Result<(), ReceiveError> {
    let mut blob = content.open(digest)?;
    let unpacked = layers.begin()?.unpack(&mut blob, &UnpackLimits::default());
    let result = unpacked
        .map_err(ReceiveError::from)
        .and_then(|unpacked| unpacked.commit(diff_id).map_err(ReceiveError::from));
    if result.is_err() {
        // Its bytes were verified once; what is wrong with them now, a new download cures.
        content.remove(digest)?;
    }
    result
}

/// The arriving stream. Every byte that is read was written to the blob before.
struct Received<'a> {
    /// None once the blob is committed, or refused.
    ingest: Option<Ingest>,
    descriptor: Descriptor,
    cancelled: CancellationToken,
    partial: Option<io::Take<std::fs::File>>,
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
    failed: Option<IngestError>,
    verified: &'a dyn Fn(),
}

impl<'a> Received<'a> {
    fn new(arrival: Arrival, verified: &'a dyn Fn()) -> Result<Self, IngestError> {
        let Arrival {
            descriptor,
            ingest,
            chunks,
            cancelled,
        } = arrival;
        let partial = match ingest.offset() {
            0 => None,
            _ => Some(ingest.open_partial()?),
        };
        Ok(Self {
            ingest: Some(ingest),
            descriptor,
            cancelled,
            partial,
            chunks,
            current: Bytes::new(),
            failed: None,
            verified,
        })
    }

    /// Waits for the next chunk and keeps it; false at the end of the blob.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(ingest) = &mut self.ingest else {
            return Ok(false);
        };
        if let Some(chunk) = self.chunks.blocking_recv() {
            let written = ingest.write(&chunk);
            self.current = chunk;
            return self.keep(written).map(|()| true);
        }
        // The sender is gone: after the last byte, or because the download failed.
        let committed = match self.ingest.take() {
            Some(ingest) => finish(ingest, &self.descriptor),
            None => Ok(()),
        };
        self.keep(committed)?;
        (self.verified)();
        Ok(false)
    }

    /// Remembers the error: the unpacker hands only its words on.
    fn keep(&mut self, result: Result<(), IngestError>) -> io::Result<()> {
        result.map_err(|error| {
            let words = error.to_string();
            self.failed = Some(error);
            self.ingest = None;
            io::Error::other(words)
        })
    }

    /// Reads what the unpacker left, so that the blob is verified to its end.
    fn drain(&mut self) -> Result<(), ReceiveError> {
        self.current = Bytes::new();
        while let Ok(true) = self.advance() {}
        match self.failed.take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Says why unpacking stopped. Bytes that are not those of the digest explain any complaint
    /// about the archive, so the rest is received and compared before the archive is blamed.
    fn explain(mut self, error: UnpackError) -> ReceiveError {
        if let Some(failed) = self.failed.take() {
            return failed.into();
        }
        if matches!(error, UnpackError::Io { .. }) {
            return error.into();
        }
        match self.drain() {
            Err(ReceiveError::Ingest(wrong @ IngestError::DigestMismatch { .. })) => wrong.into(),
            Ok(()) | Err(_) => error.into(),
        }
    }
}

/// Commits a blob. Of one that never began, not even an empty file stays.
fn finish(ingest: Ingest, descriptor: &Descriptor) -> Result<(), IngestError> {
    if ingest.offset() > 0 || descriptor.size == 0 {
        return ingest.commit();
    }
    ingest.discard()?;
    Err(IngestError::TooShort {
        digest: descriptor.digest,
        expected: descriptor.size,
        actual: 0,
    })
}

impl Read for Received<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // What the channel still holds is kept, but not worth unpacking.
        if self.cancelled.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        if let Some(partial) = &mut self.partial {
            let count = partial.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.partial = None;
        }
        while self.current.is_empty() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let count = self.current.len().min(buffer.len());
        let (now, _) = self.current.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.current = self.current.slice(count..);
        Ok(count)
    }
}
