//! One image as the engine knows it: the record on disk, and what other folders read of it.

use model::image::{Descriptor, ImageConfig};
use model::{DiffId, Digest, ImageId, Platform, Reference};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An image that is whole: every layer unpacked, its config in the content store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of the config, which is what docker calls the image ID.
    pub id: ImageId,
    /// The config document.
    pub config: ImageConfig,
    /// Layers, bottom first, as [`store`] names them.
    pub layers: Vec<DiffId>,
    /// Tags that name this image, each `registry/repository:tag`.
    pub references: BTreeSet<Reference>,
    /// `registry/repository@digest` for each place it was pulled from. The digest is the index's
    /// where there is one, otherwise the manifest's.
    pub digests: BTreeSet<Reference>,
    /// The manifest, if it came from a registry.
    pub manifest: Option<Descriptor>,
    /// Bytes of all unpacked layers.
    pub size_bytes: u64,
    /// Time of the last pull, tag or import, Unix nanoseconds.
    pub tagged_at_unix_ns: i64,
}

impl Image {
    /// Returns the name that users see for it: a tag, else the short ID.
    #[must_use]
    pub fn shown_name(&self) -> String {
        self.references
            .first()
            .map_or_else(|| self.id.0.short(), Reference::familiar)
    }
}

/// What is on disk, `records/images/<hex of the ID>.json`.
///
/// The config itself is a blob; the record only points at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageRecord {
    pub version: u32,
    pub id: ImageId,
    pub layers: Vec<DiffId>,
    pub references: BTreeSet<Reference>,
    pub digests: BTreeSet<Reference>,
    pub manifest: Option<Descriptor>,
    /// Blobs that are held for this image: config, manifest, compressed layers.
    pub blobs: BTreeSet<Digest>,
    pub size_bytes: u64,
    pub tagged_at_unix_ns: i64,
}

/// The version of [`ImageRecord`] that this code writes.
pub(super) const RECORD_VERSION: u32 = 1;

impl Image {
    /// Returns when the config says it was made, Unix seconds; 0 if it does not say.
    #[must_use]
    pub fn created_unix_s(&self) -> i64 {
        let created = self.config.created.as_deref().unwrap_or_default();
        OffsetDateTime::parse(created, &Rfc3339).map_or(0, OffsetDateTime::unix_timestamp)
    }

    /// Returns the platform it is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.config.os.clone(),
            architecture: self.config.architecture.clone(),
            variant: self.config.variant.clone().filter(|v| !v.is_empty()),
        }
    }
}
