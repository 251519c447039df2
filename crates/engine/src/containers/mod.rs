//! Containers: a file per verb, one task per container.
//!
//! ```text
//! Containers ──table──▶ Handle ──Command──▶ Driver (a task: owns State, Shim, timers)
//!     ▲                   ▲ watch<View>        │ model::lifecycle::step decides
//!     └── list, inspect ──┘◀──── publishes ────┘ record, act, record, publish
//! ```
//!
//! Verbs that take their time (stop, restart, wait) run in the caller's own task: they send short
//! commands and watch the published view, so no driver is ever busy waiting.

mod attach;
mod create;
mod driver;
mod error;
mod files;
mod list;
mod logs;
pub(crate) mod mount_points;
mod mounts;
mod names;
mod record;
mod recover;
mod remove;
mod start;
mod stop;
mod table;
mod top;
mod verbs;
mod wait;

pub use attach::{AttachRequest, Connection, Reservation};
pub(crate) use attach::{Pending, arrivals};
pub use create::Created;
pub(crate) use driver::error_chain;
pub use error::{CreateError, LookupError, NameTaken, Refused, StartError, Verb, VerbError};
pub use list::{Filters, InvalidFilter, ListRequest};
pub use logs::{LogEntry, LogReader, LogRequest, LogStream};
pub use record::{Definition, ImageFacts, MountPoint, MountPointSource, State, View};
pub use remove::RemoveRequest;
pub use top::Processes;
pub use wait::{WaitCondition, Waited};

use crate::Context;
use model::ContainerId;
use std::sync::Arc;
use table::Table;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Containers {
    context: Arc<Context>,
    table: Arc<Table>,
    tasks: TaskTracker,
}

impl Containers {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            table: Arc::new(Table::default()),
            tasks: TaskTracker::new(),
        }
    }

    /// Returns the latest picture of a container, by name, ID or unambiguous ID prefix.
    ///
    /// # Errors
    /// If none or several match.
    pub fn inspect(&self, reference: &str) -> Result<Arc<View>, LookupError> {
        Ok(self.table.get(reference)?.view())
    }

    /// Follows a container's pictures.
    ///
    /// # Errors
    /// If none or several match.
    pub fn watch(&self, reference: &str) -> Result<watch::Receiver<Arc<View>>, LookupError> {
        Ok(self.table.get(reference)?.view.clone())
    }

    /// Returns the ID a name or prefix stands for.
    ///
    /// # Errors
    /// If none or several match.
    pub fn id(&self, reference: &str) -> Result<ContainerId, LookupError> {
        Ok(self.table.get(reference)?.id.clone())
    }

    /// Returns what its changes to its root take, in bytes.
    #[must_use]
    pub fn changes_bytes(&self, id: &ContainerId) -> u64 {
        let usage = self.context.store.snapshots().usage(id.as_str());
        usage.map_or(0, |usage| usage.size_bytes)
    }

    /// Returns where its log is, and where its host files are.
    #[must_use]
    pub fn directory(&self, id: &ContainerId) -> std::path::PathBuf {
        files::directory(&self.context, id)
    }

    /// Returns its writable root as overlayfs gets it.
    ///
    /// # Errors
    /// If it is not there.
    pub fn root(&self, id: &ContainerId) -> Result<store::RootMount, store::SnapshotError> {
        self.context.store.snapshots().mount(id.as_str())
    }

    /// Lets tasks that finish by themselves finish.
    pub(crate) fn close(&self) {
        self.tasks.close();
    }
}
