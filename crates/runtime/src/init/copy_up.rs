//! `tmpcopyup`: a tmpfs that begins with what it covers, as podman mounts `--tmpfs`.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, mkdirat, openat,
    readlinkat, statat, symlinkat,
};

/// Deeper trees than this are someone's joke.
const MAX_DEPTH: usize = 64;

/// Copies directories, files and links with owners and modes.
pub(super) fn fill(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = statat(from, "", AtFlags::EMPTY_PATH)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = openat(from, ".", flags, Mode::empty())?;
    directory(from.as_fd(), to, 0)?;
    own(to, c".", &stat)
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::from(io::ErrorKind::QuotaExceeded));
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY;
            let inner = openat(from, name, flags, Mode::empty())?;
            let copy = openat(to, name, flags, Mode::empty())?;
            directory(inner.as_fd(), copy.as_fd(), depth + 1)?;
            own(to, name, &stat)
        }
        FileType::RegularFile => {
            let source = openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
            let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let copy = openat(to, name, create, Mode::from_raw_mode(0o600))?;
            io::copy(
                &mut std::fs::File::from(source),
                &mut std::fs::File::from(copy),
            )?;
            own(to, name, &stat)
        }
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            Ok(chownat(
                to,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )?)
        }
        // Devices, FIFOs and sockets are left out, as runc leaves them out.
        _ => Ok(()),
    }
}

fn own(at: impl AsFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(
        at.as_fd(),
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    Ok(chmodat(
        at.as_fd(),
        name,
        Mode::from_raw_mode(stat.st_mode & 0o7777),
        AtFlags::empty(),
    )?)
}
