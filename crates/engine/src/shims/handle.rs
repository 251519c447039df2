//! A handle on one running shim.

use super::link::{Link, unexpected};
use model::{ContainerId, ErrorKind, Signal, trace::Step};
use runtime::shim::protocol::{
    AttachCommand, AttachOptions, ExecCommand, ExitRecord, IoSettings, Outcome, Request,
};
use runtime::{ExecRequest, LaunchError};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

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

    /// Writes it below what failed, as docker does. A user or group that the root does not know
    /// stands alone: docker looks it up by itself, before it asks a runtime.
    pub(crate) fn below(&self, what: &str) -> String {
        match self {
            Self::Launch(error)
                if ["unable to find user ", "unable to find group "]
                    .iter()
                    .any(|lookup| error.message.starts_with(lookup)) =>
            {
                error.message.clone()
            }
            _ => format!("{what}: {}: unknown", crate::containers::error_chain(self)),
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
    link: Arc<Link>,
}

impl Shim {
    pub(super) fn new(id: ContainerId, pid: i32, steps: Vec<Step>, link: Arc<Link>) -> Self {
        Self {
            inner: Arc::new(Inner {
                id,
                pid,
                steps,
                link,
            }),
        }
    }

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
        self.inner.link.exit()
    }

    /// Returns where clients that typed their detach keys are reported: none for the init
    /// process, else the exec's ID. The last caller gets them.
    #[must_use]
    pub fn detached(&self) -> mpsc::UnboundedReceiver<Option<String>> {
        self.inner.link.detached()
    }

    /// Ends the connection and leaves the container running, as the daemon's end does.
    pub fn disconnect(&self) {
        self.inner.link.close();
    }

    /// Sends a signal to the init process.
    ///
    /// # Errors
    /// `NoSuchProcess` once it has ended.
    pub async fn signal(&self, signal: Signal) -> Result<(), ShimError> {
        self.signal_to(None, signal).await
    }

    /// Sets the size of the init process's terminal.
    ///
    /// # Errors
    /// When it has none, or has ended.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), ShimError> {
        self.resize_of(None, rows, columns).await
    }

    /// Hands over a client's connection.
    ///
    /// # Errors
    /// `NoSuchProcess` once the init process has ended.
    pub async fn attach(&self, attachment: Attachment) -> Result<(), ShimError> {
        self.attach_to(None, attachment).await
    }

    /// Closes the init process's stdin, after what was already written to it.
    ///
    /// # Errors
    /// When the shim is gone.
    pub async fn close_stdin(&self) -> Result<(), ShimError> {
        let request = Request::CloseStdin { exec: None };
        self.inner.link.order(request, Vec::new()).await
    }

    /// Starts another process in the container.
    ///
    /// # Errors
    /// `Launch` with docker's exit code when the program cannot be executed.
    pub async fn exec(&self, start: ExecStart) -> Result<ExecProcess, ShimError> {
        let (attach, fds) = split(start.attach);
        let exec = start.exec;
        let exit = self.inner.link.expect_exec(&exec);
        let command = ExecCommand {
            exec: exec.clone(),
            request: start.request,
            io: start.io,
            attach,
        };
        let request = Request::Exec(Box::new(command));
        let outcome = self.inner.link.ask(request, fds).await;
        match outcome {
            Ok(Outcome::Started { pid, steps }) => Ok(ExecProcess {
                shim: self.clone(),
                exec,
                pid,
                steps,
                exit,
            }),
            other => {
                self.inner.link.forget_exec(&exec);
                Err(other.map_or_else(|error| error, unexpected))
            }
        }
    }

    /// Takes up an exec process that a former daemon started.
    pub(super) fn adopt_exec(&self, exec: String, pid: i32) -> ExecProcess {
        ExecProcess {
            exit: self.inner.link.expect_exec(&exec),
            shim: self.clone(),
            exec,
            pid,
            steps: Vec::new(),
        }
    }

    async fn signal_to(&self, exec: Option<String>, signal: Signal) -> Result<(), ShimError> {
        let signal = signal.number();
        let request = Request::Signal { exec, signal };
        self.inner.link.order(request, Vec::new()).await
    }

    async fn resize_of(
        &self,
        exec: Option<String>,
        rows: u16,
        columns: u16,
    ) -> Result<(), ShimError> {
        let request = Request::Resize {
            exec,
            rows,
            columns,
        };
        self.inner.link.order(request, Vec::new()).await
    }

    async fn attach_to(
        &self,
        exec: Option<String>,
        attachment: Attachment,
    ) -> Result<(), ShimError> {
        let attach = AttachCommand {
            options: attachment.options,
            read_ahead: attachment.read_ahead,
        };
        let request = Request::Attach { exec, attach };
        self.inner
            .link
            .order(request, vec![attachment.stream])
            .await
    }
}

/// Separates what goes as JSON from what goes as descriptors.
pub(super) fn split(attachments: Vec<Attachment>) -> (Vec<AttachCommand>, Vec<OwnedFd>) {
    attachments
        .into_iter()
        .map(|attachment| {
            let command = AttachCommand {
                options: attachment.options,
                read_ahead: attachment.read_ahead,
            };
            (command, attachment.stream)
        })
        .unzip()
}

/// A running exec process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ExecProcess {
    shim: Shim,
    exec: String,
    pid: i32,
    steps: Vec<Step>,
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

    /// Returns how its start went, if it was traced.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns where its exit record appears. Its clients' connections close after the record is
    /// here, so that a client that then asks for the exit code finds it.
    #[must_use]
    pub fn exit(&self) -> watch::Receiver<Option<ExitRecord>> {
        self.exit.clone()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// `NoSuchProcess` once it has ended.
    pub async fn signal(&self, signal: Signal) -> Result<(), ShimError> {
        self.shim.signal_to(Some(self.exec.clone()), signal).await
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// When it has none, or has ended.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), ShimError> {
        let exec = Some(self.exec.clone());
        self.shim.resize_of(exec, rows, columns).await
    }

    /// Hands over a client's connection.
    ///
    /// # Errors
    /// `NoSuchProcess` once it has ended.
    pub async fn attach(&self, attachment: Attachment) -> Result<(), ShimError> {
        self.shim
            .attach_to(Some(self.exec.clone()), attachment)
            .await
    }
}
