//! Images on this machine: which there are, and how they come and go.
//!
//! A file per verb: [`Images::pull`], [`Images::import`], [`Images::tag`], [`Images::remove`],
//! [`Images::prune`], [`Images::list`], [`Images::history`]. The folder owns the image records;
//! bytes and unpacked layers belong to `store`, the network to `registry`. It refuses to know
//! about containers: callers say which images are in use.
//!
//! ```text
//! pull: resolve ─▶ hold by a lease ─▶ layers, each a transfer that pulls share ─▶ sync ─▶ record
//! ```

mod catalog;
pub mod changes;
mod error;
mod history;
mod image;
mod import;
mod list;
mod progress;
mod prune;
mod pull;
mod receive;
mod remote;
mod remove;
mod resolve;
mod tag;
mod transfer;

pub use error::{ImageError, ImagesOpenError, ImportError, PullError, RemoveError, TagError};
pub use history::HistoryEntry;
pub use image::Image;
pub use import::ImportOptions;
pub use list::ImageFilter;
pub use progress::{LayerState, ProgressSender, PullEvent};
pub use prune::Pruned;
pub use pull::Pulled;
pub use receive::ReceiveError;
pub use remove::{ImageUser, RemoveOptions, Removed};

use crate::Events;
use catalog::Catalog;
use model::ErrorKind;
pub use registry::{Credentials, RegistryError, ResolveError, Secret};
use registry::{RegistryClient, RegistryOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use store::{Live, Store, Swept};
use tokio::task::JoinError;
use transfer::Transfers;

/// The images. Clones share one state.
#[derive(Debug, Clone)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    registry: RegistryClient,
    catalog: Catalog,
    transfers: Transfers,
    events: Events,
}

impl Images {
    /// Reads the records, and clears away blobs and layers that no image and no container needs:
    /// what a pull left that was not acknowledged.
    ///
    /// # Errors
    /// The records cannot be read, or TLS cannot be set up.
    pub fn open(
        store: &Store,
        registry: RegistryOptions,
        events: Events,
    ) -> Result<Self, ImagesOpenError> {
        let images = Self(Arc::new(Inner {
            registry: RegistryClient::new(registry)?,
            catalog: Catalog::open(store)?,
            transfers: Transfers::new(store.clone()),
            store: store.clone(),
            events,
        }));
        images.collect()?;
        let before = SystemTime::now().checked_sub(PARTIAL_AGE_MAX);
        if let Some(before) = before {
            store.content().sweep_ingests(before)?;
        }
        Ok(images)
    }

    /// Tells what happened to an image under a name.
    fn publish(&self, action: &'static str, id: &str, name: &str, labels: &Labels) {
        let mut attributes = labels.clone();
        attributes.insert("name".to_owned(), name.to_owned());
        self.0.events.publish("image", action, id, attributes);
    }

    /// Removes every blob and layer that neither an image, nor a running pull, nor a container
    /// needs. Blocks.
    fn collect(&self) -> Result<Swept, store::GcError> {
        self.0.store.collect(|| {
            let mut live = Live::default();
            for known in self.0.catalog.all() {
                live.blobs.extend(&known.record.blobs);
                live.layers.extend(&known.record.layers);
            }
            live
        })
    }
}

/// How long a partial download is kept for a pull that goes on with it.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// An image's labels go along with its events.
type Labels = BTreeMap<String, String>;

/// What became of work on a thread that may block.
pub(crate) fn joined<T>(result: Result<T, JoinError>) -> T {
    match result {
        Ok(value) => value,
        // It panicked: so do we. It is never cancelled: nobody aborts it.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Runs what may block, off the executor's threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work).await)
}

/// Kinds that several errors share.
const INTERNAL: ErrorKind = ErrorKind::Internal;
