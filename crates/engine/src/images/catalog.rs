//! The table of images: records on disk, and the same in memory for the start path.
//!
//! Readers never wait for the disk. Writers take turns, write the record, then show it.

use super::error::ImagesOpenError;
use super::image::{Image, ImageRecord, RECORD_VERSION};
use model::image::ImageConfig;
use model::{ImageId, Reference};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use store::{Content, RecordError, Records, Store};

const KIND: &str = "images";

/// An image and what its record holds besides.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub record: ImageRecord,
    pub image: Arc<Image>,
}

#[derive(Debug)]
pub(super) struct Catalog {
    records: Records,
    images: RwLock<BTreeMap<ImageId, Arc<Known>>>,
    writing: Mutex<()>,
}

/// The right to change the table.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    catalog: &'a Catalog,
    _turn: MutexGuard<'a, ()>,
}

impl Catalog {
    pub(super) fn open(store: &Store) -> Result<Self, ImagesOpenError> {
        let records = store.records();
        let mut found: Vec<ImageRecord> = records
            .list::<ImageRecord>(KIND)?
            .into_iter()
            .map(|(_, record)| record)
            .filter(|record| is_whole(store, record))
            .collect();
        // A tag that moved while the machine stopped may stand in two records: the later has it.
        found.sort_by_key(|record| std::cmp::Reverse(record.tagged_at_unix_ns));
        let mut taken = std::collections::BTreeSet::new();
        let mut images = BTreeMap::new();
        for mut record in found {
            record
                .references
                .retain(|reference| taken.insert(reference.clone()));
            match read_config(&store.content(), record.id) {
                Ok(config) => {
                    images.insert(record.id, Arc::new(Known::new(record, config)));
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &*error;
                    tracing::warn!(image = %record.id, error, "image is damaged; pull it again");
                }
            }
        }
        Ok(Self {
            records,
            images: RwLock::new(images),
            writing: Mutex::new(()),
        })
    }

    pub(super) fn all(&self) -> Vec<Arc<Known>> {
        self.read().values().cloned().collect()
    }

    pub(super) fn get(&self, id: &ImageId) -> Option<Arc<Known>> {
        self.read().get(id).cloned()
    }

    pub(super) fn by_reference(&self, reference: &Reference) -> Option<Arc<Known>> {
        let named = |known: &&Arc<Known>| {
            let image = &known.image;
            image.references.contains(reference) || image.digests.contains(reference)
        };
        self.read().values().find(named).cloned()
    }

    /// Those whose IDs begin with `hex`, at most two: more are no better.
    pub(super) fn by_prefix(&self, hex: &str) -> Vec<Arc<Known>> {
        let images = self.read();
        let begins = |known: &&Arc<Known>| known.record.id.0.hex().starts_with(hex);
        images.values().filter(begins).take(2).cloned().collect()
    }

    pub(super) fn write(&self) -> Writer<'_> {
        Writer {
            catalog: self,
            _turn: self.writing.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<ImageId, Arc<Known>>> {
        self.images.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer<'_> {
    /// Stores a new image, or adds to one that is there; its references leave other images.
    pub(super) fn add(
        &self,
        record: ImageRecord,
        config: ImageConfig,
    ) -> Result<Arc<Image>, RecordError> {
        let mut record = record;
        if let Some(known) = self.catalog.get(&record.id) {
            let old = known.record.clone();
            record.references.extend(old.references);
            record.digests.extend(old.digests);
            record.blobs.extend(old.blobs);
            record.manifest = record.manifest.or(old.manifest);
        }
        let known = Arc::new(Known::new(record, config));
        self.put(&known)?;
        self.take_away(&known)?;
        Ok(Arc::clone(&known.image))
    }

    /// Replaces the record of an image that is there.
    pub(super) fn replace(&self, record: ImageRecord) -> Result<(), RecordError> {
        let Some(old) = self.catalog.get(&record.id) else {
            return Ok(());
        };
        let known = Arc::new(Known::new(record, old.image.config.clone()));
        self.put(&known)?;
        self.take_away(&known)
    }

    /// Forgets an image.
    pub(super) fn remove(&self, id: &ImageId) -> Result<(), RecordError> {
        self.catalog.records.remove(KIND, &id.0.hex())?;
        self.table().remove(id);
        Ok(())
    }

    /// A reference names one image. Written after the new owner's record: in between, the newer
    /// one counts (see [`Catalog::open`]).
    fn take_away(&self, owner: &Known) -> Result<(), RecordError> {
        let owned = &owner.record;
        for other in self.catalog.all() {
            let mut record = other.record.clone();
            record
                .references
                .retain(|name| !owned.references.contains(name));
            record.digests.retain(|name| !owned.digests.contains(name));
            if record.id == owned.id || record == other.record {
                continue;
            }
            let config = other.image.config.clone();
            self.put(&Arc::new(Known::new(record, config)))?;
        }
        Ok(())
    }

    fn put(&self, known: &Arc<Known>) -> Result<(), RecordError> {
        let id = known.record.id;
        let records = &self.catalog.records;
        records.put_durable(KIND, &id.0.hex(), &known.record)?;
        self.table().insert(id, Arc::clone(known));
        Ok(())
    }

    fn table(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<ImageId, Arc<Known>>> {
        let images = &self.catalog.images;
        images.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn new(record: ImageRecord, config: ImageConfig) -> Self {
        let image = Image {
            id: record.id,
            config,
            layers: record.layers.clone(),
            references: record.references.clone(),
            digests: record.digests.clone(),
            manifest: record.manifest.clone(),
            size_bytes: record.size_bytes,
            tagged_at_unix_ns: record.tagged_at_unix_ns,
        };
        Self {
            record,
            image: Arc::new(image),
        }
    }
}

fn is_whole(store: &Store, record: &ImageRecord) -> bool {
    let layers = store.layers();
    let missing = record.layers.iter().find(|layer| !layers.contains(layer));
    if let Some(layer) = missing {
        tracing::warn!(image = %record.id, %layer, "image lacks a layer; pull it again");
    }
    record.version == RECORD_VERSION && missing.is_none()
}

fn read_config(
    content: &Content,
    id: ImageId,
) -> Result<ImageConfig, Box<dyn std::error::Error + Send + Sync>> {
    Ok(serde_json::from_slice(&content.read(&id.0)?)?)
}
