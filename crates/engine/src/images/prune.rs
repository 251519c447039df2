//! prune: removes images that nothing uses.

use super::{ImageFilter, ImageUser, Images, RemoveError, Removed, blocking};
use model::ImageId;

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names and images that went.
    pub removed: Vec<Removed>,
    /// Bytes that came free.
    pub reclaimed_bytes: u64,
}

impl Images {
    /// Removes images that no container uses: untagged ones, or with `all` tagged ones too.
    ///
    /// # Errors
    /// A record or the store refuses; what went until then stays gone.
    pub async fn prune(
        &self,
        all: bool,
        filter: &ImageFilter,
        users: impl Fn(&ImageId) -> Vec<ImageUser>,
    ) -> Result<Pruned, RemoveError> {
        let mut pruned = Pruned::default();
        for image in self.list(filter)? {
            let wanted = all || image.references.is_empty();
            if !wanted || !users(&image.id).is_empty() {
                continue;
            }
            let names = image.references.iter().chain(&image.digests);
            let names: Vec<Removed> = names.map(|r| Removed::Untagged(r.familiar())).collect();
            let (layers, bytes) = self.delete(image.id).await?;
            let removed: Vec<Removed> = names.into_iter().chain(layers).collect();
            self.publish_removal(&image, &removed);
            pruned.removed.extend(removed);
            pruned.reclaimed_bytes += bytes;
        }
        // Left-overs of failed pulls go along.
        let images = self.clone();
        pruned.reclaimed_bytes += blocking(move || images.collect()).await?.size_bytes;
        Ok(pruned)
    }
}
