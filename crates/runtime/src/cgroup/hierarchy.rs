//! Which hierarchies this machine has, and where.

use std::{
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// How the machine mounts its controllers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// cgroup v2 alone, mounted here.
    Unified(PathBuf),
    /// v1, or v1 with an empty v2 beside it ("hybrid").
    Split(Vec<Hierarchy>),
}

/// One v1 hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// `cpu`, `memory`, …; or `name=systemd`.
    pub(crate) controllers: Vec<String>,
    pub(crate) mount_point: PathBuf,
}

/// Words among a v1 mount's options that are no controllers.
const NOT_CONTROLLERS: [&str; 9] = [
    "rw",
    "ro",
    "noprefix",
    "clone_children",
    "xattr",
    "cpuset_v2_mode",
    "favordynmods",
    "nofavordynmods",
    "none",
];

impl Layout {
    /// Reads it once per process: it does not change under a running machine.
    pub(crate) fn get() -> io::Result<&'static Self> {
        static LAYOUT: OnceLock<Layout> = OnceLock::new();
        if let Some(layout) = LAYOUT.get() {
            return Ok(layout);
        }
        let text = std::fs::read_to_string("/proc/self/mountinfo")?;
        let layout = Self::parse(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted")
        })?;
        Ok(LAYOUT.get_or_init(|| layout))
    }

    fn parse(mountinfo: &str) -> Option<Self> {
        let mut unified = None;
        let mut split: Vec<Hierarchy> = Vec::new();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount_point) = left.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") if unified.is_none() => unified = Some(mount_point),
                Some("cgroup") => {
                    let options = right.nth(1).unwrap_or_default();
                    let controllers: Vec<String> = options
                        .split(',')
                        .filter(|word| {
                            !NOT_CONTROLLERS.contains(word) && !word.starts_with("release_agent=")
                        })
                        .map(str::to_owned)
                        .collect();
                    // The same hierarchy may be mounted twice; the first is as good.
                    if !split.iter().any(|known| known.controllers == controllers) {
                        split.push(Hierarchy {
                            controllers,
                            mount_point,
                        });
                    }
                }
                _ => {}
            }
        }
        if split.is_empty() {
            unified.map(Self::Unified)
        } else {
            Some(Self::Split(split))
        }
    }

    pub(crate) fn mount_points(&self) -> impl Iterator<Item = &Path> {
        let (unified, split) = match self {
            Self::Unified(mount) => (Some(mount.as_path()), &[][..]),
            Self::Split(hierarchies) => (None, &hierarchies[..]),
        };
        unified.into_iter().chain(
            split
                .iter()
                .map(|hierarchy| hierarchy.mount_point.as_path()),
        )
    }

    /// Where a controller's files are.
    pub(crate) fn mount_of(&self, controller: &str) -> Option<&Path> {
        match self {
            Self::Unified(mount) => Some(mount),
            Self::Split(hierarchies) => hierarchies
                .iter()
                .find(|hierarchy| hierarchy.has(controller))
                .map(|hierarchy| hierarchy.mount_point.as_path()),
        }
    }
}

impl Hierarchy {
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|known| known == controller)
    }

    /// The name of its directory beneath `/sys/fs/cgroup`.
    pub(crate) fn directory_name(&self) -> String {
        self.controllers
            .join(",")
            .trim_start_matches("name=")
            .to_owned()
    }

    /// What names it to mount(2).
    pub(crate) fn selector(&self) -> String {
        self.controllers.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_means_v1() {
        let layout = Layout::parse(HYBRID).unwrap();
        assert_eq!(
            layout.mount_of("memory"),
            Some(Path::new("/sys/fs/cgroup/memory"))
        );
        assert_eq!(
            layout.mount_of("cpuacct"),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct"))
        );
        assert_eq!(layout.mount_of("pids"), None);
        assert_eq!(layout.mount_points().count(), 3);
        let Layout::Split(hierarchies) = layout else {
            panic!("v1")
        };
        assert_eq!(hierarchies[2].selector(), "name=systemd");
        assert_eq!(hierarchies[2].directory_name(), "systemd");
    }

    #[test]
    fn unified_alone_means_v2() {
        let line = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let layout = Layout::parse(line).unwrap();
        assert_eq!(layout, Layout::Unified("/sys/fs/cgroup".into()));
        assert_eq!(Layout::parse("1 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
