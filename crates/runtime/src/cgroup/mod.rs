//! One cgroup, in the unified hierarchy (v2) or as one directory in each v1 hierarchy.

use std::path::{Path, PathBuf};

/// A container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Its path from the root of the hierarchy, such as `/berth/<id>`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
