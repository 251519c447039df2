//! A layer from its beginning to its name.

use super::stream::unpack_stream;
use super::{CommitError, LayerError, Layers, Sizes, TREE, UnpackError, UnpackLimits};
use crate::files;
use model::DiffId;
use rustix::fs::{Mode, OFlags};
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Mode of a layer's root, unless the layer has an entry for it. It is what the container sees
/// as `/`, so it is docker's.
const ROOT_MODE: Mode = Mode::from_raw_mode(0o755);

/// An empty directory that is to become a layer. Dropped, it goes.
#[derive(Debug)]
pub struct LayerWriter {
    half_made: HalfMade,
    root: OwnedFd,
}

/// A whole tree without its name. Dropped, it goes.
#[derive(Debug)]
pub struct UnpackedLayer {
    /// Digest of the uncompressed stream.
    pub diff_id: DiffId,
    /// Sum of the sizes of its files.
    pub size_bytes: u64,
    sizes: Sizes,
    half_made: HalfMade,
}

impl LayerWriter {
    pub(super) fn new(layers: Layers) -> Result<Self, LayerError> {
        let dir = layers.0.unpacking.join(files::next_number().to_string());
        std::fs::create_dir(&dir).map_err(LayerError::at(&dir))?;
        let half_made = HalfMade {
            layers,
            dir,
            keep: false,
        };
        let tree = half_made.dir.join(TREE);
        let root = make_root(&tree).map_err(LayerError::at(&tree))?;
        Ok(Self { half_made, root })
    }

    /// Unpacks a layer in one pass: decompresses what `compressed` yields (gzip, zstd or plain,
    /// told by its first bytes), hashes the result and makes the files. Reads to the end.
    ///
    /// # Errors
    /// The stream fails, is no layer, is hostile or too large, or the file system refuses.
    pub fn unpack(
        self,
        compressed: &mut dyn Read,
        limits: &UnpackLimits,
    ) -> Result<UnpackedLayer, UnpackError> {
        let Self { half_made, root } = self;
        let (diff_id, sizes) = unpack_stream(compressed, &root, limits)?;
        Ok(UnpackedLayer {
            diff_id,
            size_bytes: sizes.bytes,
            sizes,
            half_made,
        })
    }
}

impl UnpackedLayer {
    /// Checks the diff ID and gives the layer its name. If the layer is there already, because
    /// another pull was first, this one goes and that one stays.
    ///
    /// # Errors
    /// [`CommitError::DiffIdMismatch`], or the file system refuses.
    pub fn commit(mut self, expected: &DiffId) -> Result<(), CommitError> {
        if self.diff_id != *expected {
            return Err(CommitError::DiffIdMismatch {
                expected: *expected,
                actual: self.diff_id,
            });
        }
        let half_made = &mut self.half_made;
        half_made
            .layers
            .adopt(&half_made.dir, expected, self.sizes)
            .map_err(|source| CommitError::Io {
                diff_id: *expected,
                source,
            })?;
        half_made.keep = true;
        Ok(())
    }
}

/// A directory that goes when it is dropped, unless it got its name.
#[derive(Debug)]
struct HalfMade {
    layers: Layers,
    dir: PathBuf,
    keep: bool,
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = self.layers.0.trash.discard(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot discard a half-made layer");
        }
    }
}

fn make_root(tree: &std::path::Path) -> io::Result<OwnedFd> {
    std::fs::create_dir(tree)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(tree, flags, Mode::empty())?;
    // Whatever the umask is.
    rustix::fs::fchmod(&root, ROOT_MODE)?;
    Ok(root)
}

/// Unpacks a layer into a directory that the caller holds, as [`LayerWriter::unpack`] does.
/// For tools and fuzzing: no store, no undo.
///
/// # Errors
/// As [`LayerWriter::unpack`].
pub fn unpack_into(
    compressed: &mut dyn Read,
    root: BorrowedFd<'_>,
    limits: &UnpackLimits,
) -> Result<DiffId, UnpackError> {
    unpack_stream(compressed, &root, limits).map(|(diff_id, _)| diff_id)
}
