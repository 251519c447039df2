//! A handle on one running shim.

use model::{ContainerId, ErrorKind, Signal, trace::Step};
use runtime::shim::protocol::{AttachOptions, ExitRecord, IoSettings};
use runtime::{ExecRequest, LaunchError};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::watch;

/// A client's connection to hand over.
#[derive(Debug)]
pub struct Attachment {
    /// What it takes part in.
    pub options: AttachOptions,
    /// The client's own stream socket, or one end of a pair. The shim closes it after the last
    /// byte.
    pub stream: OwnedFd,
    /// Bytes of its stdin that were read together with the HTTP request.
    pub read_ahead: Vec<u8>,
}

/// Why a shim could not do something.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The container's process could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The shim process could not be started.
    #[error("cannot start the shim process")]
    Spawn(#[source] std::io::Error),
    /// The shim's directory or socket cannot be used.
    #[error("cannot use the shim's directory {path}")]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The shim is gone: its container has ended, or it was killed.
    #[error("the container's shim does not answer")]
    Gone,
    /// There is no such process, or it has ended.
    #[error("no such process")]
    NoSuchProcess,
    /// The shim answered that it failed.
    #[error("{0}")]
    Failed(String),
}

impl ShimError {
    /// Returns the sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Launch(error) if error.exit_code != 125 => ErrorKind::InvalidParameter,
            Self::Launch(_) | Self::Spawn(_) | Self::Directory { .. } | Self::Failed(_) => {
                ErrorKind::Internal
            }
            Self::Gone | Self::NoSuchProcess => ErrorKind::Conflict,
        }
    }
}

/// An exec process to start.
#[derive(Debug)]
pub struct ExecStart {
    /// Its ID, chosen by the caller and unique in this container.
    pub exec: String,
    /// What to run.
    pub request: ExecRequest,
    /// Its streams; `stdin_once` is what docker's exec has.
    pub io: IoSettings,
    /// Clients attached from the start.
    pub attach: Vec<Attachment>,
}

/// One running container's shim. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shim {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: ContainerId,
    pid: i32,
    steps: Vec<Step>,
    exit: watch::Receiver<Option<ExitRecord>>,
}

impl Shim {
    /// Returns the container's ID.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.inner.id
    }

    /// Returns the init process's ID on the host.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.inner.pid
    }

    /// Returns how the start went, if it was traced.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.inner.steps
    }

    /// Returns where the exit record appears. The sender is dropped without one if the shim died.
    #[must_use]
    pub fn exit(&self) -> watch::Receiver<Option<ExitRecord>> {
        self.inner.exit.clone()
    }

    /// Sends a signal to the init process.
    ///
    /// # Errors
    /// `NoSuchProcess` once it has ended.
    pub async fn signal(&self, _signal: Signal) -> Result<(), ShimError> {
        Err(ShimError::Gone)
    }

    /// Sets the size of the init process's terminal.
    ///
    /// # Errors
    /// When it has none, or has ended.
    pub async fn resize(&self, _rows: u16, _columns: u16) -> Result<(), ShimError> {
        Err(ShimError::Gone)
    }

    /// Hands over a client's connection.
    ///
    /// # Errors
    /// `NoSuchProcess` once the init process has ended.
    pub async fn attach(&self, _attachment: Attachment) -> Result<(), ShimError> {
        Err(ShimError::Gone)
    }

    /// Closes the init process's stdin.
    ///
    /// # Errors
    /// When the shim is gone.
    pub async fn close_stdin(&self) -> Result<(), ShimError> {
        Err(ShimError::Gone)
    }

    /// Starts another process in the container.
    ///
    /// # Errors
    /// `Launch` with docker's exit code when the program cannot be executed.
    pub async fn exec(&self, _start: ExecStart) -> Result<ExecProcess, ShimError> {
        Err(ShimError::Gone)
    }
}

/// A running exec process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ExecProcess {
    shim: Shim,
    exec: String,
    pid: i32,
    exit: watch::Receiver<Option<ExitRecord>>,
}

impl ExecProcess {
    /// Returns its ID.
    #[must_use]
    pub fn exec(&self) -> &str {
        &self.exec
    }

    /// Returns its process ID on the host.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns where its exit record appears.
    #[must_use]
    pub fn exit(&self) -> watch::Receiver<Option<ExitRecord>> {
        self.exit.clone()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// `NoSuchProcess` once it has ended.
    pub async fn signal(&self, signal: Signal) -> Result<(), ShimError> {
        self.shim.signal(signal).await
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// When it has none, or has ended.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), ShimError> {
        self.shim.resize(rows, columns).await
    }

    /// Hands over a client's connection.
    ///
    /// # Errors
    /// `NoSuchProcess` once it has ended.
    pub async fn attach(&self, attachment: Attachment) -> Result<(), ShimError> {
        self.shim.attach(attachment).await
    }
}
