//! create: everything about a container that can be decided before it runs.
//!
//! Nothing half-made stays: what was acquired is given back, backwards, if a later step fails.

use super::driver::{Driver, QUEUE};
use super::error::CreateError;
use super::record::{DEFINITIONS, Definition, ImageFacts, STATES, State, VERSION, View};
use super::table::Handle;
use super::{Containers, files, mounts, names};
use crate::images::Image;
use crate::{clock, random};
use model::settings::{ContainerSettings, NamespaceMode, NetworkMode, RestartPolicy};
use model::{ContainerId, ContainerName, Platform, Signal};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// How often another random name is tried.
const NAME_ATTEMPTS: u32 = 8;

/// A created container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its ID.
    pub id: ContainerId,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Containers {
    /// Creates a container.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing is left half-made.
    pub fn create(
        &self,
        name: Option<ContainerName>,
        platform: Option<&Platform>,
        settings: ContainerSettings,
    ) -> Result<Created, CreateError> {
        let image = self.context.images.resolve(&settings.image)?;
        check_platform(&image, platform, &settings)?;
        check(&settings)?;
        model::spec::check(&settings, self.context.host.known())?;
        let id = ContainerId::from_random(random::bytes());
        let name = self.take_name(name, &id)?;
        let created = self.create_named(&id, &name, &image, settings);
        if created.is_err() {
            self.table.release(&name, &id);
        }
        created
    }

    fn take_name(
        &self,
        name: Option<ContainerName>,
        id: &ContainerId,
    ) -> Result<ContainerName, CreateError> {
        if let Some(name) = name {
            self.table.reserve(&name, id)?;
            return Ok(name);
        }
        let mut attempt = 0;
        loop {
            let name = names::random_name(random::bytes(), attempt);
            match self.table.reserve(&name, id) {
                Ok(()) => return Ok(name),
                Err(taken) if attempt == NAME_ATTEMPTS => return Err(taken.into()),
                Err(_) => attempt += 1,
            }
        }
    }

    fn create_named(
        &self,
        id: &ContainerId,
        name: &ContainerName,
        image: &Image,
        settings: ContainerSettings,
    ) -> Result<Created, CreateError> {
        let definition = Arc::new(self.define(id, image, settings)?);
        let state = State::new(name.clone(), &definition.settings);
        let context = &self.context;
        let directory = files::directory(context, id);
        let undo = |error: CreateError| {
            // Each of these accepts that there is nothing to remove.
            let removed = [
                context
                    .store
                    .snapshots()
                    .remove(id.as_str())
                    .map_err(|error| error.to_string()),
                files::remove(context, id).map_err(|error| error.to_string()),
                context
                    .store
                    .records()
                    .remove(DEFINITIONS, id.as_str())
                    .map_err(|error| error.to_string()),
            ];
            for error in removed.into_iter().filter_map(Result::err) {
                tracing::warn!(container = %id, error, "undo create");
            }
            error
        };
        std::fs::create_dir_all(&directory)
            .map_err(|source| CreateError::Directory {
                path: directory,
                source,
            })
            .map_err(undo)?;
        context
            .store
            .snapshots()
            .prepare(id.as_str(), &image.layers)
            .map_err(|error| undo(error.into()))?;
        let records = context.store.records();
        records
            .put(DEFINITIONS, id.as_str(), &*definition)
            .map_err(|error| undo(error.into()))?;
        records
            .put(STATES, id.as_str(), &state)
            .map_err(|error| undo(error.into()))?;
        let warnings = warnings(&definition.settings);
        let mut attributes: BTreeMap<String, String> = super::list::labels(&definition);
        attributes.insert("image".to_owned(), definition.settings.image.clone());
        attributes.insert("name".to_owned(), name.to_string());
        self.spawn(definition, state);
        self.context
            .events
            .publish("container", "create", id.as_str(), attributes);
        Ok(Created {
            id: id.clone(),
            warnings,
        })
    }

    fn define(
        &self,
        id: &ContainerId,
        image: &Image,
        settings: ContainerSettings,
    ) -> Result<Definition, CreateError> {
        let hostname = self.hostname(id, &settings)?;
        let config = &image.config.config;
        let process = model::process::resolve(config, &settings.process, &hostname)?;
        let log = files::log_target(&settings.log, std::path::PathBuf::new());
        log.map_err(|error| CreateError::Invalid(error.to_string()))?;
        let image_volumes: Vec<String> = config.volumes.keys().cloned().collect();
        let mounts = mounts::plan(&self.context, &self.table, &settings, &image_volumes)?;
        let stop_signal = match (&settings.stop_signal, &config.stop_signal) {
            (Some(signal), _) => *signal,
            (None, Some(signal)) => signal.parse().unwrap_or(Signal::TERM),
            (None, None) => Signal::TERM,
        };
        Ok(Definition {
            version: VERSION,
            id: id.clone(),
            created_unix_ns: clock::unix_ns(),
            image: ImageFacts {
                id: image.id,
                platform: platform_of(image),
                layers: image.layers.clone(),
                config: config.clone(),
            },
            process,
            hostname,
            mounts,
            stop_signal,
            settings,
        })
    }

    fn hostname(
        &self,
        id: &ContainerId,
        settings: &ContainerSettings,
    ) -> Result<String, CreateError> {
        if let Some(hostname) = settings.hostname.as_ref().filter(|name| !name.is_empty()) {
            return Ok(hostname.clone());
        }
        match &settings.network.mode {
            NetworkMode::Container(other) => {
                Ok(self.table.get(other)?.view().definition.hostname.clone())
            }
            NetworkMode::Host => Ok(crate::host::hostname()),
            NetworkMode::Bridge | NetworkMode::None | NetworkMode::Named(_) => {
                Ok(id.short().to_owned())
            }
        }
    }

    /// Makes a container's handle and sets its driver going.
    pub(super) fn spawn(&self, definition: Arc<Definition>, state: State) -> Handle {
        let (commands, receiver) = mpsc::channel(QUEUE);
        let (view, published) = watch::channel(Arc::new(View {
            definition: definition.clone(),
            state: state.clone(),
            removed: false,
        }));
        let handle = Handle {
            id: definition.id.clone(),
            commands,
            view: published,
        };
        self.table.insert(handle.clone());
        let driver = Driver {
            context: self.context.clone(),
            table: self.table.clone(),
            definition,
            state,
            view,
            commands: receiver,
            shim: None,
            exit: None,
            restart_at: None,
            pending: Vec::new(),
            removed: false,
        };
        self.tasks.spawn(driver.run());
        handle
    }
}

fn platform_of(image: &Image) -> Platform {
    Platform {
        os: image.config.os.clone(),
        architecture: image.config.architecture.clone(),
        variant: image.config.variant.clone(),
    }
}

fn check_platform(
    image: &Image,
    wanted: Option<&Platform>,
    settings: &ContainerSettings,
) -> Result<(), CreateError> {
    let Some(wanted) = wanted else {
        return Ok(());
    };
    let config = &image.config;
    let same = (config.architecture == wanted.architecture) && (config.os == wanted.os);
    if same {
        Ok(())
    } else {
        Err(CreateError::Platform {
            image: settings.image.clone(),
            wanted: wanted.to_string(),
        })
    }
}

/// What contradicts itself, or has no effect yet.
fn check(settings: &ContainerSettings) -> Result<(), CreateError> {
    let invalid = |message: &str| Err(CreateError::Invalid(message.to_owned()));
    if settings.auto_remove && settings.restart != RestartPolicy::No {
        return invalid("can't create 'AutoRemove' container with restart policy");
    }
    let named = settings
        .hostname
        .as_ref()
        .is_some_and(|name| !name.is_empty());
    if named && settings.namespaces.uts == NamespaceMode::Host {
        return invalid("conflicting options: hostname and the UTS mode");
    }
    if matches!(settings.network.mode, NetworkMode::Container(_)) {
        // All of this is the other container's.
        let network = &settings.network;
        let conflicts = [
            (named, "hostname and the network mode"),
            (
                !network.links.is_empty(),
                "container type network can't be used with links",
            ),
            (!network.dns.is_empty(), "dns and the network mode"),
            (
                !network.extra_hosts.is_empty(),
                "custom host-to-IP mapping and the network mode",
            ),
            (
                network.mac_address.is_some(),
                "mac-address and the network mode",
            ),
            (
                !network.ports.is_empty() || network.publish_all,
                "port publishing and the container type network mode",
            ),
            (
                !settings.exposed_ports.is_empty(),
                "port exposing and the container type network mode",
            ),
        ];
        if let Some((_, what)) = conflicts.iter().find(|(given, _)| *given) {
            return Err(CreateError::Invalid(format!("conflicting options: {what}")));
        }
    }
    let driver = settings.log.driver.as_str();
    if !matches!(driver, "" | "json-file" | "none") {
        return Err(CreateError::Unsupported(format!("log driver {driver}")));
    }
    if settings.namespaces.user != NamespaceMode::Private
        && settings.namespaces.user != NamespaceMode::Host
    {
        return Err(CreateError::Unsupported("UsernsMode".to_owned()));
    }
    if !settings.storage_opt.is_empty() {
        return Err(CreateError::Unsupported("StorageOpt".to_owned()));
    }
    Ok(())
}

fn warnings(settings: &ContainerSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.network.mode == NetworkMode::Host && !settings.network.ports.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    warnings
}
