//! history: what made each layer, as far as the config tells.

use super::{Image, ImageError, Images};
use model::DiffId;
use model::image::History;
use std::sync::Arc;

/// One step, newest first in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The config's entry.
    pub step: History,
    /// Bytes of the layer it made.
    pub size_bytes: u64,
}

impl Images {
    /// Returns the image and its steps, newest first.
    ///
    /// # Errors
    /// There is no such image.
    pub fn history(&self, name: &str) -> Result<(Arc<Image>, Vec<HistoryEntry>), ImageError> {
        let image = self.resolve(name)?;
        let layers = self.0.store.layers();
        let size = |layer: &DiffId| layers.size_bytes(layer).unwrap_or(0);
        let entries = entries(&image.config.history, &image.layers, size);
        Ok((image, entries))
    }

    /// Bytes of an image's layers that other images have too, for lists.
    #[must_use]
    pub fn shared_size_bytes(&self, image: &Image) -> u64 {
        let layers = self.0.store.layers();
        let all = self.0.catalog.all();
        let is_shared = |layer: &&DiffId| {
            let others = all.iter().filter(|known| known.record.id != image.id);
            others
                .into_iter()
                .any(|known| known.record.layers.contains(layer))
        };
        let shared = image.layers.iter().filter(is_shared);
        shared
            .map(|layer| layers.size_bytes(layer).unwrap_or(0))
            .sum()
    }
}

/// Pairs steps with layers: a step that is not marked empty made the next layer. Layers beyond
/// the steps get bare steps, so that sizes still add up.
fn entries(
    steps: &[History],
    layers: &[DiffId],
    size: impl Fn(&DiffId) -> u64,
) -> Vec<HistoryEntry> {
    let mut layers = layers.iter();
    let mut entries: Vec<HistoryEntry> = steps
        .iter()
        .map(|step| HistoryEntry {
            step: step.clone(),
            size_bytes: if step.empty_layer {
                0
            } else {
                layers.next().map_or(0, &size)
            },
        })
        .collect();
    entries.extend(layers.map(|layer| HistoryEntry {
        step: History::default(),
        size_bytes: size(layer),
    }));
    entries.reverse();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Digest;

    #[test]
    fn empty_steps_make_no_layer() {
        let step = |by: &str, empty_layer| History {
            created_by: by.to_owned(),
            empty_layer,
            ..History::default()
        };
        let layer = |n| DiffId(Digest::from_sha256([n; 32]));
        let steps = [step("ADD", false), step("CMD", true), step("RUN", false)];
        let layers = [layer(1), layer(2), layer(3)];
        let entries = entries(&steps, &layers, |l| u64::from(l.0.as_bytes()[0]));
        let shown: Vec<_> = entries
            .iter()
            .map(|e| (e.step.created_by.as_str(), e.size_bytes))
            .collect();
        assert_eq!(shown, [("", 3), ("RUN", 2), ("CMD", 0), ("ADD", 1)]);
    }
}
