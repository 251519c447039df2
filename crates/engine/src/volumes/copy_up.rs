//! Copies what an image has at a path into a new volume, layer over layer, as overlayfs would
//! show it: no mount, so it needs no namespace and leaves no trace.
//!
//! Everything is opened beneath a directory descriptor: links in layers lead nowhere outside.

use rustix::fs::{
    self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid, XattrFlags,
};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// How directories are opened: shims start in other threads meanwhile and must not inherit any.
const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);

/// Deeper trees are refused; `PATH_MAX` allows 2,048 one-letter names.
const MAX_DEPTH: usize = 256;

/// Copies; a volume that holds something already is left alone.
pub(super) fn copy_up(volume: &Path, target: &str, layers: &[PathBuf]) -> io::Result<()> {
    let into = fs::open(volume, DIRECTORY, Mode::empty())?;
    if entries(&into)?.next().is_some() {
        return Ok(());
    }
    for layer in layers {
        let root = fs::open(layer, DIRECTORY, Mode::empty())?;
        if covers(&root, target)? {
            empty(&into, MAX_DEPTH)?;
        }
        let from = fs::openat2(
            &root,
            target.trim_start_matches('/'),
            DIRECTORY,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        match from {
            Ok(from) => directory(&from, &into, MAX_DEPTH)?,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether a layer takes away what those below it have at `target`: by a whiteout or a file in its
/// place or on the way there, or by a directory that begins anew. Links are not followed here.
fn covers(root: &OwnedFd, target: &str) -> io::Result<bool> {
    let mut here = root.try_clone()?;
    for component in Path::new(target.trim_start_matches('/')).components() {
        let Component::Normal(name) = component else {
            return Ok(false);
        };
        let stat = match fs::statat(&here, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {}
            FileType::Symlink => return Ok(false),
            _ => return Ok(true),
        }
        here = fs::openat(&here, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        if opaque(&here) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn entries(
    directory: &OwnedFd,
) -> io::Result<impl Iterator<Item = rustix::io::Result<fs::DirEntry>>> {
    let dots = |entry: &rustix::io::Result<fs::DirEntry>| {
        entry
            .as_ref()
            .is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
    };
    Ok(fs::Dir::read_from(directory)?.filter(move |entry| !dots(entry)))
}

fn directory(from: &OwnedFd, into: &OwnedFd, depth: usize) -> io::Result<()> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| io::Error::other("the tree is too deep"))?;
    if opaque(from) {
        empty(into, depth)?;
    }
    for entry in entries(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let stat = fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            // Overlayfs' whiteout: the layers below lose the name.
            FileType::CharacterDevice if stat.st_rdev == 0 => remove(into, name, depth)?,
            FileType::Directory => {
                make_directory(into, name)?;
                let open =
                    |parent| fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
                directory(&open(from)?, &open(into)?, depth)?;
            }
            kind => {
                remove(into, name, depth)?;
                other(from, into, name, &stat, kind)?;
            }
        }
    }
    attributes(from, into)
}

fn make_directory(into: &OwnedFd, name: &CStr) -> io::Result<()> {
    match fs::mkdirat(into, name, Mode::RWXU) {
        Err(rustix::io::Errno::EXIST) => {
            let stat = fs::statat(into, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                fs::unlinkat(into, name, AtFlags::empty())?;
                fs::mkdirat(into, name, Mode::RWXU)?;
            }
            Ok(())
        }
        made => Ok(made?),
    }
}

fn other(
    from: &OwnedFd,
    into: &OwnedFd,
    name: &CStr,
    stat: &fs::Stat,
    kind: FileType,
) -> io::Result<()> {
    match kind {
        FileType::RegularFile => {
            let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = fs::openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
            let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let made = fs::openat(into, name, flags, Mode::RUSR | Mode::WUSR)?;
            let (mut source, mut made) = (File::from(source), File::from(made));
            io::copy(&mut source, &mut made)?;
            attributes(&source.into(), &made.into())
        }
        FileType::Symlink => {
            let link = fs::readlinkat(from, name, Vec::new())?;
            fs::symlinkat(link, into, name)?;
            owner_and_times(into, name, stat)
        }
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Directory
        | FileType::Unknown => {
            fs::mknodat(
                into,
                name,
                kind,
                Mode::from_raw_mode(stat.st_mode),
                stat.st_rdev,
            )?;
            owner_and_times(into, name, stat)
        }
    }
}

fn owner_and_times(into: &OwnedFd, name: &CStr, stat: &fs::Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fs::chownat(into, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(fs::utimensat(
        into,
        name,
        &times(stat),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Owner before mode (chown clears set-ID bits) before extended attributes before times.
fn attributes(from: &OwnedFd, into: &OwnedFd) -> io::Result<()> {
    let stat = fs::fstat(from)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fs::fchown(into, Some(uid), Some(gid))?;
    fs::fchmod(into, Mode::from_raw_mode(stat.st_mode))?;
    for name in xattr_names(from)? {
        if name.to_bytes().starts_with(b"trusted.overlay.")
            || name.to_bytes().starts_with(b"user.overlay.")
        {
            continue;
        }
        if let Some(value) = xattr(from, &name) {
            fs::fsetxattr(into, &name, &value, XattrFlags::empty())?;
        }
    }
    Ok(fs::futimens(into, &times(&stat))?)
}

fn times(stat: &fs::Stat) -> Timestamps {
    let nanoseconds = |value| i64::try_from(value).unwrap_or_default();
    Timestamps {
        last_access: fs::Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: nanoseconds(stat.st_atime_nsec),
        },
        last_modification: fs::Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: nanoseconds(stat.st_mtime_nsec),
        },
    }
}

fn xattr_names(of: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = vec![0; 64 << 10];
    match fs::flistxattr(of, &mut names[..]) {
        Ok(length) => Ok(names[..length]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .filter_map(|name| CString::new(name).ok())
            .collect()),
        Err(rustix::io::Errno::NOTSUP) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn xattr(of: &OwnedFd, name: &CStr) -> Option<Vec<u8>> {
    let mut value = vec![0; 64 << 10];
    let length = fs::fgetxattr(of, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn opaque(directory: &OwnedFd) -> bool {
    xattr(directory, c"trusted.overlay.opaque").is_some_and(|value| value == b"y")
}

fn empty(directory: &OwnedFd, depth: usize) -> io::Result<()> {
    let names: Vec<CString> = entries(directory)?
        .map(|entry| Ok(entry?.file_name().to_owned()))
        .collect::<io::Result<_>>()?;
    names
        .iter()
        .try_for_each(|name| remove(directory, name, depth))
}

fn remove(parent: &OwnedFd, name: &CStr, depth: usize) -> io::Result<()> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| io::Error::other("the tree is too deep"))?;
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::ISDIR) => {
            let flags = DIRECTORY | OFlags::NOFOLLOW;
            let directory = fs::openat(parent.as_fd(), name, flags, Mode::empty())?;
            empty(&directory, depth)?;
            Ok(fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs as std_fs;

    #[test]
    fn upper_layers_win_and_links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str| dir.path().join(name);
        std_fs::create_dir_all(layer("1/data/sub")).unwrap();
        std_fs::write(layer("1/data/a"), "old").unwrap();
        std_fs::write(layer("1/data/sub/kept"), "kept").unwrap();
        std_fs::create_dir_all(layer("2/data")).unwrap();
        std_fs::write(layer("2/data/a"), "new").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", layer("2/data/link")).unwrap();
        std_fs::create_dir_all(layer("3")).unwrap();
        std::os::unix::fs::symlink("/etc", layer("3/data")).unwrap();
        let volume = layer("volume");
        std_fs::create_dir(&volume).unwrap();

        let layers = [layer("1"), layer("2"), layer("3")];
        copy_up(&volume, "/data", &layers).unwrap();
        assert_eq!(std_fs::read_to_string(volume.join("a")).unwrap(), "new");
        assert_eq!(
            std_fs::read_to_string(volume.join("sub/kept")).unwrap(),
            "kept"
        );
        let link = std_fs::read_link(volume.join("link")).unwrap();
        assert_eq!(link, Path::new("/etc/passwd"));
        assert_eq!(std_fs::read_dir(&volume).unwrap().count(), 3);

        std_fs::write(layer("2/data/a"), "newer").unwrap();
        copy_up(&volume, "/data", &layers).unwrap();
        assert_eq!(std_fs::read_to_string(volume.join("a")).unwrap(), "new");
    }

    #[test]
    fn what_a_layer_deletes_stays_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str| dir.path().join(name);
        std_fs::create_dir_all(layer("1/srv/data")).unwrap();
        std_fs::write(layer("1/srv/data/old"), "old").unwrap();
        for name in [
            "whiteout",
            "above",
            "file",
            "opaque/srv/data",
            "again/srv/data",
            "loop/srv",
        ] {
            std_fs::create_dir_all(layer(name)).unwrap();
        }
        let whiteout = |path: PathBuf| {
            std_fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::mknodat(fs::CWD, path, FileType::CharacterDevice, Mode::empty(), 0)
        };
        // Neither can be made without rights that ordinary users lack on some systems.
        if whiteout(layer("whiteout/srv/data")).is_err() {
            return;
        }
        whiteout(layer("above/srv")).unwrap();
        std_fs::write(layer("file/srv"), "").unwrap();
        let opaque = fs::setxattr(
            layer("opaque/srv"),
            "trusted.overlay.opaque",
            b"y",
            XattrFlags::empty(),
        );
        std_fs::write(layer("again/srv/data/new"), "new").unwrap();
        std::os::unix::fs::symlink("data", layer("loop/srv/data")).unwrap();

        let copied = |layers: &[&str]| {
            let volume = tempfile::tempdir().unwrap();
            let layers: Vec<PathBuf> = layers.iter().map(|name| layer(name)).collect();
            copy_up(volume.path(), "/srv/data", &layers).unwrap();
            let mut names: Vec<_> = std_fs::read_dir(volume.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(copied(&["1", "again"]), "new old");
        assert_eq!(copied(&["1", "loop"]), "old");
        for deleting in ["whiteout", "above", "file"] {
            assert_eq!(copied(&["1", deleting]), "", "{deleting}");
            assert_eq!(copied(&["1", deleting, "again"]), "new", "{deleting}");
        }
        if opaque.is_ok() {
            assert_eq!(copied(&["1", "opaque", "again"]), "new");
        }
    }
}
