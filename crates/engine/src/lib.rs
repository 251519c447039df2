//! The use cases: a folder per noun, a file per verb, small handles, no god object.
//!
//! The engine stands between the protocols and the crates that touch disk and kernel (`store`,
//! `registry`, `runtime`, `network`). It knows no HTTP and no API version.
//!
//! ```no_run
//! # async fn open() -> Result<(), engine::OpenError> {
//! let options = engine::EngineOptions::new("/var/lib/berth".into(), "/run/berth".into());
//! let engine = engine::Engine::open(options).await?;
//! # Ok(()) }
//! ```

mod cgroups;
mod clock;
pub mod containers;
mod events;
pub mod execs;
mod host;
pub mod images;
pub mod networks;
mod options;
mod random;
mod seccomp;
pub mod shims;
mod system;
mod traces;
pub mod volumes;

pub use events::{Event, Events};
pub use options::EngineOptions;
pub use system::{Machine, System};
pub use traces::{Traced, Traces};

use containers::Containers;
use execs::Execs;
use images::Images;
use model::ErrorKind;
use networks::Networks;
use registry::RegistryOptions;
use shims::{ShimOptions, Shims};
use std::sync::Arc;
use store::Store;
use tokio_util::task::TaskTracker;
use volumes::Volumes;

/// What the nouns share.
#[derive(Debug)]
pub(crate) struct Context {
    options: EngineOptions,
    store: Store,
    images: Images,
    networks: Networks,
    volumes: Volumes,
    shims: Shims,
    events: Events,
    host: host::Host,
    seccomp: seccomp::Seccomp,
    tasks: TaskTracker,
    /// The lowest layer of every container.
    mount_points: std::path::PathBuf,
}

/// The engine: one handle per noun.
#[derive(Debug)]
pub struct Engine {
    context: Arc<Context>,
    containers: Containers,
    execs: Execs,
    system: System,
}

/// Why the engine does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data root cannot be used.
    #[error("open the store")]
    Store(#[from] store::OpenError),
    /// The networks cannot be made.
    #[error("open the networks")]
    Networks(#[from] networks::OpenError),
    /// The images cannot be read.
    #[error("open the images")]
    Images(#[from] images::ImagesOpenError),
    /// The lowest layer of every container cannot be made.
    #[error("make the containers' mount points in the data root")]
    MountPoints(#[source] std::io::Error),
    /// A registry setting is wrong.
    #[error(transparent)]
    Registry(#[from] registry::InvalidOption),
    /// A setting is wrong.
    #[error("{0}")]
    Option(String),
    /// The records cannot be read.
    #[error("read the containers' records")]
    Recover(#[from] store::RecordError),
}

impl OpenError {
    /// Returns the sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Option(_) | Self::Registry(_) => ErrorKind::InvalidParameter,
            Self::Images(_)
            | Self::Store(_)
            | Self::Networks(_)
            | Self::MountPoints(_)
            | Self::Recover(_) => ErrorKind::Internal,
        }
    }
}

impl Engine {
    /// Opens the data root and takes over what runs already.
    ///
    /// # Errors
    /// When a root cannot be used.
    pub async fn open(options: EngineOptions) -> Result<Self, OpenError> {
        let store = Store::open(&options.data_root)?;
        let networks = Networks::open(options.network_options()?, &store)?;
        let registries =
            RegistryOptions::parse(&options.registry_mirrors, &options.insecure_registries)?;
        let events = Events::default();
        let context = Arc::new(Context {
            images: Images::open(&store, registries, events.clone())?,
            volumes: Volumes::new(&options.data_root, store.records()),
            shims: Shims::new(ShimOptions {
                exe: options.exe.clone(),
                exec_root: options.exec_root.clone(),
                pool_size: options.pool_size,
                cgroup_parent: options.cgroup_parent.clone(),
            }),
            networks,
            events,
            host: host::Host::read(),
            seccomp: seccomp::Seccomp::new(),
            tasks: TaskTracker::new(),
            mount_points: containers::mount_points::ensure(&options.data_root)
                .map_err(OpenError::MountPoints)?,
            store,
            options,
        });
        let containers = Containers::new(context.clone());
        containers.recover().await?;
        context.networks.recovered();
        Ok(Self {
            execs: Execs::new(context.clone(), containers.clone()),
            system: System::new(context.clone()),
            containers,
            context,
        })
    }

    /// Containers.
    #[must_use]
    pub fn containers(&self) -> &Containers {
        &self.containers
    }

    /// Execs.
    #[must_use]
    pub fn execs(&self) -> &Execs {
        &self.execs
    }

    /// Images.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.context.images
    }

    /// Networks.
    #[must_use]
    pub fn networks(&self) -> &Networks {
        &self.context.networks
    }

    /// Volumes.
    #[must_use]
    pub fn volumes(&self) -> &Volumes {
        &self.context.volumes
    }

    /// Events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.context.events
    }

    /// Steps of traced requests.
    #[must_use]
    pub fn traces(&self) -> &Traces {
        &self.context.options.traces
    }

    /// The machine.
    #[must_use]
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Ends the engine's own tasks; containers keep running.
    pub async fn close(&self) {
        self.containers.close();
        self.context.tasks.close();
    }

    /// Returns what the engine was opened with.
    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.context.options
    }
}
