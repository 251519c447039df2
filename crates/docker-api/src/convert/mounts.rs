//! `Binds`, `Mounts` and `Tmpfs` → one list of mounts.

use crate::ApiError;
use crate::wire::containers as wire;
use model::settings::{Mount, MountSource};
use std::collections::BTreeMap;

/// Parses one `-v` string: `source:target[:options]`.
pub(crate) fn bind(text: &str) -> Result<Mount, ApiError> {
    let invalid = || ApiError::bad_request(format!("invalid volume specification: '{text}'"));
    let mut parts = text.split(':');
    let source = parts.next().filter(|part| !part.is_empty());
    let source = source.ok_or_else(invalid)?;
    let target = parts.next().filter(|part| part.starts_with('/'));
    let target = target.ok_or_else(invalid)?;
    let options = parts.next().unwrap_or_default();
    if parts.next().is_some() {
        return Err(invalid());
    }
    let mut read_only = false;
    let mut propagation = None;
    let mut no_copy = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" => read_only = false,
            "ro" => read_only = true,
            "nocopy" => no_copy = true,
            // Relabelling is SELinux', cached and friends are macOS'.
            "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => {
                propagation = Some(option.to_owned());
            }
            _ => {
                return Err(ApiError::bad_request(format!(
                    "invalid mode: {options}: invalid volume specification: '{text}'"
                )));
            }
        }
    }
    let source = if source.starts_with('/') {
        MountSource::Bind {
            source: source.into(),
            propagation,
            recursive: true,
            create_source: true,
        }
    } else {
        MountSource::Volume {
            name: Some(source.to_owned()),
            no_copy,
            driver: None,
            driver_opts: BTreeMap::new(),
            labels: BTreeMap::new(),
            subpath: None,
        }
    };
    Ok(Mount {
        target: target.to_owned(),
        source,
        read_only,
        from_bind: true,
    })
}

/// Converts one `--mount`.
pub(crate) fn mount(mount: wire::Mount) -> Result<Mount, ApiError> {
    let wire::Mount {
        kind,
        source,
        target,
        read_only,
        consistency: _,
        bind_options,
        volume_options,
        tmpfs_options,
    } = mount;
    let kind = kind.unwrap_or_default();
    let source = source.unwrap_or_default();
    let invalid =
        |why: &str| ApiError::bad_request(format!("invalid mount config for type {kind:?}: {why}"));
    let target = target.filter(|target| !target.is_empty());
    let target = target.ok_or_else(|| invalid("field Target must not be empty"))?;
    let source = match kind.as_str() {
        "bind" if source.is_empty() => return Err(invalid("field Source must not be empty")),
        "bind" => bind_source(source, bind_options.unwrap_or_default())?,
        "volume" => volume_source(source, volume_options.unwrap_or_default()),
        "tmpfs" if !source.is_empty() => return Err(invalid("field Source must not be specified")),
        "tmpfs" => tmpfs_source(tmpfs_options.unwrap_or_default()),
        "npipe" | "cluster" | "image" => {
            return Err(ApiError::not_supported(&format!("mount type {kind:?}")));
        }
        _ => {
            return Err(ApiError::bad_request(format!(
                "mount type unknown: {kind:?}"
            )));
        }
    };
    Ok(Mount {
        target,
        source,
        read_only: read_only.unwrap_or_default(),
        from_bind: false,
    })
}

fn bind_source(source: String, options: wire::BindOptions) -> Result<MountSource, ApiError> {
    let wire::BindOptions {
        propagation,
        non_recursive,
        create_mountpoint,
        read_only_non_recursive,
        read_only_force_recursive: _, // what every read-only bind is here
    } = options;
    if read_only_non_recursive == Some(true) {
        return Err(ApiError::not_supported("BindOptions.ReadOnlyNonRecursive"));
    }
    Ok(MountSource::Bind {
        source: source.into(),
        propagation: propagation.filter(|text| !text.is_empty()),
        recursive: !non_recursive.unwrap_or_default(),
        create_source: create_mountpoint.unwrap_or_default(),
    })
}

fn volume_source(source: String, options: wire::VolumeOptions) -> MountSource {
    let wire::VolumeOptions {
        no_copy,
        labels,
        driver_config,
        subpath,
    } = options;
    let wire::DriverConfig { name, options } = driver_config.unwrap_or_default();
    MountSource::Volume {
        name: Some(source).filter(|name| !name.is_empty()),
        no_copy: no_copy.unwrap_or_default(),
        driver: name,
        driver_opts: options.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        subpath,
    }
}

fn tmpfs_source(options: wire::TmpfsOptions) -> MountSource {
    let wire::TmpfsOptions {
        size_bytes,
        mode,
        options,
    } = options;
    let size_bytes = size_bytes.and_then(|bytes| u64::try_from(bytes).ok());
    let options = options.unwrap_or_default();
    MountSource::Tmpfs {
        size_bytes: size_bytes.filter(|bytes| *bytes > 0),
        mode: mode.filter(|mode| *mode > 0),
        options: options.into_iter().map(|words| words.join("=")).collect(),
    }
}

/// Converts one `--tmpfs target:options`.
pub(crate) fn tmpfs(target: String, options: &str) -> Mount {
    let options = options.split(',').filter(|option| !option.is_empty());
    Mount {
        target,
        source: MountSource::Tmpfs {
            size_bytes: None,
            mode: None,
            options: options.map(str::to_owned).collect(),
        },
        read_only: false,
        from_bind: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds() {
        let source = |text: &str| bind(text).ok().map(|mount| (mount.source, mount.read_only));
        assert!(matches!(
            source("/a:/b"),
            Some((
                MountSource::Bind {
                    create_source: true,
                    ..
                },
                false
            ))
        ));
        assert!(matches!(
            source("/a:/b:ro,rslave"),
            Some((MountSource::Bind { propagation: Some(p), .. }, true)) if p == "rslave"
        ));
        assert!(matches!(
            source("data:/b:nocopy"),
            Some((MountSource::Volume { name: Some(n), no_copy: true, .. }, false)) if n == "data"
        ));
        for bad in ["", ":", "/a", "/a:b", "/a:/b:what", "/a:/b:ro:x", ":/b"] {
            assert!(source(bad).is_none(), "{bad}");
        }
    }
}
