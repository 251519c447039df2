//! remove: takes a name away, and the image with its last one.
//!
//! Decided as dockerd decides: by name, a further name only is untagged; by ID, all names go if
//! they are of one repository. A container that uses the image is in the way, a running one
//! even with force.

use super::catalog::Known;
use super::resolve::Found;
use super::{Image, Images, RemoveError, blocking};
use model::{ChainId, ContainerId, DiffId, Digest, ImageId, Reference};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What went, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name, as docker shows it.
    Untagged(String),
    /// An image ID or a chain ID.
    Deleted(String),
}

/// A container that was made from an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The container.
    pub container: ContainerId,
    /// It runs.
    pub running: bool,
}

/// How to remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Even if stopped containers use it, and whatever names it has.
    pub force: bool,
}

/// What a removal comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    untag: BTreeSet<Reference>,
    delete: bool,
}

impl Images {
    /// Removes a name, or the image.
    ///
    /// # Errors
    /// There is no such image, something is in the way, or the store refuses.
    pub async fn remove(
        &self,
        name: &str,
        options: RemoveOptions,
        users: impl Fn(&ImageId) -> Vec<ImageUser>,
    ) -> Result<Vec<Removed>, RemoveError> {
        let found = self.find(name)?;
        let id = found.known().record.id;
        let plan = plan(name, &found, options.force, &users(&id))?;
        let image = Arc::clone(&found.known().image);
        // Tags before digests, as docker lists them.
        let mut names: Vec<&Reference> = plan.untag.iter().collect();
        names.sort_by_key(|reference| reference.tag().is_none());
        let untagged = names.iter().map(|name| Removed::Untagged(name.familiar()));
        let mut removed: Vec<Removed> = untagged.collect();
        if plan.delete {
            removed.extend(self.delete(id).await?.0);
        } else {
            self.untag(id, plan.untag).await?;
        }
        self.publish_removal(&image, &removed);
        Ok(removed)
    }

    pub(super) fn publish_removal(&self, image: &Image, removed: &[Removed]) {
        let (id, labels) = (image.id.to_string(), &image.config.config.labels);
        for step in removed {
            match step {
                Removed::Untagged(name) => self.publish("untag", &id, name, labels),
                // The layers that went with it are no images.
                Removed::Deleted(deleted) if *deleted == id => {
                    self.publish("delete", &id, &id, labels);
                }
                Removed::Deleted(_) => {}
            }
        }
    }

    async fn untag(&self, id: ImageId, names: BTreeSet<Reference>) -> Result<(), RemoveError> {
        let images = self.clone();
        blocking(move || {
            let writer = images.0.catalog.write();
            let Some(known) = images.0.catalog.get(&id) else {
                return Ok(());
            };
            let mut record = known.record.clone();
            record.references.retain(|name| !names.contains(name));
            record.digests.retain(|name| !names.contains(name));
            Ok(writer.replace(record)?)
        })
        .await
    }

    /// Forgets the image and clears away what nothing else needs. Layers beneath containers stay
    /// until those go.
    pub(super) async fn delete(&self, id: ImageId) -> Result<(Vec<Removed>, u64), RemoveError> {
        let images = self.clone();
        blocking(move || {
            let layers = match images.0.catalog.get(&id) {
                Some(known) => known.record.layers.clone(),
                None => Vec::new(),
            };
            images.0.catalog.write().remove(&id)?;
            let swept = images.collect()?;
            let mut removed = vec![Removed::Deleted(id.to_string())];
            let gone: BTreeSet<DiffId> = swept.layers.iter().copied().collect();
            let chains = chain_ids(&layers).into_iter().zip(&layers).rev();
            removed.extend(
                chains
                    .filter(|(_, layer)| gone.contains(layer))
                    .map(|(chain, _)| Removed::Deleted(chain.to_string())),
            );
            Ok((removed, swept.size_bytes))
        })
        .await
    }
}

fn plan(name: &str, found: &Found, force: bool, users: &[ImageUser]) -> Result<Plan, RemoveError> {
    let known = found.known();
    let all: BTreeSet<Reference> = names(known).cloned().collect();
    let image = known.record.id.0.short();
    match found {
        Found::Reference(reference, _) => {
            if let (false, true, Some(user)) = (force, is_single(&all), users.first()) {
                return Err(RemoveError::NameInUse {
                    name: name.to_owned(),
                    container: user.container.short().to_owned(),
                    image,
                });
            }
            let mut untag = BTreeSet::from([reference.clone()]);
            let left = |name: &&Reference| name.name() == reference.name() && *name != reference;
            let only_digests = all.iter().filter(left).all(|name| name.tag().is_none());
            if reference.tag().is_some() && only_digests {
                untag.extend(all.iter().filter(left).cloned());
            }
            // The name goes even where the image cannot.
            let delete = all.is_subset(&untag) && obstacle(&image, force, users).is_none();
            Ok(Plan { untag, delete })
        }
        Found::Id(_) => {
            if !is_single_repository(&all) && !force {
                return Err(RemoveError::SeveralNames { image });
            }
            if let Some(obstacle) = obstacle(&image, force, users) {
                return Err(obstacle);
            }
            Ok(Plan {
                untag: all,
                delete: true,
            })
        }
    }
}

fn names(known: &Arc<Known>) -> impl Iterator<Item = &Reference> {
    known.record.references.iter().chain(&known.record.digests)
}

fn obstacle(image: &str, force: bool, users: &[ImageUser]) -> Option<RemoveError> {
    let image = image.to_owned();
    if let Some(user) = users.iter().find(|user| user.running) {
        let container = user.container.short().to_owned();
        return Some(RemoveError::Running { image, container });
    }
    let user = users.first().filter(|_| !force)?;
    let container = user.container.short().to_owned();
    Some(RemoveError::Stopped { image, container })
}

/// One name, or one tag with the digest that was pulled for it.
fn is_single(names: &BTreeSet<Reference>) -> bool {
    names.iter().filter(|name| name.tag().is_some()).count() <= 1 && is_single_repository(names)
}

fn is_single_repository(names: &BTreeSet<Reference>) -> bool {
    let repositories: BTreeSet<String> = names.iter().map(Reference::name).collect();
    repositories.len() <= 1
}

/// OCI image-spec, config.md: `chain(n) = sha256(chain(n-1) + " " + diff(n))`.
fn chain_ids(layers: &[DiffId]) -> Vec<ChainId> {
    let mut chains: Vec<ChainId> = Vec::with_capacity(layers.len());
    for layer in layers {
        chains.push(match chains.last() {
            None => ChainId(layer.0),
            Some(below) => {
                let text = format!("{below} {layer}");
                ChainId(Digest::from_sha256(Sha256::digest(text).into()))
            }
        });
    }
    chains
}
