//! start: from a definition to a running init process.
//!
//! ```text
//! network namespace ─┐
//! snapshot's parts  ─┼─▶ files, spec ─▶ reserved attach sockets ─▶ shim ─▶ execve
//! ```
//!
//! Nothing is synced on this path. What was acquired is let go of if a later step fails.

use super::attach::{Pending, arrivals};
use super::error::StartError;
use super::record::{Definition, MountPointSource, State};
use super::table::Table;
use super::{files, mounts};
use crate::networks::AttachRequest;
use crate::shims::{IoSettings, LaunchRequest, Shim};
use crate::{Context, host, seccomp};
use model::lifecycle::Phase;
use model::settings::{NamespaceMode, NetworkMode};
use model::spec::{JoinedNamespaces, SpecInput};
use runtime::{Launch, Root, UserRequest};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use tracing::Instrument;

/// Who talks to the new process.
pub(super) struct Io {
    /// Terminal size, from the client that starts it.
    pub console_size: Option<(u16, u16)>,
    /// Clients that attached before.
    pub pending: Vec<Pending>,
}

/// Launches; on failure everything acquired here is released again.
pub(super) async fn launch(
    context: &Context,
    table: &Table,
    definition: &Definition,
    state: &mut State,
    io: Io,
) -> Result<Shim, StartError> {
    let launched = try_launch(context, table, definition, state, io).await;
    if launched.is_err() {
        context.networks.detach(&definition.id);
        tell_networks(context, definition, state, "disconnect");
        tell_volumes(context, definition, "unmount");
        state.endpoints.clear();
        if let Err(error) = context.shims.forget(&definition.id) {
            tracing::warn!(container = %definition.id, %error, "undo start");
        }
    }
    launched
}

/// A step of the start, for traces.
fn step(name: &'static str) -> tracing::Span {
    tracing::info_span!(target: "berth::step", "step", actor = "daemon", step = name)
}

async fn try_launch(
    context: &Context,
    table: &Table,
    definition: &Definition,
    state: &mut State,
    io: Io,
) -> Result<Shim, StartError> {
    let settings = &definition.settings;
    let id = &definition.id;
    let (netns, other_network) =
        step("attach networks").in_scope(|| network(context, table, definition, state))?;
    let root = step("look up the root's layers")
        .in_scope(|| context.store.snapshots().mount(id.as_str()))?;
    step("ready mounts and volumes")
        .in_scope(|| mounts::ready(context, definition, &root.lower))?;
    let mut lower = root.lower;
    lower.push(context.mount_points.clone());
    tell_volumes(context, definition, "mount");
    let mut all_mounts = match &other_network {
        Some(other) => files::etc_mounts(&files::directory(context, other), definition),
        None => step("write hosts, hostname, resolv.conf")
            .in_scope(|| files::etc(context, definition, state))?,
    };
    all_mounts.extend(definition.mounts.iter().map(super::MountPoint::resolved));
    let devices = host::devices(&settings.devices.devices)?;
    let block_devices = host::block_devices(&settings.resources);
    let join = join(table, definition)?;
    let privileged = settings.security.privileged;
    let host_facts = context.host.facts(privileged);
    let console_size = io.console_size.or(settings.process.console_size);
    let building = step("build the runtime spec").entered();
    let spec = model::spec::build(&SpecInput {
        id,
        settings,
        process: &definition.process,
        hostname: &definition.hostname,
        mounts: &all_mounts,
        devices: &devices,
        block_devices: &block_devices,
        join: &join,
        cgroup_path: crate::cgroups::path(context, id),
        init_binary: host::program(&context.options.exe),
        host: &host_facts,
    })?;
    let seccomp = seccomp::filter(context, &settings.security, &spec)?;
    drop(building);
    let log = files::log_target(&settings.log, files::log_path(context, id))
        .map_err(|error| StartError::Shared(error.to_string()))?;
    let process = &definition.process;
    let request = LaunchRequest {
        launch: Launch {
            spec,
            root: Root::Overlay {
                lower,
                upper: root.upper,
                work: root.work,
                volatile: settings.auto_remove,
            },
            user: Some(UserRequest {
                user: process.user.clone(),
                groups: process.groups.clone(),
            }),
            create_cwd: true,
            trace: context.options.traces.active(),
            seccomp,
        },
        io: IoSettings {
            tty: process.tty,
            open_stdin: settings.process.open_stdin,
            stdin_once: settings.process.stdin_once,
            console_size,
        },
        log,
        netns,
        attach: arrivals(io.pending)
            .instrument(step("take over attached connections"))
            .await,
    };
    let launching = step("start by the shim");
    let shim = context
        .shims
        .launch(id, request)
        .instrument(launching)
        .await;
    let shim = shim.map_err(StartError::Launch)?;
    if !shim.steps().is_empty()
        && let Ok(steps) = serde_json::to_string(shim.steps())
    {
        tracing::info!(target: "berth::step", steps);
    }
    Ok(shim)
}

/// Gives the network namespace, and whose `/etc` files are shared with it.
fn network(
    context: &Context,
    table: &Table,
    definition: &Definition,
    state: &mut State,
) -> Result<(Option<OwnedFd>, Option<model::ContainerId>), StartError> {
    match &definition.settings.network.mode {
        NetworkMode::Host => Ok((None, None)),
        NetworkMode::Container(other) => {
            let (other, pid) = running(table, other, "network")?;
            let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
            let file = File::open(&path).map_err(|source| StartError::File { path, source })?;
            Ok((Some(file.into()), Some(other)))
        }
        NetworkMode::Bridge | NetworkMode::None | NetworkMode::Named(_) => {
            let exposed: Vec<String> = definition
                .settings
                .exposed_ports
                .iter()
                .chain(definition.image.config.exposed_ports.keys())
                .cloned()
                .collect();
            let attachment = context.networks.attach(&AttachRequest {
                container: &definition.id,
                name: state.name.as_str(),
                settings: &definition.settings.network,
                exposed_ports: &exposed,
            })?;
            state.endpoints = attachment.endpoints;
            tell_networks(context, definition, state, "connect");
            Ok((Some(attachment.netns), None))
        }
    }
}

/// Publishes that a container came onto its networks, or left them.
pub(super) fn tell_networks(
    context: &Context,
    definition: &Definition,
    state: &State,
    action: &str,
) {
    for endpoint in &state.endpoints {
        let network = context.networks.inspect(&endpoint.network_id);
        let driver = network.map_or("bridge", |network| network.driver.as_str());
        let attributes = BTreeMap::from([
            ("container".to_owned(), definition.id.to_string()),
            ("name".to_owned(), endpoint.network.clone()),
            ("type".to_owned(), driver.to_owned()),
        ]);
        let id = endpoint.network_id.as_str();
        context.events.publish("network", action, id, attributes);
    }
}

/// Publishes that a container mounts its volumes, or lets go of them.
pub(super) fn tell_volumes(context: &Context, definition: &Definition, action: &str) {
    for mount in &definition.mounts {
        let MountPointSource::Volume { name, .. } = &mount.source else {
            continue;
        };
        let mut attributes = BTreeMap::from([
            ("container".to_owned(), definition.id.to_string()),
            ("driver".to_owned(), "local".to_owned()),
        ]);
        if action == "mount" {
            attributes.insert("destination".to_owned(), mount.target.clone());
            attributes.insert("propagation".to_owned(), String::new());
            let writable = !mount.read_only;
            attributes.insert("read/write".to_owned(), writable.to_string());
        }
        let name = name.as_str();
        context.events.publish("volume", action, name, attributes);
    }
}

fn join(table: &Table, definition: &Definition) -> Result<JoinedNamespaces, StartError> {
    let namespaces = &definition.settings.namespaces;
    let path = |mode: &NamespaceMode, kind: &str| -> Result<_, StartError> {
        match mode {
            NamespaceMode::Container(other) => {
                let (_, pid) = running(table, other, kind)?;
                Ok(Some(PathBuf::from(format!("/proc/{pid}/ns/{kind}"))))
            }
            NamespaceMode::Private
            | NamespaceMode::Shareable
            | NamespaceMode::Host
            | NamespaceMode::None => Ok(None),
        }
    };
    Ok(JoinedNamespaces {
        pid: path(&namespaces.pid, "pid")?,
        ipc: path(&namespaces.ipc, "ipc")?,
        network: None,
    })
}

fn running(
    table: &Table,
    other: &str,
    what: &str,
) -> Result<(model::ContainerId, i32), StartError> {
    let handle = table
        .get(other)
        .map_err(|error| StartError::Shared(error.to_string()))?;
    let view = handle.view();
    match view.state.phase {
        Phase::Running { .. } => Ok((handle.id, view.state.pid)),
        Phase::Created | Phase::Starting | Phase::Restarting | Phase::Exited | Phase::Removing => {
            Err(StartError::Shared(format!(
                "cannot join {what} namespace of a non running container: container {} is {}",
                handle.id,
                view.status()
            )))
        }
    }
}
