//! One cgroup: a directory in the unified hierarchy (v2), or one in each v1 hierarchy.
//!
//! ```text
//! v2   /sys/fs/cgroup/<parent>/<id>
//! v1   /sys/fs/cgroup/{memory,cpu,pids,…,systemd}/<parent>/<id>
//! ```
//!
//! Attaching a process to v1 cgroups can wait for an RCU grace period (10 ms and more), a fork
//! inherits them for nothing, and a v1 directory may be renamed. So a pool attaches its waiting
//! processes beforehand and renames later. With v2 a process is cloned into its cgroup.

mod devices;
mod hierarchy;
mod limits;
mod stats;

use std::{
    fmt::Display,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use oci_spec::runtime::LinuxResources;

pub(crate) use hierarchy::Layout;
pub use stats::{BlockIoEntry, CgroupStats, CpuStats, MemoryStats, PidsStats};

use crate::{
    failure::errno_text,
    plan::{CgroupView, HierarchyView},
};

/// Why something could not be done to a cgroup.
#[derive(Debug, thiserror::Error)]
#[error("{step} {path}: {}", errno_text(source))]
pub struct CgroupError {
    /// What was tried, such as `write 42 to`.
    step: String,
    /// Where.
    path: PathBuf,
    /// Why not.
    #[source]
    source: io::Error,
}

impl CgroupError {
    fn new(step: impl Into<String>, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self {
            step: step.into(),
            path: path.into(),
            source,
        }
    }
}

/// A container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
    layout: &'static Layout,
}

impl Cgroup {
    /// A cgroup by its path from the root of the hierarchy, such as `/berth/<id>`. Touches nothing.
    pub fn at(path: &Path) -> Result<Self, CgroupError> {
        let layout = Layout::get()
            .map_err(|error| CgroupError::new("read", "/proc/self/mountinfo", error))?;
        Ok(Self {
            path: clean(path),
            layout,
        })
    }

    /// Makes its directories; one that is there already is used as it is.
    pub fn create(path: &Path) -> Result<Self, CgroupError> {
        let cgroup = Self::at(path)?;
        match cgroup.layout {
            Layout::Unified(mount) => cgroup.create_unified(mount)?,
            Layout::Split(hierarchies) => {
                for hierarchy in hierarchies {
                    let cpuset = hierarchy.has("cpuset");
                    make_directories(&hierarchy.mount_point, &cgroup.path, |directory| {
                        if cpuset {
                            inherit_cpuset(directory)
                        } else {
                            Ok(())
                        }
                    })?;
                }
            }
        }
        Ok(cgroup)
    }

    fn create_unified(&self, mount: &Path) -> Result<(), CgroupError> {
        // A controller is available in a directory when every one above hands it down.
        hand_down_controllers(mount);
        make_directories(mount, &self.path, |directory| {
            if directory != self.directory_in(mount) {
                hand_down_controllers(directory);
            }
            Ok(())
        })
    }

    /// Its path from the root of the hierarchy, such as `/berth/<id>`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the machine has cgroup v2 alone.
    pub fn is_unified(&self) -> bool {
        matches!(self.layout, Layout::Unified(_))
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.directories().any(|directory| directory.is_dir())
    }

    fn directory_in(&self, mount: &Path) -> PathBuf {
        mount.join(self.path.strip_prefix("/").unwrap_or(&self.path))
    }

    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        self.layout
            .mount_points()
            .map(|mount| self.directory_in(mount))
    }

    /// The directory that holds a controller's files, when that controller is there.
    fn controller(&self, name: &str) -> Option<PathBuf> {
        self.layout
            .mount_of(name)
            .map(|mount| self.directory_in(mount))
    }

    /// The directory whose list of processes is the whole container's.
    fn main_directory(&self) -> Option<PathBuf> {
        ["freezer", "pids", "memory"]
            .iter()
            .find_map(|name| self.controller(name))
            .or_else(|| self.directories().next())
    }

    /// A descriptor for `CLONE_INTO_CGROUP`; only v2 has it.
    pub(crate) fn clone_target(&self) -> Result<Option<OwnedFd>, CgroupError> {
        use rustix::fs::{Mode, OFlags, open};
        let Layout::Unified(mount) = self.layout else {
            return Ok(None);
        };
        let directory = self.directory_in(mount);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(&directory, flags, Mode::empty())
            .map(Some)
            .map_err(|error| CgroupError::new("open", directory, error.into()))
    }

    /// Puts a process into it.
    pub fn join(&self, pid: i32) -> Result<(), CgroupError> {
        self.directories()
            .try_for_each(|directory| write(&directory.join("cgroup.procs"), pid))
    }

    /// Sets limits. A limit whose controller is missing is refused by name.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        limits::apply(self, resources)
    }

    /// Gives a v1 cgroup another name beside its old one. v2 has no renaming.
    pub fn rename(&mut self, path: &Path) -> Result<(), CgroupError> {
        let to = Self {
            path: clean(path),
            layout: self.layout,
        };
        if to.path == self.path {
            return Ok(());
        }
        if self.is_unified() || to.path.parent() != self.path.parent() {
            let error = io::Error::from(io::ErrorKind::CrossesDevices);
            return Err(CgroupError::new("rename", &self.path, error));
        }
        for (old, new) in self.directories().zip(to.directories()) {
            rustix::fs::rename(&old, &new)
                .map_err(|error| CgroupError::new("rename", old, error.into()))?;
        }
        self.path = to.path;
        Ok(())
    }

    /// The processes in it and beneath, as the caller sees them.
    pub fn procs(&self) -> Result<Vec<i32>, CgroupError> {
        let Some(directory) = self.main_directory() else {
            return Ok(Vec::new());
        };
        let mut pids = Vec::new();
        collect_procs(&directory, &mut pids)?;
        Ok(pids)
    }

    /// Stops everything in it until [`Cgroup::thaw`].
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen(true)
    }

    /// Lets everything in it go on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        if self.is_unified() {
            return self
                .read("freezer", "cgroup.freeze")
                .is_some_and(|text| text.trim() == "1");
        }
        self.read("freezer", "freezer.state")
            .is_some_and(|text| text.trim() != "THAWED")
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        let directory = self
            .controller("freezer")
            .ok_or_else(|| self.missing("freezer"))?;
        if self.is_unified() {
            return write(&directory.join("cgroup.freeze"), u8::from(frozen));
        }
        let file = directory.join("freezer.state");
        let wanted = if frozen { "FROZEN" } else { "THAWED" };
        // Freezing takes effect when every task has noticed; asking again pushes it on.
        for _ in 0..FREEZE_TRIES {
            write(&file, wanted)?;
            if self
                .read("freezer", "freezer.state")
                .is_some_and(|text| text.trim() == wanted)
            {
                return Ok(());
            }
            pause(Duration::from_millis(2));
        }
        let error = io::Error::from(io::ErrorKind::TimedOut);
        Err(CgroupError::new(format!("write {wanted} to"), file, error))
    }

    /// Kills everything in it and beneath.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if let Layout::Unified(mount) = self.layout {
            let file = self.directory_in(mount).join("cgroup.kill");
            match write(&file, 1) {
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        // What is frozen cannot die, and what runs can fork: kill until nobody is left.
        for _ in 0..KILL_TRIES {
            let pids = match self.procs() {
                Ok(pids) if pids.is_empty() => return Ok(()),
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(()),
                result => result?,
            };
            for pid in pids {
                // Gone already is as good.
                drop(sys::process::kill(pid, 9));
            }
            drop(self.thaw());
            pause(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Removes its directories and those beneath. What is gone already is no error.
    ///
    /// # Errors
    /// While processes are in it. A zombie counts, so this tries again for a moment.
    pub fn remove(&self) -> Result<(), CgroupError> {
        self.directories().try_for_each(|directory| {
            for wait in REMOVE_WAITS {
                match remove_tree(&directory) {
                    Err(error) if error.source.kind() == io::ErrorKind::ResourceBusy => {
                        pause(wait);
                    }
                    result => return result,
                }
            }
            remove_tree(&directory)
        })
    }

    /// How often the kernel killed something in it for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = if self.is_unified() {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = self.read("memory", file).unwrap_or_default();
        stats::field(&text, "oom_kill").unwrap_or(0)
    }

    /// What it uses.
    pub fn stats(&self) -> Result<CgroupStats, CgroupError> {
        stats::read(self)
    }

    /// How a container in it sees cgroups.
    pub(crate) fn view(&self) -> CgroupView {
        let path = self.path.clone();
        match self.layout {
            Layout::Unified(mount) => CgroupView {
                unified: Some(mount.clone()),
                hierarchies: Vec::new(),
                path,
            },
            Layout::Split(hierarchies) => {
                let hierarchies = hierarchies.iter().map(|hierarchy| HierarchyView {
                    name: hierarchy.directory_name(),
                    selector: hierarchy.selector(),
                    mount_point: hierarchy.mount_point.clone(),
                });
                CgroupView {
                    unified: None,
                    hierarchies: hierarchies.collect(),
                    path,
                }
            }
        }
    }

    fn read(&self, controller: &str, file: &str) -> Option<String> {
        std::fs::read_to_string(self.controller(controller)?.join(file)).ok()
    }

    fn missing(&self, controller: &str) -> CgroupError {
        let error = io::Error::new(io::ErrorKind::Unsupported, "this machine does not have it");
        CgroupError::new(
            format!("cgroup controller {controller} for"),
            &self.path,
            error,
        )
    }
}

/// Freezing a busy container takes some rounds; runc allows 500 ms as well.
const FREEZE_TRIES: usize = 250;
/// A fork bomb loses against this many rounds; init's death ends a pid namespace in one.
const KILL_TRIES: usize = 100;
/// Together about a second.
const REMOVE_WAITS: [Duration; 8] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
];

/// systemd's `slice:prefix:name` → a directory, else the path as it is.
pub(crate) fn directory_of(cgroups_path: &Path, id: &str) -> PathBuf {
    let text = cgroups_path.to_string_lossy();
    match text.split(':').collect::<Vec<_>>()[..] {
        [slice, prefix, name] => {
            let slice = if slice.is_empty() {
                "system.slice"
            } else {
                slice
            };
            // `a-b.slice` lies in `a.slice`.
            let mut path = PathBuf::from("/");
            let stem = slice.strip_suffix(".slice").unwrap_or(slice);
            let mut so_far = String::new();
            for part in stem.split('-').filter(|part| !part.is_empty()) {
                if !so_far.is_empty() {
                    so_far.push('-');
                }
                so_far.push_str(part);
                path.push(format!("{so_far}.slice"));
            }
            path.join(format!("{prefix}-{name}.scope"))
        }
        _ if text.is_empty() => Path::new("/berth").join(id),
        _ => clean(cgroups_path),
    }
}

/// An absolute path without `.` and `..`: nothing leaves the hierarchy.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::RootDir
            | std::path::Component::CurDir
            | std::path::Component::Prefix(_) => {}
        }
    }
    clean
}

fn make_directories(
    mount: &Path,
    path: &Path,
    mut each: impl FnMut(&Path) -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    let mut directory = mount.to_owned();
    for name in path.strip_prefix("/").unwrap_or(path) {
        directory.push(name);
        match rustix::fs::mkdir(&directory, rustix::fs::Mode::from_raw_mode(0o755)) {
            Ok(()) => each(&directory)?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(CgroupError::new("mkdir", directory, error.into())),
        }
    }
    Ok(())
}

/// A v1 cpuset starts empty, and an empty one takes no process.
fn inherit_cpuset(directory: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let above = directory.parent().unwrap_or(directory).join(file);
        let value = std::fs::read_to_string(&above)
            .map_err(|error| CgroupError::new("read", above, error))?;
        write(&directory.join(file), value.trim())?;
    }
    Ok(())
}

fn hand_down_controllers(directory: &Path) {
    let available = std::fs::read_to_string(directory.join("cgroup.controllers"));
    for controller in available.unwrap_or_default().split_whitespace() {
        // One by one, because one refused would take the others with it. A limit that needs a
        // refused one says so itself.
        drop(write(
            &directory.join("cgroup.subtree_control"),
            format!("+{controller}"),
        ));
    }
}

fn collect_procs(directory: &Path, pids: &mut Vec<i32>) -> Result<(), CgroupError> {
    let file = directory.join("cgroup.procs");
    let text =
        std::fs::read_to_string(&file).map_err(|error| CgroupError::new("read", file, error))?;
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(directory) {
        collect_procs(&child, pids)?;
    }
    Ok(())
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(directory: &Path) -> Result<(), CgroupError> {
    let remove = || rustix::fs::rmdir(directory);
    let result = match remove() {
        // Busy may mean that the container made cgroups of its own in it.
        Err(rustix::io::Errno::BUSY) => {
            children(directory)
                .iter()
                .try_for_each(|child| remove_tree(child))?;
            remove()
        }
        result => result,
    };
    match result {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(CgroupError::new("rmdir", directory, error.into())),
    }
}

/// Writes one value, in one write(2) as the kernel wants it.
fn write(file: &Path, value: impl Display) -> Result<(), CgroupError> {
    use rustix::fs::{Mode, OFlags, open};
    let value = value.to_string();
    open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|fd| rustix::io::write(&fd, value.as_bytes()))
        .map(drop)
        .map_err(|error| CgroupError::new(format!("write {value:?} to"), file, error.into()))
}

/// There is no event to wait for in v1, so this waits for time.
fn pause(time: Duration) {
    let time = rustix::event::Timespec::try_from(time).ok();
    rustix::event::poll(&mut [], time.as_ref()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_paths_become_directories() {
        let check = |path: &str, directory: &str| {
            assert_eq!(
                directory_of(Path::new(path), "id"),
                Path::new(directory),
                "{path}"
            );
        };
        check(
            "machine.slice:libpod:abc",
            "/machine.slice/libpod-abc.scope",
        );
        check(
            "a-b-c.slice:x:y",
            "/a.slice/a-b.slice/a-b-c.slice/x-y.scope",
        );
        check(":x:y", "/system.slice/x-y.scope");
        check("/berth/abc", "/berth/abc");
        check("../../x", "/x");
        check("", "/berth/id");
    }
}
