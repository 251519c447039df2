//! `-v`, `--mount`, `--tmpfs` and `--device`.

use super::{FlagError, units};
use client::wire::{Device, Mount};
use std::path::{Component, Path, PathBuf};

/// What a `-v` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Volume {
    /// A source and a target: goes to the daemon as a string.
    Bind(String),
    /// A target alone: an anonymous volume.
    Anonymous(String),
}

/// Reads a `-v`; a source that starts with `.` is relative to `cwd`.
pub(crate) fn volume(text: &str, cwd: &Path) -> Result<Volume, FlagError> {
    let bad = |why: &str| FlagError::new(format!("invalid volume specification: '{text}': {why}"));
    let mut parts = text.splitn(3, ':');
    let first = parts.next().unwrap_or_default();
    let Some(target) = parts.next() else {
        return match first {
            path if path.starts_with('/') => Ok(Volume::Anonymous(path.to_owned())),
            _ => Err(bad("the path in the container must be absolute")),
        };
    };
    if first.is_empty() {
        return Err(bad("the source is empty"));
    }
    if !target.starts_with('/') {
        return Err(bad("the path in the container must be absolute"));
    }
    let source = if first.starts_with('.') {
        absolute(cwd, first).display().to_string()
    } else {
        first.to_owned()
    };
    Ok(Volume::Bind(match parts.next() {
        Some(options) => format!("{source}:{target}:{options}"),
        None => format!("{source}:{target}"),
    }))
}

/// Makes a path absolute without asking the file system, as Go's `filepath.Abs`.
fn absolute(cwd: &Path, path: &str) -> PathBuf {
    let mut result = PathBuf::new();
    for component in cwd.join(path).components() {
        match component {
            Component::ParentDir => {
                result.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                result.push(component);
            }
        }
    }
    result
}

/// Reads `--tmpfs /run:size=64m`.
pub(crate) fn tmpfs(text: &str) -> Result<(String, String), FlagError> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    if !target.starts_with('/') {
        return Err(FlagError::new(format!(
            "invalid tmpfs '{text}': the path must be absolute"
        )));
    }
    Ok((target.to_owned(), options.to_owned()))
}

/// Reads `--device /dev/a[:/dev/b][:rwm]`.
pub(crate) fn device(text: &str) -> Result<Device, FlagError> {
    let is_mode = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, container] => (host, container, "rwm"),
        [host, container, mode] if is_mode(mode) => (host, container, mode),
        _ => {
            return Err(FlagError::new(format!(
                "invalid device specification: {text}"
            )));
        }
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err(FlagError::new(format!("{text} is not an absolute path")));
    }
    Ok(Device {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    })
}

/// Reads `--mount type=bind,source=/a,target=/b,readonly`.
pub(crate) fn mount(text: &str, cwd: &Path) -> Result<Mount, FlagError> {
    let mut mount = Mount {
        r#type: "volume".to_owned(),
        ..Mount::default()
    };
    for field in fields(text)? {
        let field = Field::parse(&field);
        let known = field.apply_common(&mut mount)?
            || field.apply_bind(&mut mount)?
            || field.apply_volume(&mut mount)?
            || field.apply_tmpfs(&mut mount)?;
        if !known {
            return Err(FlagError::new(format!(
                "unknown option '{}' in '{text}'",
                field.key
            )));
        }
    }
    check(&mount)?;
    if mount.r#type == "bind" && mount.source.starts_with('.') {
        mount.source = absolute(cwd, &mount.source).display().to_string();
    }
    Ok(mount)
}

/// One field of a `--mount`; each `apply` says whether it knew the key.
struct Field<'a> {
    key: String,
    value: Option<&'a str>,
}

impl<'a> Field<'a> {
    fn parse(field: &'a str) -> Self {
        match field.split_once('=') {
            Some((key, value)) => Self {
                key: key.to_ascii_lowercase(),
                value: Some(value),
            },
            None => Self {
                key: field.to_ascii_lowercase(),
                value: None,
            },
        }
    }

    fn text(&self) -> Result<String, FlagError> {
        let value = self.value.filter(|value| !value.is_empty());
        value.map(str::to_owned).ok_or_else(|| {
            let key = &self.key;
            FlagError::new(format!("invalid field '{key}' must be a key=value pair"))
        })
    }

    fn switch(&self) -> Result<bool, FlagError> {
        match self.value.unwrap_or("true").to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => Ok(true),
            "0" | "f" | "false" => Ok(false),
            other => Err(FlagError::new(format!(
                "invalid value for {}: {other}",
                self.key
            ))),
        }
    }

    fn pair(&self) -> Result<(String, String), FlagError> {
        let text = self.text()?;
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        Ok((name.to_owned(), value.to_owned()))
    }

    fn apply_common(&self, mount: &mut Mount) -> Result<bool, FlagError> {
        match self.key.as_str() {
            "type" => mount.r#type = self.text()?.to_ascii_lowercase(),
            "source" | "src" => mount.source = self.text()?,
            "target" | "dst" | "destination" => mount.target = self.text()?,
            "readonly" | "ro" => mount.read_only = self.switch()?,
            "consistency" => mount.consistency = self.text()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn apply_bind(&self, mount: &mut Mount) -> Result<bool, FlagError> {
        let Some(key) = self.key.strip_prefix("bind-") else {
            return Ok(false);
        };
        let options = mount.bind_options.get_or_insert_default();
        match key {
            "propagation" => options.propagation = self.text()?,
            "nonrecursive" => options.non_recursive = self.switch()?,
            "create-src" => options.create_mountpoint = self.switch()?,
            "recursive" => match self.text()?.as_str() {
                "enabled" => {}
                "disabled" => options.non_recursive = true,
                "writable" => options.read_only_non_recursive = true,
                "readonly" => options.read_only_force_recursive = true,
                other => {
                    return Err(FlagError::new(format!(
                        "invalid value for bind-recursive: {other} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                    )));
                }
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn apply_volume(&self, mount: &mut Mount) -> Result<bool, FlagError> {
        let Some(key) = self.key.strip_prefix("volume-") else {
            return Ok(false);
        };
        let options = mount.volume_options.get_or_insert_default();
        match key {
            "nocopy" => options.no_copy = self.switch()?,
            "subpath" => options.subpath = self.text()?,
            "label" => options.labels.extend([self.pair()?]),
            "driver" => options.driver_config.get_or_insert_default().name = self.text()?,
            "opt" => {
                let driver = options.driver_config.get_or_insert_default();
                driver.options.extend([self.pair()?]);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn apply_tmpfs(&self, mount: &mut Mount) -> Result<bool, FlagError> {
        let Some(key) = self.key.strip_prefix("tmpfs-") else {
            return Ok(false);
        };
        let options = mount.tmpfs_options.get_or_insert_default();
        match key {
            "size" => options.size_bytes = units::bytes(&self.text()?)?,
            "mode" => {
                let mode = self.text()?;
                options.mode = u32::from_str_radix(&mode, 8)
                    .map_err(|_| FlagError::new(format!("invalid value for tmpfs-mode: {mode}")))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn check(mount: &Mount) -> Result<(), FlagError> {
    if mount.target.is_empty() {
        return Err(FlagError::new("target is required"));
    }
    if mount.r#type == "bind" && mount.source.is_empty() {
        return Err(FlagError::new("source is required for type=bind"));
    }
    if mount.r#type == "tmpfs" && !mount.source.is_empty() {
        return Err(FlagError::new("type=tmpfs takes no source"));
    }
    let given = [
        (mount.bind_options.is_some(), "bind"),
        (mount.volume_options.is_some(), "volume"),
        (mount.tmpfs_options.is_some(), "tmpfs"),
    ];
    for (given, kind) in given {
        if given && mount.r#type != kind {
            return Err(FlagError::new(format!(
                "cannot mix '{kind}-*' options with mount type '{}'",
                mount.r#type
            )));
        }
    }
    Ok(())
}

/// Splits comma-separated fields; `"…"` around a field protects commas, `""` inside is a quote.
pub(super) fn fields(text: &str) -> Result<Vec<String>, FlagError> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    if quoted {
        return Err(FlagError::new(format!("a quote is not closed in '{text}'")));
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn volumes() {
        let check = |text: &str, expected: Option<Volume>| {
            assert_eq!(volume(text, Path::new("/home/me")).ok(), expected, "{text}");
        };
        let bind = |text: &str| Some(Volume::Bind(text.to_owned()));
        check("/a:/b", bind("/a:/b"));
        check("./a:/b:ro", bind("/home/me/a:/b:ro"));
        check("../x:/b", bind("/home/x:/b"));
        check("name:/b:nocopy", bind("name:/b:nocopy"));
        check("/data", Some(Volume::Anonymous("/data".to_owned())));
        for bad in ["", "data", ":/b", "/a:", "/a:b"] {
            check(bad, None);
        }
    }

    #[test]
    fn mounts() {
        let cwd = Path::new("/w");
        let bind = mount(
            "type=bind,src=./a,dst=/b,readonly,bind-propagation=rslave",
            cwd,
        )
        .unwrap();
        assert_eq!((bind.source.as_str(), bind.read_only), ("/w/a", true));
        assert_eq!(bind.bind_options.unwrap().propagation, "rslave");
        let tmpfs = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770", cwd).unwrap();
        assert_eq!(tmpfs.tmpfs_options.unwrap().mode, 0o1770);
        let volume = mount("\"source=a,b\",target=/v,volume-opt=o=x", cwd).unwrap();
        assert_eq!(
            (volume.r#type.as_str(), volume.source.as_str()),
            ("volume", "a,b")
        );
        for bad in [
            "",
            "type=bind,target=/a",
            "type=bind,source=/a",
            "type=tmpfs,source=/a,target=/b",
            "type=volume,target=/a,tmpfs-size=1",
            "target=/a,foo=1",
            "target=/a,readonly=maybe",
            "\"target=/a",
        ] {
            assert!(mount(bad, cwd).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices() {
        let check = |text: &str, expected: Option<(&str, &str, &str)>| {
            let found = device(text).ok();
            let found = found.as_ref().map(|device| {
                (
                    device.path_on_host.as_str(),
                    device.path_in_container.as_str(),
                    device.cgroup_permissions.as_str(),
                )
            });
            assert_eq!(found, expected, "{text}");
        };
        check("/dev/a", Some(("/dev/a", "/dev/a", "rwm")));
        check("/dev/a:r", Some(("/dev/a", "/dev/a", "r")));
        check("/dev/a:/dev/b:rw", Some(("/dev/a", "/dev/b", "rw")));
        check("/dev/a:/dev/b:x", None);
        check("dev/a", None);
    }

    proptest! {
        #[test]
        fn never_panic(text in ".{0,40}") {
            mount(&text, Path::new("/")).ok();
            volume(&text, Path::new("/")).ok();
            device(&text).ok();
            tmpfs(&text).ok();
        }
    }
}
