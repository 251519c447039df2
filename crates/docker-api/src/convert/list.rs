//! A container's picture → one element of `GET /containers/json`.

use super::human;
use super::inspect::{endpoint, mount, published};
use engine::containers::View;
use model::lifecycle::Phase;
use model::settings::NetworkMode;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Converts; sizes are `SizeRw` and `SizeRootFs`.
pub(crate) fn summary(view: &View, now_unix_ns: i64, sizes: Option<(u64, u64)>) -> Value {
    let definition = &view.definition;
    let settings = &definition.settings;
    let mode = match &settings.network.mode {
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Named(name) => name.clone(),
    };
    let mut networks: BTreeMap<String, Value> = BTreeMap::new();
    for end in &view.state.endpoints {
        networks.insert(end.network.clone(), endpoint(Some(end)));
    }
    if networks.is_empty() && !mode.starts_with("container:") {
        networks.insert(mode.clone(), endpoint(None));
    }
    let ports = view.state.endpoints.iter().flat_map(|end| &end.ports);
    let mut json = json!({
        "Id": definition.id.as_str(),
        "Names": [format!("/{}", view.state.name)],
        "Image": settings.image,
        "ImageID": definition.image.id.to_string(),
        "Command": definition.process.args.join(" "),
        "Created": definition.created_unix_ns / 1_000_000_000,
        "Ports": ports.map(published).collect::<Vec<_>>(),
        "Labels": definition.labels(),
        "State": view.status(),
        "Status": status(view, now_unix_ns),
        "HostConfig": { "NetworkMode": mode },
        "NetworkSettings": { "Networks": networks },
        "Mounts": definition.mounts.iter().map(mount).collect::<Vec<_>>(),
    });
    if let (Some((changes, all)), Some(json)) = (sizes, json.as_object_mut()) {
        json.insert("SizeRw".to_owned(), changes.into());
        json.insert("SizeRootFs".to_owned(), all.into());
    }
    json
}

/// `Up 5 minutes (Paused)`, `Exited (0) 2 hours ago`.
fn status(view: &View, now_unix_ns: i64) -> String {
    let state = &view.state;
    let since = |at: Option<i64>| human::duration(now_unix_ns - at.unwrap_or(now_unix_ns));
    match state.phase {
        Phase::Running { paused, .. } => {
            let paused = if paused { " (Paused)" } else { "" };
            format!("Up {}{paused}", since(state.started_unix_ns))
        }
        Phase::Restarting => {
            let ago = since(state.finished_unix_ns);
            format!("Restarting ({}) {ago} ago", state.exit_code)
        }
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Created => "Created".to_owned(),
        Phase::Starting | Phase::Exited if state.finished_unix_ns.is_none() => "Created".to_owned(),
        Phase::Starting | Phase::Exited => {
            let ago = since(state.finished_unix_ns);
            format!("Exited ({}) {ago} ago", state.exit_code)
        }
    }
}
