//! Why a layer could not be unpacked, committed or found.

use model::DiffId;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why a layer was not unpacked. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream itself failed (a broken download).
    #[error("cannot read the layer")]
    Source(#[source] io::Error),
    /// A compression that layers are not allowed to have.
    #[error("layer is compressed with {0}, which is not supported; use gzip or zstd")]
    UnsupportedCompression(&'static str),
    /// The compressed stream is damaged, or something else follows it.
    #[error("layer is not valid {compression}")]
    Decompress {
        /// What it was taken for.
        compression: &'static str,
        /// What the decompressor said.
        source: io::Error,
    },
    /// The layer ends in the middle of an entry or of the compressed stream.
    #[error("layer is truncated")]
    Truncated,
    /// Something other than padding follows the end of the archive.
    #[error("layer has bytes after the end of its archive")]
    TrailingGarbage,
    /// A header that is no tar header.
    #[error("layer has an invalid tar header at byte {offset}: {reason}")]
    InvalidHeader {
        /// Where, in the uncompressed stream.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry whose header contradicts itself.
    #[error("layer entry {} is invalid: {reason}", path.display())]
    InvalidEntry {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry of a type that has no place in a file system.
    #[error("layer entry {} has the unknown type {:?}", path.display(), char::from(*kind))]
    UnsupportedEntry {
        /// The entry.
        path: PathBuf,
        /// Its type flag.
        kind: u8,
    },
    /// An entry that would lie outside the layer.
    #[error("layer entry {} is outside the layer", .0.display())]
    PathEscapes(PathBuf),
    /// A hard link to something outside the layer.
    #[error("layer entry {} links to {}, outside the layer", path.display(), target.display())]
    LinkEscapes {
        /// The entry.
        path: PathBuf,
        /// What it links to.
        target: PathBuf,
    },
    /// A hard link to something that the layer does not have.
    #[error("layer entry {} links to {}, which the layer does not have", path.display(), target.display())]
    LinkTargetMissing {
        /// The entry.
        path: PathBuf,
        /// What it links to.
        target: PathBuf,
    },
    /// An entry beneath something that is no directory.
    #[error("layer entry {} lies beneath something that is no directory", .0.display())]
    ParentNotDirectory(PathBuf),
    /// More entries than [`super::UnpackLimits::entries_max`].
    #[error("layer has more than {0} entries")]
    TooManyEntries(u64),
    /// A path longer than [`super::UnpackLimits::path_bytes_max`].
    #[error("layer has a path of more than {limit} bytes: {}…", start.display())]
    PathTooLong {
        /// Its beginning.
        start: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// An extended header larger than [`super::UnpackLimits::extension_bytes_max`].
    #[error("layer has an extended header of {size_bytes} bytes; {limit} are allowed")]
    ExtensionTooLarge {
        /// Its size.
        size_bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// More directories than [`super::UnpackLimits::directories_bytes_max`] can hold.
    #[error("layer has too many directories: their paths take more than {0} bytes")]
    TooManyDirectories(usize),
    /// A layer larger than [`super::UnpackLimits::uncompressed_bytes_max`].
    #[error("layer is larger than {0} bytes")]
    TooLarge(u64),
    /// A layer that swells beyond [`super::UnpackLimits::ratio_max`].
    #[error(
        "layer looks like a decompression bomb: {compressed_bytes} bytes became more than {uncompressed_bytes}"
    )]
    Bomb {
        /// Bytes read.
        compressed_bytes: u64,
        /// Bytes that came of them.
        uncompressed_bytes: u64,
    },
    /// The file system refused (no space, no permission).
    #[error("cannot unpack {}", path.display())]
    Io {
        /// The entry.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl UnpackError {
    pub(super) fn io(path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io {
            path: to_path(path),
            source: source.into(),
        }
    }
}

/// Why an unpacked layer was not committed. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The layer is not the one that the image config names.
    #[error("wrong layer: expected diff ID {expected}, unpacked {actual}")]
    DiffIdMismatch {
        /// Diff ID in the image config.
        expected: DiffId,
        /// Diff ID of what was unpacked.
        actual: DiffId,
    },
    /// The file system refused.
    #[error("cannot commit layer {diff_id}")]
    Io {
        /// The layer.
        diff_id: DiffId,
        /// Why.
        source: io::Error,
    },
}

/// Why a layer could not be found, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// No such layer.
    #[error("no layer {0}")]
    NotFound(DiffId),
    /// Its description does not parse.
    #[error("layer description {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("cannot access layer at {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl LayerError {
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

pub(super) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
