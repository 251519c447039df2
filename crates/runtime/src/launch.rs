//! What a container is to become, as data, and why it could not.
//!
//! A [`Launch`] is complete: whoever holds it needs no other document to start the container. It
//! travels from the daemon to the shim as JSON. This file knows no kernel interface.

use std::{fmt, path::PathBuf};

use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

/// Everything that the start of one container needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    /// The OCI runtime document.
    pub spec: Spec,
    /// Where the root file system comes from; replaces `spec.root.path`.
    pub root: Root,
    /// A user by name, resolved inside the root; without it `spec.process.user` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserRequest>,
    /// Create the working directory when the root lacks it, as docker does for `-w`.
    #[serde(default)]
    pub create_cwd: bool,
    /// Record the steps of the start.
    #[serde(default)]
    pub trace: bool,
    /// The seccomp filter as `struct sock_filter` bytes; without it `spec.linux.seccomp` is
    /// compiled.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "bytes_as_hex"
    )]
    pub seccomp: Option<Vec<u8>>,
}

/// Where a container's root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Root {
    /// A directory, used as it is.
    Path(PathBuf),
    /// An overlay, mounted in the container's own mount namespace only.
    Overlay {
        /// The read-only layers, topmost first.
        lower: Vec<PathBuf>,
        /// The writable directory.
        upper: PathBuf,
        /// Overlayfs' own directory, on the same file system as `upper`.
        work: PathBuf,
        /// Skip syncs, for a root that dies with its container.
        volatile: bool,
    },
}

/// A user as docker's `--user` names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRequest {
    /// `name`, `uid`, `name:group`, `uid:gid` and so on; empty means root.
    pub user: String,
    /// Further groups, by name or number.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A process to add to a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The process, as in the OCI document: arguments, environment, capabilities, limits.
    pub process: Process,
    /// A user by name, resolved inside the root; without it `process.user` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserRequest>,
    /// The seccomp filter as `struct sock_filter` bytes.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "bytes_as_hex"
    )]
    pub seccomp: Option<Vec<u8>>,
    /// Record the steps of the start.
    #[serde(default)]
    pub trace: bool,
}

/// The part of a start that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The document asks for something impossible or contradicts itself.
    Spec,
    /// Creating the process and its namespaces.
    Namespaces,
    /// Creating, limiting or joining a cgroup.
    Cgroup,
    /// Mounting the root or something in it.
    Mount,
    /// Devices, links, masked and read-only paths.
    Rootfs,
    /// Host name, sysctls, limits and the like.
    Settings,
    /// User, groups, capabilities.
    Identity,
    /// The seccomp filter.
    Seccomp,
    /// The terminal.
    Terminal,
    /// A hook of the document.
    Hook,
    /// Finding and executing the program.
    Exec,
    /// The talk between the runtime and the process that it started.
    Channel,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spec => "runtime spec",
            Self::Namespaces => "namespaces",
            Self::Cgroup => "cgroup",
            Self::Mount => "mount",
            Self::Rootfs => "root file system",
            Self::Settings => "settings",
            Self::Identity => "user",
            Self::Seccomp => "seccomp",
            Self::Terminal => "terminal",
            Self::Hook => "hook",
            Self::Exec => "exec",
            Self::Channel => "start",
        })
    }
}

/// Why a container or an exec process did not start.
///
/// `message` carries the wording that docker's clients look for, such as
/// `exec: "foo": executable file not found in $PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("unable to start container process: {message}")]
pub struct LaunchError {
    /// The part that failed.
    pub stage: Stage,
    /// What happened, in one line.
    pub message: String,
    /// The exit code that `docker run` gives: 125, 126 or 127.
    pub exit_code: u8,
}

impl LaunchError {
    /// A failure that is not the program's: exit code 125.
    pub fn new(stage: Stage, message: impl Into<String>) -> Self {
        Self {
            stage,
            message: message.into(),
            exit_code: 125,
        }
    }

    /// A failure to execute, with docker's exit code for it.
    pub fn exec(message: impl Into<String>, exit_code: u8) -> Self {
        Self {
            stage: Stage::Exec,
            message: message.into(),
            exit_code,
        }
    }
}

mod bytes_as_hex {
    //! Bytes as a hexadecimal string: JSON has no bytes, and an array of numbers is slow.
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "serde passes the field by reference")]
    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_str(&hex::encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| hex::decode(text).map_err(D::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launch_survives_its_journey() {
        let launch = Launch {
            spec: Spec::default(),
            root: Root::Path("/r".into()),
            user: Some(UserRequest {
                user: "a:b".into(),
                groups: vec!["c".into()],
            }),
            create_cwd: true,
            trace: true,
            seccomp: Some(vec![1, 2, 255]),
        };
        let text = serde_json::to_string(&launch).unwrap();
        let back: Launch = serde_json::from_str(&text).unwrap();
        assert_eq!(back.seccomp, launch.seccomp);
        assert_eq!(back.root, launch.root);
        assert_eq!(back.user, launch.user);
        assert_eq!(back.spec, launch.spec);
    }
}
