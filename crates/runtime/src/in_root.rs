//! Opening and creating places beneath a root that its owner may have filled with traps.
//!
//! Every look-up goes through openat2(2) with `RESOLVE_IN_ROOT`, so `..` and absolute links stay
//! inside, and never through magic links (`/proc/self/fd/…`), which lead anywhere (CVE-2024-21626,
//! CVE-2025-31133 and their kin). What is found is a descriptor; nobody joins paths and hopes.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat},
    io::Errno,
};

/// What to create where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Create {
    Directory,
    File,
}

/// As many links as the kernel itself follows.
const MAX_LINKS: usize = 40;

/// Opens a place as a path descriptor (`O_PATH`), following links inside the root.
pub(crate) fn locate(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    open(
        root,
        path,
        OFlags::PATH,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Opens a place as a path descriptor, refusing any link on the way.
pub(crate) fn locate_plain(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    open(
        root,
        path,
        OFlags::PATH,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )
}

/// Reads a small text file; a missing one is empty.
pub(crate) fn read_text(root: impl AsFd, path: &Path) -> io::Result<String> {
    let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // NONBLOCK: an image may have put a FIFO there.
    let file = match open(root, path, OFlags::RDONLY | OFlags::NONBLOCK, flags) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(
        &mut io::Read::take(std::fs::File::from(file), 4 << 20),
        &mut bytes,
    )?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn open(root: impl AsFd, path: &Path, how: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    loop {
        match openat2(
            root.as_fd(),
            path,
            how | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        ) {
            // A rename somewhere raced with a `..` on the way; the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result.map_err(Into::into),
        }
    }
}

/// Opens a place, creating what is missing of it, dangling links followed inside the root.
pub(crate) fn locate_or_create(
    root: impl AsFd,
    path: &Path,
    create: Create,
) -> io::Result<OwnedFd> {
    match locate(root.as_fd(), path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let mut todo: VecDeque<OsString> = names(path).collect();
    let mut resolved = PathBuf::new();
    let mut here = locate(root.as_fd(), Path::new("."))?;
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            resolved.pop();
            here = locate_plain(root.as_fd(), &resolved)?;
            continue;
        }
        let last = todo.is_empty();
        let kind = if last { create } else { Create::Directory };
        let found = match openat(
            &here,
            &name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Err(Errno::NOENT) => make(here.as_fd(), &name, kind)?,
            result => result?,
        };
        if is_link(found.as_fd())? {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = readlinkat(&found, "", Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                resolved = PathBuf::new();
                here = locate(root.as_fd(), Path::new("."))?;
            }
            for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                todo.push_front(name);
            }
            continue;
        }
        resolved.push(&name);
        // Again through the root: `here/name` may be a mount point, and may have been swapped.
        here = locate_plain(root.as_fd(), &resolved)?;
    }
    Ok(here)
}

/// Opens (creating it) the directory that holds `path`, and says the last name.
pub(crate) fn parent(root: impl AsFd, path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_owned();
    let directory = path.parent().unwrap_or(Path::new("/"));
    Ok((locate_or_create(root, directory, Create::Directory)?, name))
}

/// Whether a descriptor is of a directory.
pub(crate) fn is_directory(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(file_type(fd)? == FileType::Directory)
}

fn is_link(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(file_type(fd)? == FileType::Symlink)
}

fn file_type(fd: BorrowedFd<'_>) -> io::Result<FileType> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn make(here: BorrowedFd<'_>, name: &OsString, create: Create) -> io::Result<OwnedFd> {
    let made = match create {
        Create::Directory => mkdirat(here, name, Mode::from_raw_mode(0o755)),
        Create::File => openat(
            here,
            name,
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY,
            Mode::from_raw_mode(0o755),
        )
        .map(drop),
    };
    match made {
        // Someone was faster; what is there now is judged like anything else.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(here, name, flags, Mode::empty())?)
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let fd = rustix::fs::open(&root, OFlags::PATH, Mode::empty()).unwrap();
        (directory, fd)
    }

    #[test]
    fn creates_through_dangling_links_inside_only() {
        let (directory, fd) = root();
        let at = |path: &str| directory.path().join("root").join(path);
        symlink("/../../run/x", at("link")).unwrap();
        locate_or_create(&fd, Path::new("/link/y"), Create::File).unwrap();
        assert!(at("run/x/y").is_file());
        assert!(!directory.path().join("run").exists());
        locate_or_create(&fd, Path::new("../../../a/../b"), Create::Directory).unwrap();
        assert!(at("b").is_dir());
    }

    #[test]
    fn refuses_loops_and_magic_links() {
        let (directory, fd) = root();
        symlink("loop", directory.path().join("root/loop")).unwrap();
        let error = locate_or_create(&fd, Path::new("/loop"), Create::File).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        let slash = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
        let error = locate(&slash, Path::new("/proc/self/root")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn plain_look_ups_refuse_links() {
        let (directory, fd) = root();
        symlink("elsewhere", directory.path().join("root/proc")).unwrap();
        locate_plain(&fd, Path::new("/proc")).unwrap_err();
    }
}
