//! A name as users write it → the image it means here.

use super::catalog::Known;
use super::{Image, ImageError, Images};
use model::{ImageId, Reference};
use std::sync::Arc;

/// What a name was understood as.
#[derive(Debug)]
pub(super) enum Found {
    /// By one of its references (or repository digests).
    Reference(Reference, Arc<Known>),
    /// By its ID, or the beginning of it.
    Id(Arc<Known>),
}

impl Found {
    pub(super) fn known(&self) -> &Arc<Known> {
        match self {
            Self::Reference(_, known) | Self::Id(known) => known,
        }
    }
}

impl Images {
    /// Finds an image by reference, `name@digest`, ID, or a beginning of an ID that is no one
    /// else's. In memory; never waits.
    ///
    /// # Errors
    /// Nothing or too much has the name, or it is malformed.
    pub fn resolve(&self, name: &str) -> Result<Arc<Image>, ImageError> {
        self.find(name)
            .map(|found| Arc::clone(&found.known().image))
    }

    /// A reference wins over an ID, except that a full ID or one after `sha256:` is only an ID.
    pub(super) fn find(&self, name: &str) -> Result<Found, ImageError> {
        let catalog = &self.0.catalog;
        let not_found = || ImageError::NotFound {
            name: name.to_owned(),
        };
        let whole = name
            .parse::<ImageId>()
            .or_else(|_| format!("sha256:{name}").parse());
        if let Ok(id) = whole {
            return catalog.get(&id).map(Found::Id).ok_or_else(not_found);
        }
        let only_id = name.strip_prefix("sha256:");
        let reference = name.parse::<Reference>();
        let by_name = reference.as_ref().ok().filter(|_| only_id.is_none());
        if let Some(found) = by_name.and_then(|reference| self.find_reference(reference)) {
            return Ok(found);
        }
        let hex = only_id.unwrap_or(name);
        if is_hex(hex) {
            let mut matching = catalog.by_prefix(hex).into_iter();
            match (matching.next(), matching.next()) {
                (Some(known), None) => return Ok(Found::Id(known)),
                (Some(_), Some(_)) => {
                    return Err(ImageError::Ambiguous {
                        prefix: hex.to_owned(),
                    });
                }
                (None, _) => {}
            }
        }
        match reference {
            Ok(reference) => Err(ImageError::NotFound {
                name: reference.familiar(),
            }),
            Err(_) if is_hex(hex) => Err(not_found()),
            Err(error) => Err(error.into()),
        }
    }

    fn find_reference(&self, reference: &Reference) -> Option<Found> {
        let catalog = &self.0.catalog;
        // With tag and digest, the digest counts, as in docker.
        let wanted = match reference.digest() {
            Some(digest) => reference.with_digest(digest),
            None => reference.clone(),
        };
        let known = catalog.by_reference(&wanted).or_else(|| {
            // `name@<image ID>` and `name@<manifest digest>` of an image under that name.
            let digest = reference.digest()?;
            let named = |known: &&Arc<Known>| {
                let image = &known.image;
                let manifest = image.manifest.as_ref();
                let same = image.id.0 == digest || manifest.is_some_and(|m| m.digest == digest);
                let mut names = image.references.iter().chain(&image.digests);
                same && names.any(|r| r.name() == reference.name())
            };
            catalog.all().iter().find(named).cloned()
        })?;
        Some(Found::Reference(wanted, known))
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
