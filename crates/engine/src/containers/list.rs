//! list: `ps` with docker's filters.

use super::record::{Definition, MountPointSource, View};
use super::{Containers, LookupError};
use model::settings::NetworkMode;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What `ps` asks for.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// Also those that do not run.
    pub all: bool,
    /// Only the newest so many, running or not.
    pub limit: Option<usize>,
    /// Which ones.
    pub filters: Filters,
}

/// Filters: all keys must match, of one key's values any (of labels: every).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

/// A filter that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// No such key.
    #[error("invalid filter '{0}'")]
    Key(String),
    /// No such value.
    #[error("invalid filter '{key}={value}'")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// `before` or `since` names no container.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

impl InvalidFilter {
    /// Returns the sort of failure.
    #[must_use]
    pub const fn kind(&self) -> model::ErrorKind {
        match self {
            Self::Key(_) | Self::Value { .. } => model::ErrorKind::InvalidParameter,
            Self::Lookup(error) => error.kind(),
        }
    }
}

const KEYS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATUSES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];

impl Filters {
    /// Takes filters whose keys and values are known ones.
    ///
    /// # Errors
    /// If one is not.
    pub fn new(filters: BTreeMap<String, Vec<String>>) -> Result<Self, InvalidFilter> {
        for (key, values) in &filters {
            if !KEYS.contains(&key.as_str()) {
                return Err(InvalidFilter::Key(key.clone()));
            }
            let valid = |value: &str| match key.as_str() {
                "status" => STATUSES.contains(&value),
                "exited" => value.parse::<i32>().is_ok(),
                "health" => ["starting", "healthy", "unhealthy", "none"].contains(&value),
                _ => true,
            };
            if let Some(value) = values.iter().find(|value| !valid(value)) {
                let (key, value) = (key.clone(), value.clone());
                return Err(InvalidFilter::Value { key, value });
            }
        }
        Ok(Self(filters))
    }

    /// Returns one key's values.
    #[must_use]
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    fn any(&self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| matches(value))
    }

    fn every(&self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        self.values(key).iter().all(|value| matches(value))
    }
}

impl Containers {
    /// Lists, newest first.
    ///
    /// # Errors
    /// If `before` or `since` names no container.
    pub fn list(&self, request: &ListRequest) -> Result<Vec<Arc<View>>, InvalidFilter> {
        let filters = &request.filters;
        let created = |key: &str| {
            let other = filters.values(key).first();
            let view = other.map(|other| self.inspect(other)).transpose()?;
            Ok::<_, LookupError>(view.map(|view| view.definition.created_unix_ns))
        };
        let (before, since) = (created("before")?, created("since")?);
        let ancestors = self.ancestors(filters.values("ancestor"));
        // A status or an exit code asks for containers that do not run, too.
        let all = request.all
            || request.limit.is_some()
            || !filters.values("status").is_empty()
            || !filters.values("exited").is_empty();
        let mut views: Vec<Arc<View>> = self
            .table
            .all()
            .iter()
            .map(super::table::Handle::view)
            .filter(|view| !view.removed && (all || view.is_running()))
            .filter(|view| before.is_none_or(|at| view.definition.created_unix_ns < at))
            .filter(|view| since.is_none_or(|at| view.definition.created_unix_ns > at))
            .filter(|view| {
                ancestors
                    .as_ref()
                    .is_none_or(|all| all.contains(&view.definition.image.id))
            })
            .filter(|view| matches(filters, view))
            .collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.definition.created_unix_ns));
        views.truncate(request.limit.unwrap_or(usize::MAX));
        Ok(views)
    }

    fn ancestors(&self, names: &[String]) -> Option<Vec<model::ImageId>> {
        let resolve = |name: &String| self.context.images.resolve(name).ok();
        (!names.is_empty()).then(|| {
            let images = names.iter().filter_map(resolve);
            images.map(|image| image.id).collect()
        })
    }
}

/// Returns a container's labels: the user's over the image's.
#[must_use]
pub(super) fn labels(definition: &Definition) -> BTreeMap<String, String> {
    let mut labels = definition.image.config.labels.clone();
    labels.extend(definition.settings.labels.clone());
    labels
}

impl Definition {
    /// Returns its labels: the user's over the image's.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        labels(self)
    }
}

fn matches(filters: &Filters, view: &View) -> bool {
    let (definition, state) = (&view.definition, &view.state);
    let labels = labels(definition);
    filters.any("id", |id| definition.id.as_str().starts_with(id))
        && filters.any("name", |name| name_matches(name, state.name.as_str()))
        && filters.any("status", |status| status == view.status())
        && filters.any("health", |health| health == "none")
        && filters.any("is-task", |value| matches!(value, "false" | "0"))
        && filters.any("exited", |code| {
            code == state.exit_code.to_string()
                && !view.is_running()
                && state.finished_unix_ns.is_some()
        })
        && filters.every("label", |label| match label.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|own| own == value),
            None => labels.contains_key(label),
        })
        && filters.any("network", |network| {
            state
                .endpoints
                .iter()
                .any(|end| end.network == network || end.network_id.starts_with(network))
                || network == mode_name(&definition.settings.network.mode)
        })
        && filters.any("volume", |volume| uses_volume(definition, volume))
        && filters.any("expose", |port| exposes(definition, port))
        && filters.any("publish", |port| publishes(view, port))
}

/// Returns docker's word for a network mode, as inspect shows it.
#[must_use]
pub(super) fn mode_name(mode: &NetworkMode) -> &str {
    match mode {
        NetworkMode::Bridge => "bridge",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
        NetworkMode::Container(_) => "container",
        NetworkMode::Named(name) => name,
    }
}

/// Docker takes a regular expression; its anchors and an optional slash are what people write.
fn name_matches(pattern: &str, name: &str) -> bool {
    let from_start = pattern.strip_prefix('^');
    let rest = from_start.unwrap_or(pattern);
    let rest = rest.strip_prefix("/?").unwrap_or(rest);
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    let (rest, to_end) = match rest.strip_suffix('$') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    match (from_start.is_some(), to_end) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

fn uses_volume(definition: &Definition, wanted: &str) -> bool {
    definition.mounts.iter().any(|mount| {
        mount.target == wanted
            || match &mount.source {
                MountPointSource::Volume { name, .. } => name == wanted,
                MountPointSource::Bind { path, .. } => path.to_str() == Some(wanted),
                MountPointSource::Tmpfs { .. } => false,
            }
    })
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') {
        port.to_owned()
    } else {
        format!("{port}/tcp")
    }
}

fn exposes(definition: &Definition, port: &str) -> bool {
    let wanted = with_protocol(port);
    let exposed = definition.settings.exposed_ports.iter();
    exposed
        .chain(definition.image.config.exposed_ports.keys())
        .any(|port| with_protocol(port) == wanted)
}

fn publishes(view: &View, port: &str) -> bool {
    let wanted = with_protocol(port);
    let mut ports = view.definition.settings.network.ports.iter();
    ports.any(|port| format!("{}/{}", port.container_port, port.protocol) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |pattern, name, expected| {
            assert_eq!(name_matches(pattern, name), expected, "{pattern} {name}");
        };
        check("eb", "web", true);
        check("^web$", "web", true);
        check("^/web$", "web", true);
        check("^/?web$", "web", true);
        check("^web$", "web2", false);
        check("eb$", "web", true);
        check("x", "web", false);
    }

    #[test]
    fn unknown_filters_are_refused() {
        let filters = |key: &str, value: &str| {
            Filters::new([(key.to_owned(), vec![value.to_owned()])].into())
        };
        filters("status", "running").unwrap();
        filters("status", "walking").unwrap_err();
        filters("exited", "x").unwrap_err();
        filters("colour", "red").unwrap_err();
    }
}
