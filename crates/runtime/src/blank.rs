//! An empty container, its filling, and its start.
//!
//! ```text
//! Blank::create ──> Blank ──fill──> Created ──start──> Running
//!                     └────────────run (one trip)─────────┘
//! ```
//!
//! A [`Blank`] is a process that already has its own pid, uts, ipc and cgroup namespaces and waits
//! on a channel. What is dear and the same for every container has happened by then, so a shim
//! keeps one ready. Filling mounts the root and everything in it; starting executes the program.
//! Dropping a `Blank` or a `Created` ends its process.
//!
//! The calling process must have one thread: it is forked.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::PathBuf,
};

use model::trace::Step;
use oci_spec::runtime::{LinuxIdMapping, LinuxResources, Spec};

use crate::{
    cgroup::Cgroup,
    launch::{Launch, LaunchError, Stage},
};

/// One namespace of a container: whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// The runtime's own.
    #[default]
    Inherit,
    /// A new one.
    New,
    /// An existing one, by path.
    Join(PathBuf),
}

/// The ids of a new user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMappings {
    /// User ids.
    pub uids: Vec<LinuxIdMapping>,
    /// Group ids.
    pub gids: Vec<LinuxIdMapping>,
}

/// What an empty container is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlankOptions {
    /// Process ids.
    pub pid: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Cgroup paths.
    pub cgroup_namespace: Namespace,
    /// Network; a descriptor given at fill goes before this.
    pub net: Namespace,
    /// Mounts: new unless joined.
    pub mount: Namespace,
    /// Users.
    pub user: Namespace,
    /// The ids of a new user namespace.
    pub mappings: IdMappings,
    /// The cgroup to be in from the beginning, such as `/berth/<id>`. With v1 it can be renamed
    /// at fill, so a pool may use any name beneath the right parent.
    pub cgroup: Option<PathBuf>,
    /// Limits known beforehand; written at creation, and not again at fill where they are equal.
    pub resources: Option<LinuxResources>,
}

impl BlankOptions {
    /// What nearly every container has: new pid, uts, ipc and cgroup namespaces.
    pub fn ordinary(cgroup: Option<PathBuf>) -> Self {
        Self {
            pid: Namespace::New,
            uts: Namespace::New,
            ipc: Namespace::New,
            cgroup_namespace: Namespace::New,
            mount: Namespace::New,
            cgroup,
            ..Self::default()
        }
    }

    /// What exactly this document asks for.
    pub fn for_spec(_spec: &Spec) -> Self {
        Self::ordinary(None)
    }

    /// Whether a container made with these options can become the one of this document.
    pub fn fits(&self, spec: &Spec) -> bool {
        let wanted = Self::for_spec(spec);
        self.pid == wanted.pid
    }
}

/// Where the process reads and writes.
#[derive(Debug, Clone, Copy)]
pub enum Stdio<'a> {
    /// These three descriptors.
    Fds([BorrowedFd<'a>; 3]),
    /// A new terminal from the container's own `/dev/pts`; its master comes back.
    Terminal,
}

/// What filling needs beside the [`Launch`].
#[derive(Debug, Clone, Copy)]
pub struct Fill<'a> {
    /// The network namespace to be in.
    pub netns: Option<BorrowedFd<'a>>,
    /// Standard streams.
    pub stdio: Stdio<'a>,
}

/// An empty container.
#[derive(Debug)]
pub struct Blank {
    pid: i32,
    pidfd: OwnedFd,
}

impl Blank {
    /// Creates the process and its namespaces, and leaves it waiting.
    pub fn create(_options: &BlankOptions) -> Result<Self, LaunchError> {
        Err(LaunchError::new(Stage::Namespaces, "not there yet"))
    }

    /// Its process, as the caller sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor of its process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.pidfd)
    }

    /// Makes it the container that `launch` describes, up to the point of executing the program.
    pub fn fill(self, _launch: &Launch, _fill: &Fill<'_>) -> Result<Created, LaunchError> {
        Err(LaunchError::new(Stage::Namespaces, "not there yet"))
    }

    /// Fills and starts in one trip.
    pub fn run(self, _launch: &Launch, _fill: &Fill<'_>) -> Result<Running, LaunchError> {
        Err(LaunchError::new(Stage::Namespaces, "not there yet"))
    }
}

/// A container that waits for its start.
#[derive(Debug)]
pub struct Created {
    running: Running,
}

impl Created {
    /// What is known of it already: process, terminal, cgroup.
    pub fn parts(&self) -> &Running {
        &self.running
    }

    /// Executes the program.
    pub fn start(self) -> Result<Running, LaunchError> {
        Ok(self.running)
    }
}

/// A started process: a container's init process or an exec process.
#[derive(Debug)]
pub struct Running {
    /// Its process, as the caller sees it; a child of the caller.
    pub pid: i32,
    /// A descriptor of its process.
    pub pidfd: OwnedFd,
    /// Holds the mount namespace, so that its slow end comes after the exit was reported.
    pub mount_namespace: Option<OwnedFd>,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
    /// Its cgroup, where it has one of its own.
    pub cgroup: Option<Cgroup>,
    /// The steps of its start, when asked for.
    pub steps: Vec<Step>,
}
