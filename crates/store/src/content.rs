//! Blobs by digest.
//!
//! Owns `content/`. Every byte is hashed on its way in, whatever served it; a blob's name is the
//! digest of its bytes or the blob is not there. Knows nothing of manifests or layers.
//!
//! ```text
//! ingest ──write──▶ ingest ──commit──▶ blob          dropped: the partial file stays, and the
//!    ▲                 │                              next ingest of this digest resumes it
//!    └── partial file ◀┘ dropped                      wrong bytes: the partial file goes
//! ```

use crate::files::{self, Durability};
use crate::trash::Trash;
use model::Digest;
use model::image::Descriptor;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Buffer with which a partial file is hashed again.
const REPLAY_BUFFER_BYTES: usize = 256 * 1024;

/// Handle on the blobs; clones share the table of running ingests.
#[derive(Debug, Clone)]
pub struct Content(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    blobs: PathBuf,
    ingests: PathBuf,
    trash: Trash,
    /// Digests with a running ingest. The data root's lock keeps other processes away, so this
    /// is all the exclusion there is, and none of it outlives a crash.
    running: Mutex<HashSet<Digest>>,
}

/// Why a blob could not be read, stored or removed.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// No such blob.
    #[error("no blob {0}")]
    NotFound(Digest),
    /// The bytes on the disk are not those of the digest. The blob was taken away, so that the
    /// next pull fetches it again.
    #[error("blob {expected} was damaged on disk (its bytes hash to {actual}); pull again")]
    Damaged {
        /// The blob's name.
        expected: Digest,
        /// What its bytes hash to.
        actual: Digest,
    },
    /// The file system refused.
    #[error("cannot access content at {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why arriving bytes could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Another ingest of the same digest is running in this process.
    #[error("blob {0} is being received already")]
    Busy(Digest),
    /// More bytes came than the descriptor announced.
    #[error("blob {digest} is longer than the {expected} bytes announced")]
    TooLong {
        /// The blob.
        digest: Digest,
        /// Announced size.
        expected: u64,
    },
    /// Fewer bytes came than the descriptor announced. They are kept, to be resumed.
    #[error("blob {digest} ended after {actual} of {expected} bytes")]
    TooShort {
        /// The blob.
        digest: Digest,
        /// Announced size.
        expected: u64,
        /// Size received.
        actual: u64,
    },
    /// The bytes are not those that were asked for. They are thrown away.
    #[error("wrong content: expected digest {expected}, received {actual}")]
    DigestMismatch {
        /// Digest asked for.
        expected: Digest,
        /// Digest of what came.
        actual: Digest,
    },
    /// The file system refused.
    #[error("cannot write content at {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Content {
    pub(crate) fn open_at(root: &Path, trash: Trash) -> io::Result<Self> {
        let blobs = root.join("blobs/sha256");
        let ingests = root.join("ingest");
        files::ensure_dir(&blobs)?;
        files::ensure_dir(&ingests)?;
        files::sweep_temporaries(&blobs)?;
        Ok(Self(Arc::new(Inner {
            blobs,
            ingests,
            trash,
            running: Mutex::new(HashSet::new()),
        })))
    }

    /// Whether the blob is here, whole.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.size_bytes(digest).is_some()
    }

    /// Size of a blob that is here.
    #[must_use]
    pub fn size_bytes(&self, digest: &Digest) -> Option<u64> {
        let metadata = std::fs::metadata(self.path(digest)).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// Reads a small blob and verifies it.
    ///
    /// # Errors
    /// [`ContentError::NotFound`], [`ContentError::Damaged`], or the file system refuses.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, ContentError> {
        let bytes =
            std::fs::read(self.path(digest)).map_err(|error| self.unreadable(digest, error))?;
        let actual = digest_of(&bytes);
        if actual == *digest {
            return Ok(bytes);
        }
        self.remove(digest)?;
        Err(ContentError::Damaged {
            expected: *digest,
            actual,
        })
    }

    /// Opens a blob for reading. Its bytes were verified when they came, and are not again.
    ///
    /// # Errors
    /// [`ContentError::NotFound`], or the file system refuses.
    pub fn open(&self, digest: &Digest) -> Result<File, ContentError> {
        File::open(self.path(digest)).map_err(|error| self.unreadable(digest, error))
    }

    /// Stores bytes that are at hand.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let digest = digest_of(bytes);
        files::replace(&self.0.blobs, &digest.hex(), bytes, Durability::Visible)
            .map_err(content_at(&self.path(&digest)))?;
        Ok(digest)
    }

    /// Starts to receive a blob, or goes on where an earlier ingest stopped.
    ///
    /// # Errors
    /// [`IngestError::Busy`], or the file system refuses.
    pub fn ingest(&self, descriptor: &Descriptor) -> Result<Ingest, IngestError> {
        let claim = Claim::take(&self.0, descriptor.digest)?;
        let path = self.0.ingests.join(descriptor.digest.hex());
        let (file, hash, offset) = resume(&path, descriptor.size).map_err(ingest_at(&path))?;
        Ok(Ingest {
            claim,
            path,
            file,
            hash,
            offset,
            size: descriptor.size,
        })
    }

    /// Makes a blob disappear; one that is not there is fine.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self, digest: &Digest) -> Result<(), ContentError> {
        let path = self.path(digest);
        self.0.trash.discard(&path).map_err(content_at(&path))
    }

    /// Every blob with its size.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, ContentError> {
        let dir = &self.0.blobs;
        let mut blobs = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(content_at(dir))? {
            let entry = entry.map_err(content_at(dir))?;
            let Some(digest) = digest_from_name(&entry.file_name()) else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) => blobs.push((digest, metadata.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(content_at(&entry.path())(error)),
            }
        }
        Ok(blobs)
    }

    /// Puts everything on the file system of the data root on the disk: blobs, and the layers
    /// beside them. One call for a whole pull, before its image is recorded.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn sync(&self) -> Result<(), ContentError> {
        let dir = &self.0.blobs;
        let opened = File::open(dir).map_err(content_at(dir))?;
        rustix::fs::syncfs(opened).map_err(|error| content_at(dir)(error.into()))
    }

    /// Throws away partial files that nobody has written to since `before`.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn sweep_ingests(&self, before: SystemTime) -> Result<(), ContentError> {
        let dir = &self.0.ingests;
        for entry in std::fs::read_dir(dir).map_err(content_at(dir))? {
            let entry = entry.map_err(content_at(dir))?;
            let path = entry.path();
            let Some(digest) = digest_from_name(&entry.file_name()) else {
                continue;
            };
            // The claim keeps an ingest from starting on the file while it goes.
            let Ok(_claim) = Claim::take(&self.0, digest) else {
                continue;
            };
            match entry.metadata().and_then(|metadata| metadata.modified()) {
                Ok(modified) if modified < before => {
                    self.0.trash.discard(&path).map_err(content_at(&path))?;
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(content_at(&path)(error)),
            }
        }
        Ok(())
    }

    fn unreadable(&self, digest: &Digest, error: io::Error) -> ContentError {
        match error.kind() {
            io::ErrorKind::NotFound => ContentError::NotFound(*digest),
            _ => content_at(&self.path(digest))(error),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.0.blobs.join(digest.hex())
    }
}

/// The right to write one digest's partial file, given back when dropped.
#[derive(Debug)]
struct Claim {
    content: Arc<Inner>,
    digest: Digest,
}

impl Claim {
    fn take(content: &Arc<Inner>, digest: Digest) -> Result<Self, IngestError> {
        let mut running = content
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !running.insert(digest) {
            return Err(IngestError::Busy(digest));
        }
        Ok(Self {
            content: Arc::clone(content),
            digest,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.content
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.digest);
    }
}

/// A blob that is being received. Dropped, it leaves its partial file to be resumed.
#[derive(Debug)]
pub struct Ingest {
    claim: Claim,
    path: PathBuf,
    file: File,
    hash: Sha256,
    offset: u64,
    size: u64,
}

impl Ingest {
    /// Bytes already here: the next write goes on from this offset.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Opens what is already here, from its first byte, for a reader that needs the whole stream
    /// (unpacking a resumed layer).
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open_partial(&self) -> Result<io::Take<File>, IngestError> {
        let file = File::open(&self.path).map_err(ingest_at(&self.path))?;
        Ok(file.take(self.offset))
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// More bytes than announced, or the file system refuses (no space).
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        let offset = self.offset.saturating_add(bytes.len() as u64);
        if offset > self.size {
            return Err(IngestError::TooLong {
                digest: self.claim.digest,
                expected: self.size,
            });
        }
        self.file.write_all(bytes).map_err(ingest_at(&self.path))?;
        self.hash.update(bytes);
        self.offset = offset;
        Ok(())
    }

    /// Verifies size and digest, and makes the blob visible. It is on the disk after
    /// [`Content::sync`].
    ///
    /// # Errors
    /// [`IngestError::TooShort`], [`IngestError::DigestMismatch`], or the file system refuses.
    pub fn commit(self) -> Result<(), IngestError> {
        let expected = self.claim.digest;
        if self.offset < self.size {
            return Err(IngestError::TooShort {
                digest: expected,
                expected: self.size,
                actual: self.offset,
            });
        }
        let actual = Digest::from_sha256(self.hash.finalize().into());
        if actual != expected {
            // Wrong bytes must not be resumed.
            std::fs::remove_file(&self.path).map_err(ingest_at(&self.path))?;
            return Err(IngestError::DigestMismatch { expected, actual });
        }
        let blob = self.claim.content.blobs.join(expected.hex());
        std::fs::rename(&self.path, &blob).map_err(ingest_at(&blob))
    }

    /// Gives up and throws the partial file away.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn discard(self) -> Result<(), IngestError> {
        std::fs::remove_file(&self.path).map_err(ingest_at(&self.path))
    }
}

/// Opens a partial file at its end and hashes what it holds. One that is longer than announced
/// cannot be right and starts again.
fn resume(path: &Path, size: u64) -> io::Result<(File, Sha256, u64)> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?);
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; REPLAY_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hash.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let offset = file.stream_position()?;
    Ok((file, hash, offset))
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// Reads a digest from the name of a file or directory that the store named.
pub(crate) fn digest_from_name(name: &std::ffi::OsStr) -> Option<Digest> {
    format!("sha256:{}", name.to_str()?).parse().ok()
}

fn content_at(path: &Path) -> impl FnOnce(io::Error) -> ContentError + '_ {
    move |source| ContentError::Io {
        path: path.to_owned(),
        source,
    }
}

fn ingest_at(path: &Path) -> impl FnOnce(io::Error) -> IngestError + '_ {
    move |source| IngestError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn content() -> (tempfile::TempDir, Content) {
        let dir = tempfile::tempdir().unwrap();
        let trash = Trash::open(&dir.path().join("trash")).unwrap();
        let content = Content::open_at(&dir.path().join("content"), trash).unwrap();
        (dir, content)
    }

    fn descriptor(bytes: &[u8]) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: digest_of(bytes),
            size: bytes.len() as u64,
            platform: None,
            annotations: std::collections::BTreeMap::default(),
        }
    }

    #[test]
    fn puts_reads_lists_removes() {
        let (_dir, content) = content();
        let digest = content.put(b"bytes").unwrap();
        assert_eq!(content.put(b"bytes").unwrap(), digest);
        assert_eq!(content.read(&digest).unwrap(), b"bytes");
        assert_eq!(content.list().unwrap(), [(digest, 5)]);
        content.sync().unwrap();
        content.remove(&digest).unwrap();
        content.remove(&digest).unwrap();
        assert!(!content.contains(&digest));
        let error = content.read(&digest).unwrap_err();
        assert!(matches!(error, ContentError::NotFound(d) if d == digest));
    }

    #[test]
    fn a_damaged_blob_is_reported_and_taken_away() {
        let (_dir, content) = content();
        let digest = content.put(b"bytes").unwrap();
        std::fs::write(content.path(&digest), b"bits!").unwrap();
        let error = content.read(&digest).unwrap_err();
        assert!(matches!(error, ContentError::Damaged { expected, .. } if expected == digest));
        assert!(!content.contains(&digest));
    }

    #[test]
    fn refuses_wrong_bytes_and_forgets_them() {
        let (_dir, content) = content();
        let wanted = descriptor(b"right");
        let mut ingest = content.ingest(&wanted).unwrap();
        ingest.write(b"wrong").unwrap();
        let error = ingest.commit().unwrap_err();
        let IngestError::DigestMismatch { expected, actual } = error else {
            panic!("{error}");
        };
        assert_eq!((expected, actual), (wanted.digest, digest_of(b"wrong")));
        assert!(!content.contains(&wanted.digest));
        assert_eq!(content.ingest(&wanted).unwrap().offset(), 0);
    }

    #[test]
    fn refuses_too_many_and_too_few_bytes() {
        let (_dir, content) = content();
        let wanted = descriptor(b"right");
        let mut ingest = content.ingest(&wanted).unwrap();
        ingest.write(b"rig").unwrap();
        let error = ingest.write(b"htmore").unwrap_err();
        assert!(matches!(error, IngestError::TooLong { expected: 5, .. }));
        let error = ingest.commit().unwrap_err();
        assert!(matches!(error, IngestError::TooShort { actual: 3, .. }));
        // The three good bytes are still worth something.
        let mut ingest = content.ingest(&wanted).unwrap();
        assert_eq!(ingest.offset(), 3);
        ingest.write(b"ht").unwrap();
        ingest.commit().unwrap();
        assert_eq!(content.read(&wanted.digest).unwrap(), b"right");
    }

    #[test]
    fn one_ingest_at_a_time() {
        let (_dir, content) = content();
        let wanted = descriptor(b"right");
        let first = content.ingest(&wanted).unwrap();
        let error = content.ingest(&wanted).unwrap_err();
        assert!(matches!(error, IngestError::Busy(d) if d == wanted.digest));
        content.ingest(&descriptor(b"another")).unwrap();
        drop(first);
        content.ingest(&wanted).unwrap();
    }

    #[test]
    fn an_overlong_partial_file_starts_again() {
        let (_dir, content) = content();
        let wanted = descriptor(b"right");
        let partial = content.0.ingests.join(wanted.digest.hex());
        std::fs::write(partial, b"far too long").unwrap();
        assert_eq!(content.ingest(&wanted).unwrap().offset(), 0);
    }

    #[test]
    fn sweeps_only_old_and_idle_partial_files() {
        let (_dir, content) = content();
        let idle = descriptor(b"idle");
        let busy = descriptor(b"busy");
        content.ingest(&idle).unwrap().write(b"i").unwrap();
        let mut running = content.ingest(&busy).unwrap();
        running.write(b"b").unwrap();
        content.sweep_ingests(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(content.ingest(&idle).unwrap().offset(), 1);
        let later = SystemTime::now() + Duration::from_secs(3600);
        content.sweep_ingests(later).unwrap();
        assert_eq!(content.ingest(&idle).unwrap().offset(), 0);
        drop(running);
        assert_eq!(content.ingest(&busy).unwrap().offset(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// However a transfer is cut into writes and interruptions, the blob is the bytes.
        #[test]
        fn interrupted_transfers_add_up(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000),
            cuts in proptest::collection::vec((1_usize..900, any::<bool>()), 1..12),
        ) {
            let (_dir, content) = content();
            let wanted = descriptor(&bytes);
            let mut ingest = content.ingest(&wanted).unwrap();
            let mut cuts = cuts.into_iter().cycle();
            while ingest.offset() < wanted.size {
                let (length, interrupted) = cuts.next().unwrap();
                let from = usize::try_from(ingest.offset()).unwrap();
                ingest.write(&bytes[from..bytes.len().min(from + length)]).unwrap();
                if interrupted {
                    drop(ingest);
                    ingest = content.ingest(&wanted).unwrap();
                    let mut partial = Vec::new();
                    ingest.open_partial().unwrap().read_to_end(&mut partial).unwrap();
                    prop_assert_eq!(&partial[..], &bytes[..partial.len()]);
                }
            }
            ingest.commit().unwrap();
            prop_assert_eq!(content.read(&wanted.digest).unwrap(), bytes);
        }
    }
}
