//! Which mounts a container gets: the user's, then those of other containers, then volumes for
//! the paths that the image and the user declare. Decided once, at create.

use super::error::{CreateError, StartError};
use super::record::{Definition, MountPoint, MountPointSource};
use super::table::Table;
use crate::Context;
use model::settings::{ContainerSettings, Mount, MountSource};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// Decides all mounts; makes the volumes that are missing.
pub(super) fn plan(
    context: &Context,
    table: &Table,
    settings: &ContainerSettings,
    image_volumes: &[String],
) -> Result<Vec<MountPoint>, CreateError> {
    let mut mounts: Vec<MountPoint> = Vec::new();
    for mount in &settings.mounts {
        let target = clean(&mount.target)?;
        if mounts.iter().any(|other| other.target == target) {
            return Err(CreateError::Invalid(format!(
                "Duplicate mount point: {target}"
            )));
        }
        mounts.push(one(context, mount, target)?);
    }
    for from in &settings.volumes_from {
        for mount in of_other(table, from)? {
            if !mounts.iter().any(|other| other.target == mount.target) {
                mounts.push(mount);
            }
        }
    }
    for path in settings.volumes.iter().chain(image_volumes) {
        let target = clean(path)?;
        if !mounts.iter().any(|other| other.target == target) {
            let no_labels = BTreeMap::new();
            let source = volume(context, None, false, &no_labels)?;
            mounts.push(MountPoint {
                target,
                read_only: false,
                source,
                from_bind: false,
            });
        }
    }
    Ok(mounts)
}

fn clean(target: &str) -> Result<String, CreateError> {
    let invalid = |why: &str| CreateError::Invalid(format!("invalid mount path: '{target}' {why}"));
    if !target.starts_with('/') {
        return Err(invalid("mount path must be absolute"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(CreateError::Invalid(
            "invalid volume specification: destination can't be '/'".to_owned(),
        ));
    }
    Ok(format!("/{}", parts.join("/")))
}

fn one(context: &Context, mount: &Mount, target: String) -> Result<MountPoint, CreateError> {
    let source = match &mount.source {
        MountSource::Bind {
            source,
            propagation,
            recursive,
            create_source,
        } => {
            if !source.is_absolute() {
                return Err(CreateError::Invalid(format!(
                    "invalid mount config for type \"bind\": invalid mount path: '{}' mount path \
                     must be absolute",
                    source.display()
                )));
            }
            if !create_source && !is_there(source) {
                return Err(CreateError::BindSource(source.clone()));
            }
            MountPointSource::Bind {
                path: source.clone(),
                propagation: propagation.clone().unwrap_or_else(|| "rprivate".to_owned()),
                recursive: *recursive,
                create: *create_source,
            }
        }
        MountSource::Volume {
            name,
            no_copy,
            driver,
            driver_opts,
            labels,
            subpath,
        } => {
            if driver
                .as_deref()
                .is_some_and(|driver| !matches!(driver, "" | "local"))
            {
                let driver = driver.clone().unwrap_or_default();
                return Err(CreateError::Unsupported(format!("volume driver {driver}")));
            }
            if !driver_opts.is_empty() {
                return Err(CreateError::Unsupported(
                    "VolumeOptions.DriverConfig.Options".into(),
                ));
            }
            if subpath.as_deref().is_some_and(|path| !path.is_empty()) {
                return Err(CreateError::Unsupported("VolumeOptions.Subpath".into()));
            }
            let name = name.as_deref().filter(|name| !name.is_empty());
            volume(context, name, *no_copy, labels)?
        }
        MountSource::Tmpfs {
            size_bytes,
            mode,
            options,
        } => MountPointSource::Tmpfs {
            options: tmpfs_options(*size_bytes, *mode, options),
        },
    };
    Ok(MountPoint {
        target,
        read_only: mount.read_only,
        source,
        from_bind: mount.from_bind,
    })
}

fn tmpfs_options(size_bytes: Option<u64>, mode: Option<u32>, given: &[String]) -> Vec<String> {
    // Docker's defaults; what the user says comes later and wins.
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).into();
    options.extend(size_bytes.map(|bytes| format!("size={bytes}")));
    options.extend(mode.map(|mode| format!("mode={mode:o}")));
    for option in given {
        let opposite = match option.as_str() {
            "exec" => "noexec",
            "suid" => "nosuid",
            "dev" => "nodev",
            other => other,
        };
        options.retain(|old| old != opposite);
        options.push(option.clone());
    }
    options
}

fn volume(
    context: &Context,
    name: Option<&str>,
    no_copy: bool,
    labels: &BTreeMap<String, String>,
) -> Result<MountPointSource, CreateError> {
    let anonymous = name.is_none();
    let name = name.map_or_else(crate::random::hex_id, str::to_owned);
    let volume = context.volumes.ensure(&name, anonymous, labels)?;
    Ok(MountPointSource::Volume {
        path: context.volumes.path(&name),
        anonymous: anonymous || volume.anonymous,
        name,
        copy_up: !no_copy,
    })
}

fn of_other(table: &Table, from: &str) -> Result<Vec<MountPoint>, CreateError> {
    let (name, mode) = from.split_once(':').unwrap_or((from, ""));
    let read_only = match mode {
        "" | "rw" | "z" | "Z" => None,
        "ro" => Some(true),
        other => {
            return Err(CreateError::Invalid(format!(
                "invalid mode for volumes-from: {other}"
            )));
        }
    };
    let view = table.get(name)?.view();
    let mut mounts = view.definition.mounts.clone();
    for mount in &mut mounts {
        mount.read_only = read_only.unwrap_or(mount.read_only);
    }
    mounts.retain(|mount| !matches!(mount.source, MountPointSource::Tmpfs { .. }));
    Ok(mounts)
}

/// At start: makes what is missing of the sources, and fills new volumes.
pub(super) fn ready(
    context: &Context,
    definition: &Definition,
    layers_top_first: &[PathBuf],
) -> Result<(), StartError> {
    for mount in &definition.mounts {
        match &mount.source {
            MountPointSource::Bind { path, create, .. } if !is_there(path) => {
                if !create {
                    return Err(StartError::BindSource(path.clone()));
                }
                std::fs::create_dir_all(path).map_err(|source| StartError::File {
                    path: path.clone(),
                    source,
                })?;
            }
            MountPointSource::Volume {
                name,
                anonymous,
                copy_up,
                ..
            } => {
                // A volume that was removed behind the container's back comes back empty.
                context.volumes.ensure(name, *anonymous, &BTreeMap::new())?;
                if *copy_up {
                    let layers: Vec<PathBuf> = layers_top_first.iter().rev().cloned().collect();
                    context.volumes.copy_up(name, &mount.target, &layers)?;
                }
            }
            MountPointSource::Bind { .. } | MountPointSource::Tmpfs { .. } => {}
        }
    }
    Ok(())
}

/// True also for a dangling link, as docker's lstat has it.
fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// Names of the anonymous volumes that were made for a container.
pub(super) fn own_volumes(definition: &Definition) -> impl Iterator<Item = &str> {
    definition
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountPointSource::Volume {
                name,
                anonymous: true,
                ..
            } => Some(name.as_str()),
            MountPointSource::Volume { .. }
            | MountPointSource::Bind { .. }
            | MountPointSource::Tmpfs { .. } => None,
        })
}

/// Names of all volumes that containers use.
pub(super) fn volumes_in_use(table: &Table) -> HashSet<String> {
    let mut names = HashSet::new();
    for handle in table.all() {
        for mount in &handle.view().definition.mounts {
            if let MountPointSource::Volume { name, .. } = &mount.source {
                names.insert(name.clone());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_cleaned() {
        let check = |target: &str, expected: Option<&str>| {
            assert_eq!(clean(target).ok().as_deref(), expected, "{target}");
        };
        check("/data", Some("/data"));
        check("/data//x/./../y/", Some("/data/y"));
        check("data", None);
        check("/", None);
        check("/a/..", None);
    }

    #[test]
    fn tmpfs_words() {
        let options = tmpfs_options(Some(64), Some(0o1770), &["exec".to_owned()]);
        assert_eq!(options, ["nosuid", "nodev", "size=64", "mode=1770", "exec"]);
    }
}
