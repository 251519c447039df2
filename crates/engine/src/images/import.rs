//! import: an archive of a root file system becomes an image of one layer.

use super::changes::{self, InvalidChange};
use super::image::{ImageRecord, RECORD_VERSION};
use super::{Image, Images, ImportError, blocking};
use crate::clock;
use bytes::Bytes;
use model::image::{ExecutionConfig, History, ImageConfig, RootFs};
use model::{ImageId, Platform, Reference};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;
use store::UnpackLimits;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;

/// What to make of the archive.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Its name.
    pub reference: Option<Reference>,
    /// A remark for the history.
    pub message: String,
    /// Dockerfile lines: `CMD ["sh"]`, `ENV A=b`.
    pub changes: Vec<String>,
    /// What it is for; the machine's own platform if none.
    pub platform: Option<Platform>,
}

impl Images {
    /// Makes an image of an archive (plain, gzip or zstd) that arrives in chunks.
    ///
    /// # Errors
    /// A change is none, the archive is none, or the disk refuses. Nothing half-made is left.
    pub async fn import(
        &self,
        chunks: mpsc::Receiver<io::Result<Bytes>>,
        options: ImportOptions,
    ) -> Result<Arc<Image>, ImportError> {
        let digest = options.reference.as_ref().and_then(Reference::digest);
        if digest.is_some() {
            return Err(ImportError::Digest);
        }
        let execution = changed(&options.changes)?;
        let images = self.clone();
        blocking(move || images.import_blocking(chunks, options, execution)).await
    }

    fn import_blocking(
        &self,
        chunks: mpsc::Receiver<io::Result<Bytes>>,
        options: ImportOptions,
        execution: ExecutionConfig,
    ) -> Result<Arc<Image>, ImportError> {
        let store = &self.0.store;
        let mut source = ChunkReader::new(chunks);
        let writer = store.layers().begin()?;
        let unpacked = writer.unpack(&mut source, &UnpackLimits::default())?;
        let (diff_id, size_bytes) = (unpacked.diff_id, unpacked.size_bytes);
        let lease = store.lease();
        lease.hold_layer(diff_id);
        unpacked.commit(&diff_id)?;
        let config = config(&options, execution, diff_id);
        let document =
            serde_json::to_vec(&config).expect("no map of it has other keys than strings");
        let content = store.content();
        let id = ImageId(model_digest(&document));
        lease.hold_blob(id.0);
        let stored = content.put(&document);
        stored.map_err(|error| ImportError::Config(id, error))?;
        content.sync().map_err(ImportError::Sync)?;
        let record = ImageRecord {
            version: RECORD_VERSION,
            id,
            layers: vec![diff_id],
            references: options.reference.into_iter().collect(),
            digests: BTreeSet::new(),
            manifest: None,
            blobs: BTreeSet::from([id.0]),
            size_bytes,
            tagged_at_unix_ns: clock::unix_ns(),
        };
        let image = self.0.catalog.write().add(record, config)?;
        drop(lease);
        let labels = &image.config.config.labels;
        self.publish("import", &id.to_string(), &image.shown_name(), labels);
        Ok(image)
    }
}

fn changed(lines: &[String]) -> Result<ExecutionConfig, InvalidChange> {
    let mut execution = ExecutionConfig::default();
    for line in lines {
        changes::apply(&mut execution, line)?;
    }
    Ok(execution)
}

fn config(
    options: &ImportOptions,
    execution: ExecutionConfig,
    diff_id: model::DiffId,
) -> ImageConfig {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let created = OffsetDateTime::now_utc().format(&Rfc3339).ok();
    let comment = if options.message.is_empty() {
        "Imported from -".to_owned()
    } else {
        options.message.clone()
    };
    ImageConfig {
        created: created.clone(),
        author: String::new(),
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        config: execution,
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: vec![diff_id],
        },
        history: vec![History {
            created,
            comment,
            ..History::default()
        }],
    }
}

fn model_digest(bytes: &[u8]) -> model::Digest {
    use sha2::Digest as _;
    model::Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}

/// Chunks from a channel as a blocking stream.
struct ChunkReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl ChunkReader {
    fn new(chunks: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self {
            chunks,
            current: Bytes::new(),
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
