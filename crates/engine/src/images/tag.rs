//! tag: gives an image one more name.

use super::{Images, TagError, blocking};
use crate::clock;
use model::Reference;

impl Images {
    /// Lets `reference` name the image; it leaves the image that it named before.
    ///
    /// # Errors
    /// There is no such image, or the reference has a digest.
    pub async fn tag(&self, name: &str, reference: &Reference) -> Result<(), TagError> {
        if reference.digest().is_some() {
            return Err(TagError::Digest);
        }
        let id = self.find(name)?.known().record.id;
        let images = self.clone();
        let reference = reference.clone();
        blocking(move || {
            let writer = images.0.catalog.write();
            let Some(known) = images.0.catalog.get(&id) else {
                return Ok(());
            };
            let mut record = known.record.clone();
            let name = reference.familiar();
            record.references.insert(reference);
            record.tagged_at_unix_ns = clock::unix_ns();
            writer.replace(record)?;
            let labels = &known.image.config.config.labels;
            images.publish("tag", &id.to_string(), &name, labels);
            Ok(())
        })
        .await
    }
}
