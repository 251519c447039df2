//! What is kept of a container: its definition, which never changes, and its state, which is
//! replaced whole.
//!
//! ```text
//! records/containers/<id>.json        Definition
//! records/container-states/<id>.json  State
//! ```
//!
//! They lie apart because the state is written several times in each run, and is small.

use crate::networks::EndpointInfo;
use model::image::ExecutionConfig;
use model::lifecycle::Phase;
use model::process::ResolvedProcess;
use model::settings::{ContainerSettings, Resources, RestartPolicy};
use model::spec::ResolvedMount;
use model::{ContainerId, ContainerName, DiffId, ImageId, Platform, Signal};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(super) const DEFINITIONS: &str = "containers";
pub(super) const STATES: &str = "container-states";

/// Version of both documents; another one is refused when read.
pub(super) const VERSION: u32 = 1;

/// What never changes about a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Version of this document.
    pub version: u32,
    /// Its ID.
    pub id: ContainerId,
    /// When it was made, nanoseconds since 1970.
    pub created_unix_ns: i64,
    /// What the user asked for.
    pub settings: ContainerSettings,
    /// The image it stands on.
    pub image: ImageFacts,
    /// The process that image and settings mean.
    pub process: ResolvedProcess,
    /// Host name.
    pub hostname: String,
    /// What is mounted, beside docker's defaults.
    pub mounts: Vec<MountPoint>,
    /// Signal that asks it to end.
    pub stop_signal: Signal,
}

impl Definition {
    /// True if a volume is mounted in it.
    #[must_use]
    pub fn uses_volume(&self, volume: &str) -> bool {
        self.mounts.iter().any(|mount| match &mount.source {
            MountPointSource::Volume { name, .. } => name == volume,
            MountPointSource::Bind { .. } | MountPointSource::Tmpfs { .. } => false,
        })
    }
}

/// What a container keeps of its image, so that it outlives a retagged one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Digest of its config.
    pub id: ImageId,
    /// Its platform.
    pub platform: Platform,
    /// Its layers, bottom first.
    pub layers: Vec<DiffId>,
    /// Its execution defaults.
    pub config: ExecutionConfig,
}

/// One mount, its source decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// Absolute path inside.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// What is mounted.
    pub source: MountPointSource,
    /// True if it came as a `-v` string.
    pub from_bind: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MountPointSource {
    /// A path of the host.
    Bind {
        /// Where it lies.
        path: PathBuf,
        /// Propagation.
        propagation: String,
        /// With submounts.
        recursive: bool,
        /// Make it if it is missing.
        create: bool,
    },
    /// A volume.
    Volume {
        /// Its name.
        name: String,
        /// Where its data lies.
        path: PathBuf,
        /// Made for this container, and removed with it on request.
        anonymous: bool,
        /// Fill it from the image when it is new.
        copy_up: bool,
    },
    /// Memory.
    Tmpfs {
        /// Options in mount(8)'s words.
        options: Vec<String>,
    },
}

impl MountPoint {
    /// Says it in the runtime spec's terms.
    pub(super) fn resolved(&self) -> ResolvedMount {
        match &self.source {
            MountPointSource::Bind {
                path,
                propagation,
                recursive,
                create: _,
            } => ResolvedMount::Bind {
                source: path.clone(),
                target: self.target.clone(),
                read_only: self.read_only,
                propagation: propagation.clone(),
                recursive: *recursive,
            },
            MountPointSource::Volume { path, .. } => ResolvedMount::Bind {
                source: path.clone(),
                target: self.target.clone(),
                read_only: self.read_only,
                propagation: "rprivate".to_owned(),
                recursive: true,
            },
            MountPointSource::Tmpfs { options } => ResolvedMount::Tmpfs {
                target: self.target.clone(),
                options: options.clone(),
            },
        }
    }
}

/// What changes about a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct State {
    /// Version of this document.
    pub version: u32,
    /// Its name.
    pub name: ContainerName,
    /// Where it is in its life.
    pub phase: Phase,
    /// A user ended its last run.
    pub user_stopped: bool,
    /// How often the restart policy has started it.
    pub restart_count: u32,
    /// The delay before its last restart.
    pub restart_delay: Option<Duration>,
    /// Its init process on the host; 0 if none.
    pub pid: i32,
    /// How its last run ended.
    pub exit_code: i32,
    /// Why its last start failed; empty if it did not.
    pub error: String,
    /// The kernel killed something in it for want of memory.
    pub oom_killed: bool,
    /// When its last run began, nanoseconds since 1970.
    pub started_unix_ns: Option<i64>,
    /// When its last run ended.
    pub finished_unix_ns: Option<i64>,
    /// Runs that have ended; a waiter for the next exit watches it.
    pub exits: u64,
    /// Its places on networks.
    pub endpoints: Vec<EndpointInfo>,
    /// Restart policy, which `update` changes.
    pub restart: RestartPolicy,
    /// Limits, which `update` changes.
    pub resources: Resources,
    /// Volumes of its own go with it.
    pub remove_volumes: bool,
}

impl State {
    pub(super) fn new(name: ContainerName, settings: &ContainerSettings) -> Self {
        Self {
            version: VERSION,
            name,
            phase: Phase::Created,
            user_stopped: false,
            restart_count: 0,
            restart_delay: None,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_unix_ns: None,
            finished_unix_ns: None,
            exits: 0,
            endpoints: Vec::new(),
            restart: settings.restart,
            resources: settings.resources.clone(),
            remove_volumes: settings.auto_remove,
        }
    }
}

/// A published picture of a container.
#[derive(Debug, Clone)]
pub struct View {
    /// What never changes.
    pub definition: Arc<Definition>,
    /// What does.
    pub state: State,
    /// It is gone: this is its last picture.
    pub removed: bool,
}

impl View {
    /// Returns docker's word for where it is: `created`, `running`, `paused`, `restarting`,
    /// `removing` or `exited`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self.state.phase {
            Phase::Created => "created",
            // A start that failed leaves what never ran as it was.
            Phase::Starting | Phase::Exited if self.state.started_unix_ns.is_none() => "created",
            Phase::Starting | Phase::Exited => "exited",
            Phase::Running { paused: true, .. } => "paused",
            Phase::Running { paused: false, .. } => "running",
            Phase::Restarting => "restarting",
            Phase::Removing => "removing",
        }
    }

    /// True while its init process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state.phase.has_process()
    }
}
