//! resolve: from what a user writes to an image on this machine.

use super::image::{Image, ImageRecord};
use super::{ImageError, Images};
use model::Reference;
use model::image::ImageConfig;
use std::sync::Arc;
use store::Store;

impl Images {
    /// Opens the images of a store.
    #[must_use]
    pub fn open(store: &Store) -> Self {
        Self {
            store: store.clone(),
        }
    }

    /// Finds an image by reference, ID or unambiguous ID prefix.
    ///
    /// # Errors
    /// If none or several match.
    pub fn resolve(&self, name: &str) -> Result<Arc<Image>, ImageError> {
        let not_found = |name: String| ImageError::NotFound { name };
        let records = self.store.records();
        let all = records
            .list::<ImageRecord>("images")
            .map_err(|_| not_found(name.to_owned()))?;
        let reference = name.parse::<Reference>();
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let is_id = hex.len() >= 2 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let by_reference = all.iter().find(|(_, record)| {
            reference.as_ref().is_ok_and(|reference| {
                record.references.contains(reference) || record.digests.contains(reference)
            })
        });
        let by_id: Vec<_> = all
            .iter()
            .filter(|(id, _)| is_id && id.starts_with(hex))
            .collect();
        let (_, record) = match (by_reference, by_id.as_slice()) {
            (Some(found), _) => found,
            (None, [only]) => *only,
            (None, []) => return Err(not_found(name.to_owned())),
            (None, _) => {
                let prefix = name.to_owned();
                return Err(ImageError::Ambiguous { prefix });
            }
        };
        let config = self.store.content().read(&record.id.0).ok();
        let config = config.and_then(|bytes| serde_json::from_slice::<ImageConfig>(&bytes).ok());
        Ok(Arc::new(Image {
            id: record.id,
            config: config.ok_or_else(|| not_found(name.to_owned()))?,
            layers: record.layers.clone(),
            references: record.references.clone(),
            digests: record.digests.clone(),
            manifest: record.manifest.clone(),
            size_bytes: record.size_bytes,
            tagged_at_unix_ns: record.tagged_at_unix_ns,
        }))
    }
}
