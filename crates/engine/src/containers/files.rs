//! A container's own directory: its log, and the three files bound over `/etc`.
//!
//! ```text
//! containers/<id>/{hosts,hostname,resolv.conf,<id>-json.log}
//! ```

use super::error::StartError;
use super::record::{Definition, State};
use crate::Context;
use crate::networks::FilesRequest;
use crate::shims::LogTarget;
use model::ContainerId;
use model::settings::{LogSettings, NetworkMode};
use model::spec::ResolvedMount;
use std::io;
use std::path::{Path, PathBuf};

/// Returns the directory.
pub(super) fn directory(context: &Context, id: &ContainerId) -> PathBuf {
    context
        .options
        .data_root
        .join("containers")
        .join(id.as_str())
}

/// Returns the log's path.
pub(super) fn log_path(context: &Context, id: &ContainerId) -> PathBuf {
    directory(context, id).join(format!("{id}-json.log"))
}

/// Removes the directory; one that is gone is fine.
pub(super) fn remove(context: &Context, id: &ContainerId) -> io::Result<()> {
    match std::fs::remove_dir_all(directory(context, id)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Returns where output is kept.
///
/// # Errors
/// If a driver option is no number.
pub(super) fn log_target(
    settings: &LogSettings,
    path: PathBuf,
) -> Result<LogTarget, InvalidLogOption> {
    if settings.driver == "none" {
        return Ok(LogTarget::None);
    }
    let mut target_files = 1;
    let mut target_size = None;
    for (name, value) in &settings.options {
        let invalid = || InvalidLogOption {
            name: name.clone(),
            value: value.clone(),
        };
        match name.as_str() {
            "max-size" if value == "-1" => {}
            "max-size" => target_size = Some(parse_size(value).ok_or_else(invalid)?),
            "max-file" => {
                target_files = value.parse().ok().filter(|n| *n > 0).ok_or_else(invalid)?;
            }
            _ => return Err(invalid()),
        }
    }
    Ok(LogTarget::JsonFile {
        path,
        max_size_bytes: target_size,
        max_files: target_files,
    })
}

/// A log option that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid log option {name}={value:?} for the json-file log driver")]
pub(super) struct InvalidLogOption {
    name: String,
    value: String,
}

/// `10m`, `1g`, `512k`, `100`: binary units, as docker reads them.
fn parse_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let text = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, shift) = match text.char_indices().last()? {
        (end, 'k') => (&text[..end], 10),
        (end, 'm') => (&text[..end], 20),
        (end, 'g') => (&text[..end], 30),
        (end, 't') => (&text[..end], 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Writes the three files and returns them as mounts.
pub(super) fn etc(
    context: &Context,
    definition: &Definition,
    state: &State,
) -> Result<Vec<ResolvedMount>, StartError> {
    let settings = &definition.settings;
    if let NetworkMode::Container(_) = settings.network.mode {
        // The other container's files come from `start`, which knows it.
        return Ok(Vec::new());
    }
    let files = context.networks.files(&FilesRequest {
        hostname: &definition.hostname,
        domainname: settings.domainname.as_deref().unwrap_or_default(),
        settings: &settings.network,
        endpoints: &state.endpoints,
    });
    let directory = directory(context, &definition.id);
    let write = |name: &str, content: &str| {
        let path = directory.join(name);
        std::fs::write(&path, content).map_err(|source| StartError::File { path, source })
    };
    write("hosts", &files.hosts)?;
    write("hostname", &files.hostname)?;
    write("resolv.conf", &files.resolv_conf)?;
    Ok(etc_mounts(&directory, definition))
}

/// Returns the three files as mounts, but where the user mounts something else.
pub(super) fn etc_mounts(directory: &Path, definition: &Definition) -> Vec<ResolvedMount> {
    let taken = |target: &str| definition.mounts.iter().any(|mount| mount.target == target);
    ["hosts", "hostname", "resolv.conf"]
        .into_iter()
        .map(|name| (directory.join(name), format!("/etc/{name}")))
        .filter(|(_, target)| !taken(target))
        .map(|(source, target)| ResolvedMount::Bind {
            source,
            target,
            read_only: definition.settings.read_only,
            propagation: "rprivate".to_owned(),
            recursive: true,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expected| assert_eq!(parse_size(text), expected, "{text}");
        check("100", Some(100));
        check("10m", Some(10 << 20));
        check("1GB", Some(1 << 30));
        check("2kib", Some(2048));
        check("", None);
        check("m", None);
        check("-1m", None);
        check("99999999999999t", None);
    }

    #[test]
    fn unknown_log_options_are_refused() {
        let settings = |name: &str, value: &str| LogSettings {
            driver: String::new(),
            options: [(name.to_owned(), value.to_owned())].into(),
        };
        let target = |name, value| log_target(&settings(name, value), "/log".into());
        target("max-size", "1m").unwrap();
        target("max-file", "0").unwrap_err();
        target("tag", "x").unwrap_err();
    }
}
