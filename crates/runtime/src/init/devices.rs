//! `/dev`: nodes, links, the console.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mknodat, statat,
        symlinkat,
    },
    io::Errno,
};

use super::mounts::{attach, clone_tree};
use crate::{
    failure::Context as _,
    in_root::{self, Create},
    launch::{LaunchError, Stage},
    plan::{DeviceKind, DevicePlan, Plan},
};

/// Makes the nodes and links, unless `/dev` is the host's.
pub(super) fn all(plan: &Plan, root: BorrowedFd<'_>) -> Result<(), LaunchError> {
    if plan.foreign_dev {
        return Ok(());
    }
    let dev = in_root::locate_or_create(root, Path::new("/dev"), Create::Directory)
        .at(Stage::Rootfs, "/dev")?;
    for device in &plan.devices {
        node(plan, root, dev.as_fd(), device)
            .at(Stage::Rootfs, format!("device {}", device.path.display()))?;
    }
    for (target, name) in LINKS {
        match symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).at(Stage::Rootfs, format!("link /dev/{name}")),
        }
    }
    Ok(())
}

const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

fn node(
    plan: &Plan,
    root: BorrowedFd<'_>,
    dev: BorrowedFd<'_>,
    device: &DevicePlan,
) -> io::Result<()> {
    // Nearly every node lies in /dev itself, which is open already.
    let (parent, name) = match device.path.strip_prefix("/dev") {
        Ok(name) if name.components().count() == 1 => (None, name.as_os_str().to_owned()),
        _ => {
            let (parent, name) = in_root::parent(root, &device.path)?;
            (Some(parent), name)
        }
    };
    let parent = parent.as_ref().map_or(dev, AsFd::as_fd);
    if plan.bind_devices {
        return bind(parent, Path::new(&name), &device.path);
    }
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let mode = Mode::from_raw_mode(device.mode);
    match mknodat(
        parent,
        &name,
        kind,
        mode,
        makedev(device.major, device.minor),
    ) {
        Ok(()) => {
            if device.uid != 0 || device.gid != 0 {
                let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
                chownat(
                    parent,
                    &name,
                    Some(uid),
                    Some(gid),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?;
            }
            if device.mode & 0o7000 != 0 {
                chmodat(parent, &name, mode, AtFlags::empty())?;
            }
            Ok(())
        }
        Err(Errno::EXIST) => {
            let stat = statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let same = FileType::from_raw_mode(stat.st_mode) == kind
                && stat.st_rdev == makedev(device.major, device.minor);
            if same {
                Ok(())
            } else {
                Err(Errno::EXIST.into())
            }
        }
        Err(Errno::PERM) => bind(parent, Path::new(&name), &device.path),
        Err(error) => Err(error.into()),
    }
}

/// The host's node, where none may be made.
fn bind(parent: BorrowedFd<'_>, name: &Path, host: &Path) -> io::Result<()> {
    let tree = clone_tree(CWD, host, false)?;
    match mknodat(
        parent,
        name,
        FileType::RegularFile,
        Mode::from_raw_mode(0o666),
        0,
    ) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let target = in_root::locate_plain(parent, name)?;
    attach(&tree, &target, Path::new(""))
}

/// Opens a terminal in the container's own `/dev/pts`: master and slave.
pub(super) fn open_terminal(root: BorrowedFd<'_>) -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::{
        fs::{OFlags, ResolveFlags, openat2},
        pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    };
    const DEVPTS_MAGIC: i64 = 0x1cd1;
    let master = openat2(
        root,
        "dev/pts/ptmx",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )?;
    if rustix::fs::fstatfs(&master)?.f_type != DEVPTS_MAGIC {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "/dev/pts is not a devpts",
        ));
    }
    unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, slave))
}

/// Puts the terminal at `/dev/console`.
pub(super) fn console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> io::Result<()> {
    let dev = in_root::locate_plain(root, Path::new("/dev"))?;
    match mknodat(
        &dev,
        "console",
        FileType::RegularFile,
        Mode::from_raw_mode(0o600),
        0,
    ) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    // A link there would lead the mount elsewhere (CVE-2025-52565).
    let target = in_root::locate_plain(&dev, Path::new("console"))?;
    attach(
        clone_tree(slave, Path::new(""), false)?,
        &target,
        Path::new(""),
    )
}
