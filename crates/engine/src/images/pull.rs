//! pull: from a reference to an image on this machine.
//!
//! The registry says which manifest and config; then all layers come at once, each a transfer
//! shared with other pulls. What is on its way is held by a lease. The image exists when its
//! record is written, and that is after everything is on the disk.

use super::image::{ImageRecord, RECORD_VERSION};
use super::progress::{LayerState, ProgressSender, PullEvent};
use super::receive::ReceiveError;
use super::transfer::{Outcome, Transfer, TransferState, Wanted};
use super::{Image, Images, PullError, blocking};
use crate::clock;
use bytes::Bytes;
use futures_util::future::try_join_all;
use model::image::{Descriptor, ImageConfig};
use model::{DiffId, Digest, ImageId, Platform, Reference};
use registry::{Credentials, Repository, Resolved};
use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{Instrument, Span};

/// Layers of one image; docker's bound.
const LAYERS_MAX: usize = 125;
/// How often a pull reports the bytes of a layer.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// A pull's result.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Arc<Image>,
    /// What docker prints as `Digest:`.
    pub digest: Digest,
    /// False: the reference named this image before.
    pub newer: bool,
}

impl Images {
    /// Pulls an image. Dropping the future gives up the layers that no other pull wants.
    ///
    /// # Errors
    /// See [`PullError`]; nothing half-made is left, save partial downloads that the next pull
    /// goes on with.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: Option<Platform>,
        credentials: Credentials,
        progress: &ProgressSender,
    ) -> Result<Pulled, PullError> {
        let repository = self.0.registry.repository(reference, credentials).await;
        if let Some(current) = self.is_current(&repository, platform.as_ref()).await {
            tell_resolved(progress, reference).await;
            return Ok(current);
        }
        let wanted = platform.clone().unwrap_or_else(Platform::host);
        let resolving = repository.resolve(&wanted);
        let resolved = resolving
            .instrument(step(
                "registry",
                "resolve the manifest",
                &reference.familiar(),
            ))
            .await?;
        tell_resolved(progress, reference).await;
        let lease = self.0.store.lease();
        let planning = self.plan(&repository, resolved, &lease);
        let plan = planning
            .instrument(step("registry", "fetch the config", &reference.familiar()))
            .await?;
        if let Some(wanted) = platform {
            plan.check_platform(reference, &wanted)?;
        }
        let transfers = plan.layers.iter().map(|(diff_id, descriptor)| {
            let wanted = Wanted {
                diff_id: *diff_id,
                descriptor: descriptor.clone(),
                repository: repository.clone(),
            };
            let detail = format!("{} ({} bytes)", descriptor.digest.short(), descriptor.size);
            self.pull_layer(wanted, progress.clone()).instrument(step(
                "registry",
                "fetch and unpack a layer",
                &detail,
            ))
        });
        if let Err(error) = try_join_all(transfers).await {
            self.0.transfers.settle().await;
            if is_out_of_space(&error) {
                self.drop_partial_downloads().await;
            }
            return Err(error);
        }
        let pulled = self
            .record(reference.clone(), plan)
            .instrument(step(
                "daemon",
                "sync and record the image",
                &reference.familiar(),
            ))
            .await;
        drop(lease);
        if let Ok(pulled) = &pulled {
            let labels = &pulled.image.config.config.labels;
            self.publish(
                "pull",
                &reference.familiar(),
                &reference.familiar_name(),
                labels,
            );
        }
        pulled
    }

    /// Gives back what unfinished downloads hold on a full disk: keeping them for a later pull to
    /// resume would keep everything else from being written.
    async fn drop_partial_downloads(&self) {
        let content = self.0.store.content();
        let swept = blocking(move || content.sweep_ingests(SystemTime::now())).await;
        if let Err(error) = swept {
            tracing::warn!(%error, "partial downloads stay on a full disk");
        }
    }

    /// Asks whether the tag still means the image that it names here. Public registries do not
    /// count the question against their limits, as they do a fetch.
    async fn is_current(
        &self,
        repository: &Repository,
        platform: Option<&Platform>,
    ) -> Option<Pulled> {
        let reference = repository.reference();
        let image = Arc::clone(&self.0.catalog.by_reference(reference)?.image);
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        if !wanted.accepts(&image.platform()) {
            return None;
        }
        // Without an answer, the pull itself will say what is wrong.
        let digest = repository.probe().await.ok()??;
        let pinned = reference.with_digest(digest);
        image.digests.contains(&pinned).then_some(Pulled {
            image,
            digest,
            newer: false,
        })
    }

    /// Fetches the config and puts it beside the manifest, all held by the lease.
    async fn plan(
        &self,
        repository: &Repository,
        resolved: Resolved,
        lease: &store::Lease,
    ) -> Result<Plan, PullError> {
        let descriptor = resolved.manifest.config.clone();
        let documents = [&resolved.target, &resolved.descriptor, &descriptor];
        let blobs: BTreeSet<Digest> = documents
            .into_iter()
            .chain(&resolved.manifest.layers)
            .map(|descriptor| descriptor.digest)
            .collect();
        for digest in &blobs {
            lease.hold_blob(*digest);
        }
        let kept = self.0.store.content().read(&descriptor.digest).ok();
        let config_bytes = match kept {
            Some(bytes) => Bytes::from(bytes),
            None => {
                let fetched = repository.fetch_config(&descriptor).await;
                fetched.map_err(PullError::Config)?
            }
        };
        let config: ImageConfig =
            serde_json::from_slice(&config_bytes).map_err(|source| PullError::MalformedConfig {
                digest: descriptor.digest,
                source,
            })?;
        let (manifest, diff_ids) = (&resolved.manifest, &config.rootfs.diff_ids);
        if manifest.layers.len() != diff_ids.len() {
            return Err(PullError::NotAnImage {
                reference: repository.reference().familiar(),
                layers: manifest.layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        if diff_ids.len() > LAYERS_MAX {
            return Err(PullError::TooManyLayers {
                count: diff_ids.len(),
                limit: LAYERS_MAX,
            });
        }
        for diff_id in diff_ids {
            lease.hold_layer(*diff_id);
        }
        Ok(Plan {
            id: ImageId(descriptor.digest),
            layers: distinct(diff_ids, &manifest.layers),
            blobs,
            config,
            config_bytes,
            resolved,
        })
    }

    /// Waits for one layer and reports on the way.
    async fn pull_layer(&self, wanted: Wanted, progress: ProgressSender) -> Result<(), PullError> {
        let digest = wanted.descriptor.digest;
        let reporter = Reporter { digest, progress };
        if self.0.store.layers().contains(&wanted.diff_id) {
            reporter.tell(LayerState::AlreadyExists).await;
            return Ok(());
        }
        reporter.tell(LayerState::Pending).await;
        let transfer = self.0.transfers.join(wanted);
        let outcome = reporter.follow(&transfer).await;
        match outcome {
            Ok(()) => {
                reporter.tell(LayerState::PullComplete).await;
                Ok(())
            }
            Err(source) if source.is_wrong_content() => {
                Err(PullError::Verification { digest, source })
            }
            Err(source) => Err(PullError::Layer { digest, source }),
        }
    }

    /// Puts everything on the disk, then writes the record.
    async fn record(&self, reference: Reference, plan: Plan) -> Result<Pulled, PullError> {
        let images = self.clone();
        blocking(move || {
            let (content, layers) = (images.0.store.content(), images.0.store.layers());
            let documents = [Some(&plan.resolved.bytes), plan.resolved.index.as_ref()];
            for bytes in documents.into_iter().flatten().chain([&plan.config_bytes]) {
                content.put(bytes)?;
            }
            content.sync()?;
            let mut size_bytes = 0;
            for (diff_id, _) in &plan.layers {
                size_bytes += layers.size_bytes(diff_id)?;
            }
            let digest = plan.resolved.target.digest;
            let before = images.0.catalog.by_reference(&reference);
            let newer = before.is_none_or(|known| known.record.id != plan.id);
            let record = ImageRecord {
                version: RECORD_VERSION,
                id: plan.id,
                layers: plan.config.rootfs.diff_ids.clone(),
                references: named(&reference),
                digests: BTreeSet::from([reference.with_digest(digest)]),
                manifest: Some(plan.resolved.descriptor.clone()),
                blobs: plan.blobs,
                size_bytes,
                tagged_at_unix_ns: clock::unix_ns(),
            };
            let image = images.0.catalog.write().add(record, plan.config)?;
            Ok(Pulled {
                image,
                digest,
                newer,
            })
        })
        .await
    }
}

fn distinct(diff_ids: &[DiffId], layers: &[Descriptor]) -> Vec<(DiffId, Descriptor)> {
    let mut seen = BTreeSet::new();
    let pairs = diff_ids.iter().copied().zip(layers.iter().cloned());
    pairs.filter(|(diff_id, _)| seen.insert(*diff_id)).collect()
}

/// A pull by digest names nothing, even where a tag is written beside it.
fn named(reference: &Reference) -> BTreeSet<Reference> {
    let tagged = reference.digest().is_none() && reference.tag().is_some();
    tagged.then(|| reference.clone()).into_iter().collect()
}

/// What is to be made of a reference.
struct Plan {
    id: ImageId,
    /// Each distinct layer once, with the blob it comes in, bottom first.
    layers: Vec<(DiffId, Descriptor)>,
    blobs: BTreeSet<Digest>,
    config: ImageConfig,
    config_bytes: Bytes,
    resolved: Resolved,
}

impl Plan {
    fn check_platform(&self, reference: &Reference, wanted: &Platform) -> Result<(), PullError> {
        let actual = Platform {
            os: self.config.os.clone(),
            architecture: self.config.architecture.clone(),
            variant: self.config.variant.clone().filter(|v| !v.is_empty()),
        };
        if wanted.accepts(&actual) {
            return Ok(());
        }
        Err(PullError::WrongPlatform {
            reference: reference.familiar(),
            actual: Box::new(actual),
            wanted: Box::new(wanted.clone()),
        })
    }
}

/// Looks for a full disk at the bottom of an error.
fn is_out_of_space(error: &PullError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::StorageFull;
        }
        cause = error.source();
    }
    false
}

/// A step of `run --trace`.
fn step(actor: &str, name: &str, detail: &str) -> Span {
    tracing::info_span!(target: "berth::step", "step", actor, step = name, detail)
}

/// Nobody listening is fine: a pull without a reader is a pull.
async fn tell(progress: &ProgressSender, event: PullEvent) {
    let _nobody_listens = progress.send(event).await.is_err();
}

async fn tell_resolved(progress: &ProgressSender, reference: &Reference) {
    let event = PullEvent::Resolved {
        selector: reference.manifest_selector(),
        repository: reference.repository().to_owned(),
    };
    tell(progress, event).await;
}

struct Reporter {
    digest: Digest,
    progress: ProgressSender,
}

impl Reporter {
    async fn tell(&self, state: LayerState) {
        let digest = self.digest;
        tell(&self.progress, PullEvent::Layer { digest, state }).await;
    }

    /// Reports a transfer's states until it is done. States that passed between two looks are
    /// reported too, so that every layer tells the same story.
    async fn follow(&self, transfer: &Transfer) -> Outcome {
        let mut states = transfer.states.clone();
        let mut told = Stage::Waiting;
        loop {
            let state = states.borrow_and_update().clone();
            let (stage, now) = match state {
                TransferState::Done(Err(error)) => return Err(error),
                TransferState::Done(Ok(())) => (Stage::Complete, None),
                TransferState::Running(state) => (Stage::of(&state), Some(state)),
            };
            self.tell_passed(told, stage).await;
            let Some(state) = now else { return Ok(()) };
            let kind = discriminant(&state);
            self.tell(state).await;
            told = stage;
            if states.changed().await.is_err() {
                return Err(Arc::new(ReceiveError::Cancelled));
            }
            let counts = matches!(stage, Stage::Downloading | Stage::Extracting);
            if counts {
                // Not every chunk is worth a line; the end of the stage is, at once.
                let moved_on = states.wait_for(|now| match now {
                    TransferState::Running(now) => discriminant(now) != kind,
                    TransferState::Done(_) => true,
                });
                let _waited = tokio::time::timeout(REPORT_INTERVAL, moved_on)
                    .await
                    .is_ok();
            }
        }
    }

    async fn tell_passed(&self, told: Stage, now: Stage) {
        if told < Stage::Verifying && now > Stage::Verifying {
            self.tell(LayerState::Verifying).await;
        }
        if told < Stage::Downloaded && now > Stage::Downloaded {
            self.tell(LayerState::DownloadComplete).await;
        }
    }
}

/// [`LayerState`]s that can be passed over, in their order in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Waiting,
    Downloading,
    Verifying,
    Downloaded,
    Extracting,
    Complete,
}

impl Stage {
    const fn of(state: &LayerState) -> Self {
        match state {
            LayerState::Pending | LayerState::Waiting => Self::Waiting,
            LayerState::Downloading { .. } | LayerState::Retrying { .. } => Self::Downloading,
            LayerState::Verifying => Self::Verifying,
            LayerState::DownloadComplete => Self::Downloaded,
            LayerState::Extracting { .. } => Self::Extracting,
            LayerState::AlreadyExists | LayerState::PullComplete => Self::Complete,
        }
    }
}
