//! Why a verb on a container fails, in docker's words where clients read them.

use crate::networks::AttachError;
use crate::shims::ShimError;
use model::lifecycle::Refusal;
use model::process::ProcessError;
use model::spec::SpecError;
use model::{ContainerId, ErrorKind};
use std::io;
use std::path::PathBuf;

/// Why a name or ID stands for no container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Nothing has the name.
    #[error("No such container: {0}")]
    NotFound(String),
    /// Several IDs begin so.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
}

impl LookupError {
    /// Returns the sort of failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Ambiguous(_) => ErrorKind::InvalidParameter,
        }
    }
}

/// The name belongs to another container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You \
     have to remove (or rename) that container to be able to reuse that name."
)]
pub struct NameTaken {
    /// The name.
    pub name: String,
    /// Who has it.
    pub holder: ContainerId,
}

/// Why a container is not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The image is not here.
    #[error(transparent)]
    Image(#[from] crate::images::ImageError),
    /// The name is taken.
    #[error(transparent)]
    Name(#[from] NameTaken),
    /// Another container that the settings name is not there.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The process cannot be.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The settings make no runtime spec.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The settings contradict each other.
    #[error("{0}")]
    Invalid(String),
    /// A setting has no effect yet.
    #[error("{0} is not supported yet")]
    Unsupported(String),
    /// The image is for another processor or system.
    #[error(
        "image with reference {image} was found but does not provide the specified platform ({wanted})"
    )]
    Platform {
        /// The image as asked for.
        image: String,
        /// The platform asked for.
        wanted: String,
    },
    /// A bind's source is not there.
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {}", .0.display())]
    BindSource(PathBuf),
    /// A volume cannot be made.
    #[error(transparent)]
    Volume(#[from] crate::volumes::VolumeError),
    /// The writable root cannot be made.
    #[error("make the container's root file system")]
    Snapshot(#[from] store::SnapshotError),
    /// Its record cannot be written.
    #[error("write the container's record")]
    Record(#[from] store::RecordError),
    /// Its directory cannot be made.
    #[error("make {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CreateError {
    /// Returns the sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Image(error) => error.kind(),
            Self::Name(_) => ErrorKind::Conflict,
            Self::Lookup(error) => error.kind(),
            Self::Volume(error) => error.kind(),
            Self::Process(_) | Self::Spec(_) | Self::Invalid(_) | Self::BindSource(_) => {
                ErrorKind::InvalidParameter
            }
            Self::Platform { .. } => ErrorKind::NotFound,
            Self::Unsupported(_) => ErrorKind::NotImplemented,
            Self::Snapshot(_) | Self::Record(_) | Self::Directory { .. } => ErrorKind::Internal,
        }
    }
}

/// Why a container does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not in its present phase.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A network refused.
    #[error("failed to set up container networking")]
    Network(#[from] AttachError),
    /// Another container that it shares namespaces with is not there or does not run.
    #[error("{0}")]
    Shared(String),
    /// A bind's source is not there.
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {}", .0.display())]
    BindSource(PathBuf),
    /// A volume cannot be filled.
    #[error(transparent)]
    Volume(#[from] crate::volumes::VolumeError),
    /// A device is not there.
    #[error("error gathering device information while adding custom device \"{}\"", path.display())]
    Device {
        /// The device.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The settings make no runtime spec.
    #[error("make the runtime spec")]
    Spec(#[from] SpecError),
    /// The seccomp profile is wrong.
    #[error("seccomp profile: {0}")]
    Seccomp(String),
    /// The writable root is not there.
    #[error("prepare the container's root file system")]
    Snapshot(#[from] store::SnapshotError),
    /// One of its files cannot be written.
    #[error("write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its record cannot be written.
    #[error("write the container's record")]
    Record(#[from] store::RecordError),
    /// The runtime failed.
    #[error("{}", .0.below(
        "failed to create task for container: failed to create shim task: OCI runtime create failed"
    ))]
    Launch(ShimError),
}

impl StartError {
    /// Returns the sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refused) => refused.kind(),
            Self::Network(error) => error.kind(),
            Self::Volume(error) => error.kind(),
            Self::Launch(error) => error.kind(),
            Self::Shared(_) => ErrorKind::Conflict,
            Self::BindSource(_) | Self::Spec(_) | Self::Seccomp(_) => ErrorKind::InvalidParameter,
            Self::Device { .. } | Self::Snapshot(_) | Self::File { .. } | Self::Record(_) => {
                ErrorKind::Internal
            }
        }
    }

    /// Returns the exit code that inspect shows after this failure.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Launch(ShimError::Launch(error)) if error.exit_code != 125 => {
                i32::from(error.exit_code)
            }
            _ => 128,
        }
    }
}

/// The container is not in the right phase for a verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The container.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// What was wanted.
    pub verb: Verb,
    /// Why not.
    pub why: Refusal,
}

/// Verbs that can be refused; each has its own words in docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// start
    Start,
    /// kill
    Kill,
    /// stop
    Stop,
    /// pause
    Pause,
    /// unpause
    Unpause,
    /// rm
    Remove,
    /// resize
    Resize,
    /// exec
    Exec,
    /// attach
    Attach,
    /// top
    Top,
    /// update
    Update,
}

impl Refused {
    /// Returns the sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.why {
            Refusal::Impossible => ErrorKind::Internal,
            Refusal::NotRunning
            | Refusal::Running
            | Refusal::Paused
            | Refusal::NotPaused
            | Refusal::Restarting
            | Refusal::Removing => ErrorKind::Conflict,
        }
    }
}

impl std::error::Error for Refused {}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            id,
            name,
            verb,
            why,
        } = self;
        match (verb, why) {
            (Verb::Start, Refusal::Paused) => {
                f.write_str("cannot start a paused container, try unpause instead")
            }
            (Verb::Start, Refusal::Removing) => {
                f.write_str("container is marked for removal and cannot be started")
            }
            (Verb::Kill, _) => write!(f, "cannot kill container: {name}: container {id} {why}"),
            (Verb::Pause, Refusal::Paused) => write!(f, "Container {id} is already paused"),
            (Verb::Remove, Refusal::Running) => write!(
                f,
                "cannot remove container \"/{name}\": container is running: stop the container \
                 before removing or force remove"
            ),
            (Verb::Remove, Refusal::Paused) => write!(
                f,
                "cannot remove container \"/{name}\": container is paused and must be unpaused \
                 first"
            ),
            (Verb::Remove, Refusal::Removing) => {
                write!(f, "removal of container {id} is already in progress")
            }
            (Verb::Exec | Verb::Attach, Refusal::Paused) => {
                write!(
                    f,
                    "container {name} is paused, unpause the container before exec"
                )
            }
            (Verb::Exec | Verb::Attach | Verb::Pause | Verb::Top, Refusal::Restarting) => {
                write!(f, "Container {id} {why}")
            }
            _ => write!(f, "container {id} {why}"),
        }
    }
}

/// Why any other verb fails.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    /// No such container.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// Not in its present phase.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The new name is taken.
    #[error(transparent)]
    Name(#[from] NameTaken),
    /// It does not start (again).
    #[error(transparent)]
    Start(#[from] StartError),
    /// The argument is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The shim failed.
    #[error("{verb}")]
    Shim {
        /// What was asked of it.
        verb: &'static str,
        /// Why.
        source: ShimError,
    },
    /// The control group failed.
    #[error("{verb} the control group of {id}")]
    Cgroup {
        /// What was asked of it.
        verb: &'static str,
        /// The container.
        id: ContainerId,
        /// Why.
        source: io::Error,
    },
    /// Its record cannot be written.
    #[error("write the container's record")]
    Record(#[from] store::RecordError),
    /// A file of it cannot be read.
    #[error("read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program of the host's failed.
    #[error("list the container's processes")]
    Processes(#[source] io::Error),
    /// Its log is kept nowhere.
    #[error("configured logging driver does not support reading")]
    NoLog,
}

impl VerbError {
    /// Returns the sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lookup(error) => error.kind(),
            Self::Refused(error) => error.kind(),
            Self::Name(_) => ErrorKind::Conflict,
            Self::Start(error) => error.kind(),
            Self::Invalid(_) => ErrorKind::InvalidParameter,
            Self::Shim { source, .. } => source.kind(),
            Self::NoLog => ErrorKind::NotImplemented,
            Self::Cgroup { .. } | Self::Record(_) | Self::File { .. } | Self::Processes(_) => {
                ErrorKind::Internal
            }
        }
    }
}
