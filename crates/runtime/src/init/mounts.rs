//! Mounting: the root, what the document lists, masked and read-only paths.
//!
//! Every mount is first made detached, given its attributes, and then moved onto a descriptor
//! that was found beneath the root. So nothing is ever visible with the wrong attributes, and a
//! path inside the root is looked up once only.

use std::{
    fmt::Display,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
        open_tree,
    },
};
use sys::mount::{AttributeChange, set_attributes};

use crate::{
    failure::{Context as _, errno_text},
    in_root::{self, Create},
    launch::{LaunchError, Root, Stage},
    options::{Options, attribute},
    plan::{CgroupView, HierarchyView, MountPlan, Plan},
};

/// Mounts the root over `/`: unseen by this process, whose root lies beneath, and ready for
/// `pivot_root(2)`. Returns the root.
pub(super) fn root(plan: &Plan) -> Result<OwnedFd, LaunchError> {
    let tree = match &plan.root {
        Root::Path(path) => clone_tree(CWD, path, true)
            .at(Stage::Mount, format!("root file system {}", path.display()))?,
        Root::Overlay { lower, upper, .. } if lower.is_empty() => {
            clone_tree(CWD, upper, false).at(Stage::Mount, "root file system of no layers")?
        }
        Root::Overlay {
            lower,
            upper,
            work,
            volatile,
        } => overlay(plan, lower, upper, work, *volatile)?,
    };
    // A bind keeps its source's propagation, and pivot_root(2) refuses a shared root.
    let private = AttributeChange {
        propagation: crate::options::propagation::PRIVATE,
        ..AttributeChange::default()
    };
    attach(&tree, CWD, Path::new("/")).at(Stage::Mount, "attaching the root file system")?;
    set_attributes(&tree, &private, false)
        .at(Stage::Mount, "the root file system's propagation")?;
    Ok(tree)
}

fn overlay(
    plan: &Plan,
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    volatile: bool,
) -> Result<OwnedFd, LaunchError> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).at(Stage::Mount, "overlay")?;
    let set = |key: &str, path: &Path| {
        fsconfig_set_string(&fs, key, path)
            .map_err(|error| complaint(&fs, error))
            .at(Stage::Mount, format!("overlay {key}={}", path.display()))
    };
    for (index, layer) in lower.iter().enumerate() {
        match fsconfig_set_string(&fs, "lowerdir+", layer) {
            // Linux 6.5 to 6.7 know the interface, but cannot add layers one by one.
            Err(Errno::INVAL) if index == 0 && layer.is_dir() => {
                return overlay_by_mount(plan, lower, upper, work, volatile);
            }
            Err(_) => set("lowerdir+", layer)?,
            Ok(()) => {}
        }
    }
    set("upperdir", upper)?;
    set("workdir", work)?;
    for option in overlay_flags(plan, volatile) {
        fsconfig_set_flag(&fs, option).at(Stage::Mount, format!("overlay {option}"))?;
    }
    fsconfig_set_string(&fs, "source", "overlay").at(Stage::Mount, "overlay")?;
    match fsconfig_create(&fs) {
        Ok(()) => {}
        // Before Linux 6.5 the options are looked at only now, and `lowerdir+` is none of them.
        Err(Errno::INVAL) => return overlay_by_mount(plan, lower, upper, work, volatile),
        Err(error) => {
            let what = format!("overlay on {}", upper.display());
            return Err(complaint(&fs, error)).at(Stage::Mount, what);
        }
    }
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).at(Stage::Mount, "overlay")
}

fn overlay_flags(plan: &Plan, volatile: bool) -> impl Iterator<Item = &'static str> {
    let volatile = volatile.then_some("volatile");
    // Inside a user namespace there is no right to trusted.* attributes.
    volatile
        .into_iter()
        .chain(plan.new_user_namespace.then_some("userxattr"))
}

/// The old way takes at most a page of options, so each layer is named by a descriptor's number.
fn overlay_by_mount(
    plan: &Plan,
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    volatile: bool,
) -> Result<OwnedFd, LaunchError> {
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .at(Stage::Mount, format!("overlay layer {}", path.display()))
    };
    let layers: Vec<OwnedFd> = lower
        .iter()
        .map(|path| open(path))
        .collect::<Result<_, _>>()?;
    let name = |fd: &OwnedFd| fd_number(fd.as_fd());
    let (upper_fd, work) = (open(upper)?, open(work)?);
    rustix::process::chdir("/proc/self/fd").at(Stage::Mount, "/proc/self/fd")?;
    let mut data = format!(
        "lowerdir={},upperdir={},workdir={}",
        layers.iter().map(name).collect::<Vec<_>>().join(":"),
        name(&upper_fd),
        name(&work)
    );
    for option in overlay_flags(plan, volatile) {
        data.push(',');
        data.push_str(option);
    }
    let data = std::ffi::CString::new(data).at(Stage::Mount, "overlay")?;
    let flags = MountFlags::empty();
    rustix::mount::mount("overlay", upper, "overlay", flags, data.as_c_str())
        .at(Stage::Mount, format!("overlay on {}", upper.display()))?;
    // Taken off again at once: the caller attaches it where it belongs. Found by its path, since a
    // descriptor's name leads beneath what is mounted there.
    let mounted = clone_tree(CWD, upper, false).at(Stage::Mount, "overlay")?;
    rustix::mount::unmount(upper, rustix::mount::UnmountFlags::DETACH)
        .at(Stage::Mount, "overlay")?;
    rustix::process::chdir("/").at(Stage::Mount, "/")?;
    Ok(mounted)
}

fn fd_number(fd: BorrowedFd<'_>) -> String {
    // The number is only ever a name beneath /proc/self/fd.
    std::os::fd::AsRawFd::as_raw_fd(&fd).to_string()
}

/// What the kernel wrote into the file-system context says more than the error number.
fn complaint(fs: &OwnedFd, error: Errno) -> io::Error {
    let mut buffer = [0; 512];
    match rustix::io::read(fs, &mut buffer) {
        Ok(count) if count > 2 => {
            let text = String::from_utf8_lossy(buffer.get(2..count).unwrap_or_default());
            let reason = errno_text(&error.into());
            io::Error::other(format!("{reason} ({})", text.trim()))
        }
        _ => error.into(),
    }
}

/// Carries out every mount of the plan, in order.
pub(super) fn all(plan: &Plan, root: BorrowedFd<'_>) -> Result<(), LaunchError> {
    for mount in &plan.mounts {
        one(plan, root, mount).map_err(|reason| {
            let source = mount.source.as_deref().unwrap_or(Path::new(&mount.kind));
            LaunchError::new(
                Stage::Mount,
                format!(
                    "error mounting {:?} to rootfs at {:?}: {reason}",
                    source.display().to_string(),
                    mount.destination.display().to_string()
                ),
            )
        })?;
    }
    Ok(())
}

/// A reason in words, for the one place that knows source and destination.
struct Reason(String);

impl Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Into<io::Error>> From<E> for Reason {
    fn from(error: E) -> Self {
        Self(errno_text(&error.into()))
    }
}

fn one(plan: &Plan, root: BorrowedFd<'_>, mount: &MountPlan) -> Result<(), Reason> {
    if let Some(recursive) = mount.options.bind {
        return bind(root, mount, recursive);
    }
    match mount.kind.as_str() {
        "cgroup" | "cgroup2" => cgroup(plan, root, mount),
        _ => new(root, mount),
    }
}

fn bind(root: BorrowedFd<'_>, mount: &MountPlan, recursive: bool) -> Result<(), Reason> {
    let source = mount
        .source
        .as_deref()
        .ok_or_else(|| Reason("no source".into()))?;
    let tree = clone_tree(CWD, source, recursive)?;
    let directory = in_root::is_directory(tree.as_fd())?;
    let create = if directory {
        Create::Directory
    } else {
        Create::File
    };
    let target = in_root::locate_or_create(root, &mount.destination, create)?;
    if in_root::is_directory(target.as_fd())? != directory {
        return Err(Reason(
            "not a directory: Are you trying to mount a directory onto a file (or \
            vice-versa)? Check if the specified host path exists and is the expected type"
                .into(),
        ));
    }
    finish(&tree, target.as_fd(), &mount.options)
}

/// Sets attributes and propagation, and puts the tree in its place.
fn finish(tree: &OwnedFd, target: BorrowedFd<'_>, options: &Options) -> Result<(), Reason> {
    let own = AttributeChange {
        set: options.set,
        clear: options.clear,
        propagation: 0,
    };
    if !own.is_empty() {
        set_attributes(tree, &own, false)?;
    }
    let all = AttributeChange {
        set: options.set_recursive,
        clear: options.clear_recursive,
        propagation: 0,
    };
    if !all.is_empty() {
        set_attributes(tree, &all, true)?;
    }
    attach(tree, target, Path::new(""))?;
    if let Some((propagation, recursive)) = options.propagation {
        let change = AttributeChange {
            propagation,
            ..AttributeChange::default()
        };
        set_attributes(tree, &change, recursive)?;
    }
    Ok(())
}

/// A new file system: tmpfs, proc, sysfs, devpts, mqueue, …
fn new(root: BorrowedFd<'_>, mount: &MountPlan) -> Result<(), Reason> {
    // Where these two lie is what masked paths and sysctls rely on: a link there is an attack.
    let kernel = matches!(mount.kind.as_str(), "proc" | "sysfs");
    let target = match in_root::locate_plain(root, &mount.destination) {
        Err(error) if error.kind() == io::ErrorKind::NotFound || !kernel => {
            in_root::locate_or_create(root, &mount.destination, Create::Directory)?
        }
        Err(_) => return Err(Reason("must be an ordinary directory".into())),
        Ok(target) => target,
    };
    let tree = make(&mount.kind, mount.source.as_deref(), &mount.options)?;
    if mount.options.copy_up && mount.kind == "tmpfs" {
        super::copy_up::fill(target.as_fd(), tree.as_fd())?;
    }
    let options = Options {
        set: 0,
        clear: 0,
        ..mount.options.clone()
    };
    if mount.options.copy_up && mount.options.set & attribute::RDONLY != 0 {
        let read_only = AttributeChange {
            set: attribute::RDONLY,
            ..AttributeChange::default()
        };
        set_attributes(&tree, &read_only, false)?;
    }
    finish(&tree, target.as_fd(), &options)
}

/// Makes a detached file system with its attributes.
fn make(kind: &str, source: Option<&Path>, options: &Options) -> Result<OwnedFd, Reason> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(source) = source {
        fsconfig_set_string(&fs, "source", source)?;
    }
    for (key, value) in &options.parameters {
        let set = match value {
            Some(value) => fsconfig_set_string(&fs, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(&fs, key.as_str()),
        };
        set.map_err(|error| complaint(&fs, error))?;
    }
    fsconfig_create(&fs).map_err(|error| complaint(&fs, error))?;
    let mut attributes = options.set;
    if options.copy_up {
        attributes &= !attribute::RDONLY;
    }
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn cgroup(plan: &Plan, root: BorrowedFd<'_>, mount: &MountPlan) -> Result<(), Reason> {
    let view = &plan.cgroups;
    let target = in_root::locate_or_create(root, &mount.destination, Create::Directory)?;
    let options = Options {
        parameters: Vec::new(),
        ..mount.options.clone()
    };
    if let Some(unified) = &view.unified {
        let tree = if plan.new_cgroup_namespace {
            let attributes = Options {
                parameters: mount.options.parameters.clone(),
                ..options
            };
            return Ok(attach(
                &make("cgroup2", None, &attributes)?,
                &target,
                Path::new(""),
            )?);
        } else {
            clone_tree(CWD, &below(unified, &view.path), true)?
        };
        return finish(&tree, target.as_fd(), &options);
    }
    hierarchies(plan, view, target.as_fd(), &options)
}

/// cgroup v1: a tmpfs with one directory per hierarchy, as every v1 system has it.
fn hierarchies(
    plan: &Plan,
    view: &CgroupView,
    target: BorrowedFd<'_>,
    options: &Options,
) -> Result<(), Reason> {
    let tmpfs = Options {
        set: options.set & !attribute::RDONLY,
        parameters: vec![("mode".into(), Some("755".into()))],
        ..Options::default()
    };
    let tree = make("tmpfs", Some(Path::new("tmpfs")), &tmpfs)?;
    for HierarchyView { name, .. } in &view.hierarchies {
        rustix::fs::mkdirat(&tree, name.as_str(), Mode::from_raw_mode(0o755))?;
        for part in name.split(',').filter(|part| *part != name.as_str()) {
            rustix::fs::symlinkat(name.as_str(), &tree, part)?;
        }
    }
    attach(&tree, target, Path::new(""))?;
    for hierarchy in &view.hierarchies {
        let inner = if plan.new_cgroup_namespace {
            let parameter = match hierarchy.selector.split_once('=') {
                Some((key, value)) => vec![
                    // The one hierarchy without controllers has to say so.
                    ("none".to_owned(), None),
                    (key.to_owned(), Some(value.to_owned())),
                ],
                None => hierarchy
                    .selector
                    .split(',')
                    .map(|word| (word.to_owned(), None))
                    .collect(),
            };
            make(
                "cgroup",
                None,
                &Options {
                    parameters: parameter,
                    ..options.clone()
                },
            )?
        } else {
            let inner = clone_tree(CWD, &below(&hierarchy.mount_point, &view.path), true)?;
            let change = AttributeChange {
                set: options.set,
                ..AttributeChange::default()
            };
            set_attributes(&inner, &change, true)?;
            inner
        };
        attach(&inner, &tree, Path::new(&hierarchy.name))?;
    }
    if options.set & attribute::RDONLY != 0 {
        let change = AttributeChange {
            set: attribute::RDONLY,
            ..AttributeChange::default()
        };
        set_attributes(&tree, &change, false)?;
    }
    Ok(())
}

fn below(mount_point: &Path, path: &Path) -> PathBuf {
    mount_point.join(path.strip_prefix("/").unwrap_or(path))
}

/// Hides paths: a file behind `/dev/null`, a directory behind an empty read-only tmpfs.
pub(super) fn mask(root: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<(), LaunchError> {
    if paths.is_empty() {
        return Ok(());
    }
    let mut covers = Covers::default();
    for path in paths {
        let masked = mask_one(root, path, &mut covers);
        masked.at(Stage::Rootfs, format!("masking {}", path.display()))?;
    }
    Ok(())
}

/// What hides paths, made at the first need. Only an attached mount can be copied, so the first
/// one of each is what the others are copies of.
#[derive(Default)]
struct Covers {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

fn mask_one(root: BorrowedFd<'_>, path: &Path, covers: &mut Covers) -> io::Result<()> {
    let target = match in_root::locate(root, path) {
        Ok(target) => target,
        Err(error) if absent(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let (cover, make): (_, fn() -> io::Result<OwnedFd>) = if in_root::is_directory(target.as_fd())?
    {
        (&mut covers.empty, empty_directory)
    } else {
        (&mut covers.null, sealed_null)
    };
    let tree = match cover {
        Some(first) => clone_tree(first.as_fd(), Path::new(""), false)?,
        None => make()?,
    };
    attach(&tree, &target, Path::new(""))?;
    cover.get_or_insert(tree);
    Ok(())
}

/// The host's `/dev/null`, mounted so that its owner, mode and times cannot be changed: the inode
/// is the host's. Reading and writing a device needs no writable mount.
fn sealed_null() -> io::Result<OwnedFd> {
    let tree = clone_tree(host_null()?, Path::new(""), false)?;
    let change = AttributeChange {
        set: attribute::RDONLY | attribute::NOSUID | attribute::NOEXEC,
        ..AttributeChange::default()
    };
    set_attributes(&tree, &change, false)?;
    Ok(tree)
}

fn empty_directory() -> io::Result<OwnedFd> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", "tmpfs")?;
    fsconfig_set_string(&fs, "size", "0k")?;
    fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The host's `/dev/null`, and nothing that merely has its name (CVE-2025-31133).
fn host_null() -> io::Result<OwnedFd> {
    let null = rustix::fs::open(
        "/dev/null",
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let stat = rustix::fs::fstat(&null)?;
    let character =
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice;
    if character && stat.st_rdev == rustix::fs::makedev(1, 3) {
        Ok(null)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "is not the null device",
        ))
    }
}

/// Makes paths read-only, with everything mounted beneath.
pub(super) fn read_only(root: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<(), LaunchError> {
    for path in paths {
        read_only_one(root, path).at(
            Stage::Rootfs,
            format!("making {} read-only", path.display()),
        )?;
    }
    Ok(())
}

fn read_only_one(root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let target = match in_root::locate(root, path) {
        Ok(target) => target,
        Err(error) if absent(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let tree = clone_tree(target.as_fd(), Path::new(""), true)?;
    let change = AttributeChange {
        set: attribute::RDONLY,
        ..AttributeChange::default()
    };
    set_attributes(&tree, &change, true)?;
    attach(&tree, &target, Path::new(""))
}

fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// A detached copy of the mount at a path; the empty path means `from` itself.
pub(crate) fn clone_tree(from: impl AsFd, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(from.as_fd(), path, flags)?)
}

/// Attaches a detached tree at a path; the empty path means `to` itself.
pub(super) fn attach(tree: impl AsFd, to: impl AsFd, path: &Path) -> io::Result<()> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if path.as_os_str().is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    Ok(move_mount(tree.as_fd(), "", to.as_fd(), path, flags)?)
}
