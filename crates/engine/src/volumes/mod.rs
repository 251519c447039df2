//! Local volumes: directories under `volumes/<name>/_data`, filled from the image on first use.
//!
//! Refuses to know who uses a volume; callers say so. Other drivers come with their own issue.

mod copy_up;

use crate::clock;
use model::ErrorKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use store::{RecordError, Records};

const KIND: &str = "volumes";

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name; 64 hex digits if nobody named it.
    pub name: String,
    /// Made for one container.
    pub anonymous: bool,
    /// When it was made, nanoseconds since 1970.
    pub created_unix_ns: i64,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Why a volume cannot be made, filled or removed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The name cannot be a file name.
    #[error(
        "create {0}: \"{0}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use \
         absolute path"
    )]
    InvalidName(String),
    /// It is not there.
    #[error("get {0}: no such volume")]
    NotFound(String),
    /// Its record cannot be read or written.
    #[error("access the volume's record")]
    Record(#[from] RecordError),
    /// Its directory cannot be made or removed.
    #[error("access {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be filled from the image.
    #[error("fill volume {name} from the image")]
    CopyUp {
        /// The volume.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl VolumeError {
    /// Returns the sort of failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidName(_) => ErrorKind::InvalidParameter,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Record(_) | Self::Directory { .. } | Self::CopyUp { .. } => ErrorKind::Internal,
        }
    }
}

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Volumes {
    root: PathBuf,
    records: Records,
}

impl Volumes {
    pub(crate) fn new(data_root: &Path, records: Records) -> Self {
        Self {
            root: data_root.join("volumes"),
            records,
        }
    }

    /// Returns where a volume's data lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    /// Makes the volume if it is not there.
    ///
    /// # Errors
    /// If the name is invalid or the disk refuses.
    pub fn ensure(
        &self,
        name: &str,
        anonymous: bool,
        labels: &BTreeMap<String, String>,
    ) -> Result<Volume, VolumeError> {
        check_name(name)?;
        if let Some(volume) = self.records.get(KIND, name)? {
            return Ok(volume);
        }
        let path = self.path(name);
        std::fs::create_dir_all(&path).map_err(|source| VolumeError::Directory { path, source })?;
        let volume = Volume {
            name: name.to_owned(),
            anonymous,
            created_unix_ns: clock::unix_ns(),
            labels: labels.clone(),
        };
        self.records.put(KIND, name, &volume)?;
        Ok(volume)
    }

    /// Returns all volumes.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub fn list(&self) -> Result<Vec<Volume>, VolumeError> {
        let all = self.records.list::<Volume>(KIND)?;
        Ok(all.into_iter().map(|(_, volume)| volume).collect())
    }

    /// Returns one volume.
    ///
    /// # Errors
    /// If it is not there.
    pub fn get(&self, name: &str) -> Result<Volume, VolumeError> {
        let not_found = || VolumeError::NotFound(name.to_owned());
        check_name(name).map_err(|_| not_found())?;
        self.records.get(KIND, name)?.ok_or_else(not_found)
    }

    /// Removes a volume that nobody uses; one that is not there is fine.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn remove(&self, name: &str) -> Result<(), VolumeError> {
        check_name(name)?;
        let path = self.root.join(name);
        match std::fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(VolumeError::Directory { path, source });
            }
            _ => {}
        }
        Ok(self.records.remove(KIND, name)?)
    }

    /// Adds up the bytes of a volume's files. Reads the whole tree.
    #[must_use]
    pub fn size_bytes(&self, name: &str) -> u64 {
        let mut directories = vec![self.path(name)];
        let mut size_bytes = 0;
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                    Ok(metadata) => size_bytes += metadata.len(),
                    Err(_) => {}
                }
            }
        }
        size_bytes
    }

    /// Fills an empty volume with what the image has at `target`.
    ///
    /// # Errors
    /// If a file cannot be copied.
    pub(crate) fn copy_up(
        &self,
        name: &str,
        target: &str,
        layers_bottom_first: &[PathBuf],
    ) -> Result<(), VolumeError> {
        copy_up::copy_up(&self.path(name), target, layers_bottom_first).map_err(|source| {
            VolumeError::CopyUp {
                name: name.to_owned(),
                source,
            }
        })
    }
}

fn check_name(name: &str) -> Result<(), VolumeError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest && name.len() <= 255 {
        Ok(())
    } else {
        Err(VolumeError::InvalidName(name.chars().take(256).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["data", "a", "A.b-c_1"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-a", "_a", "a b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
