//! Everything that can be told of a tree, and a tree that has some of everything.

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// What is compared of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    links: u64,
    device: u64,
    /// Of all but directories: their size is the file system's business.
    size: Option<u64>,
    /// The first path with the same inode.
    same_as: PathBuf,
    target: Option<PathBuf>,
    content: Option<[u8; 32]>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A tree, by path relative to its root.
#[derive(Debug)]
pub(crate) struct Tree(BTreeMap<PathBuf, Facts>);

impl Tree {
    pub(crate) fn read(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut inodes = BTreeMap::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            let absolute = root.join(&path);
            let meta = std::fs::symlink_metadata(&absolute).unwrap();
            if meta.is_dir() {
                let children = std::fs::read_dir(&absolute).unwrap();
                pending.extend(children.map(|child| path.join(child.unwrap().file_name())));
            }
            inodes
                .entry(meta.ino())
                .and_modify(|first: &mut PathBuf| *first = path.clone().min(first.clone()))
                .or_insert_with(|| path.clone());
            files.insert(path, (meta.ino(), facts(&absolute, &meta)));
        }
        let name = |(path, (inode, facts)): (PathBuf, (u64, Facts))| {
            let same_as = inodes[&inode].clone();
            (path, Facts { same_as, ..facts })
        };
        Self(files.into_iter().map(name).collect())
    }

    pub(crate) fn assert_equals(&self, other: &Self, name: &str) {
        let mut differences = Vec::new();
        for path in self
            .0
            .keys()
            .chain(other.0.keys().filter(|p| !self.0.contains_key(*p)))
        {
            let (ours, theirs) = (self.0.get(path), other.0.get(path));
            if ours != theirs {
                differences.push(format!("{}:\n  {ours:?}\n  {theirs:?}", path.display()));
            }
        }
        assert!(!self.0.is_empty());
        assert!(
            differences.is_empty(),
            "{} differences from {name}, ours first:\n{}",
            differences.len(),
            differences
                .iter()
                .take(20)
                .cloned()
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
}

fn facts(path: &Path, meta: &std::fs::Metadata) -> Facts {
    use sha2::Digest as _;
    Facts {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        links: meta.nlink(),
        device: meta.rdev(),
        size: (!meta.is_dir()).then(|| meta.size()),
        same_as: PathBuf::new(),
        target: meta.is_symlink().then(|| std::fs::read_link(path).unwrap()),
        content: meta
            .is_file()
            .then(|| sha2::Sha256::digest(std::fs::read(path).unwrap()).into()),
        xattrs: xattrs(path),
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = Vec::with_capacity(65536);
    rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut names)).unwrap();
    let names = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = Vec::with_capacity(65536);
            let buffer = rustix::buffer::spare_capacity(&mut value);
            rustix::fs::lgetxattr(path, CString::new(name).unwrap(), buffer).unwrap();
            (name.to_vec(), value)
        })
        .collect()
}

/// Builds a tree with some of everything that a layer may hold.
pub(crate) fn build(root: &Path) {
    let path = |name: &str| root.join(name);
    std::fs::create_dir_all(path("dir/sub")).unwrap();
    std::fs::write(path("empty"), b"").unwrap();
    std::fs::write(path("small"), b"small").unwrap();
    std::fs::write(path("block"), [7; 512]).unwrap();
    std::fs::write(path("large"), vec![42; 3_000_001]).unwrap();
    std::fs::write(path("dir/child"), b"child").unwrap();
    std::fs::hard_link(path("dir/child"), path("dir/sub/again")).unwrap();
    std::fs::hard_link(path("dir/child"), path("third")).unwrap();
    symlink("/absolute", path("absolute-link")).unwrap();
    symlink("../../../up", path("dir/up-link")).unwrap();
    symlink("t".repeat(300), path("long-link")).unwrap();
    std::fs::hard_link(path("long-link"), path("linked-link")).unwrap();
    build_names(root);
    build_sparse(&path("sparse"));
    build_nodes(root);
    for (number, name) in ["setuid", "setgid", "sticky", "shut", "open"]
        .iter()
        .enumerate()
    {
        std::fs::write(path(name), name).unwrap();
        let owner = Some(1000 + u32::try_from(number).unwrap());
        std::os::unix::fs::chown(path(name), owner, Some(3_000_000_000)).unwrap();
    }
    std::os::unix::fs::lchown(path("absolute-link"), Some(5), Some(6)).unwrap();
    for (name, mode) in [
        ("setuid", 0o4755),
        ("setgid", 0o2755),
        ("sticky", 0o1644),
        ("shut", 0),
        ("open", 0o777),
        ("dir", 0o3770),
        ("dir/sub", 0o700),
    ] {
        chmod(&path(name), mode);
    }
    build_xattrs(root);
    build_times(root);
}

fn chmod(path: &Path, mode: u32) {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).unwrap();
}

fn build_names(root: &Path) {
    let long = "n".repeat(255);
    std::fs::write(root.join(&long), b"long name").unwrap();
    let deep = root
        .join("d".repeat(120))
        .join("e".repeat(120))
        .join("f".repeat(120));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("file"), b"deep").unwrap();
    symlink(&deep, deep.join("link")).unwrap();
    std::fs::hard_link(deep.join("file"), deep.join(&long)).unwrap();
    std::fs::write(root.join("späße ☃"), b"utf-8").unwrap();
    std::fs::write(root.join(" leading blank\nand line"), b"odd").unwrap();
    let raw = OsString::from_vec(b"not-utf-8-\xff\xfe".to_vec());
    std::fs::write(root.join(raw), b"raw").unwrap();
}

fn build_sparse(path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    for offset in (0..40).map(|step| step * 200_003) {
        file.write_at(b"island", offset).unwrap();
    }
    file.set_len(10_000_000).unwrap();
}

fn build_nodes(root: &Path) {
    for (name, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        (
            "wide",
            FileType::CharacterDevice,
            rustix::fs::makedev(511, 70_000),
        ),
        ("disk", FileType::BlockDevice, rustix::fs::makedev(259, 1)),
    ] {
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::RUSR, device).unwrap();
        chmod(&root.join(name), 0o626);
    }
}

fn build_xattrs(root: &Path) {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let large = vec![b'v'; 2000];
    for (name, key, value) in [
        ("setuid", "security.capability", &capability[..]),
        ("small", "user.text", b"text"),
        ("small", "user.odd", b"\0=\n 9"),
        ("small", "trusted.hidden", b"t"),
        ("dir", "user.large", &large),
        ("long-link", "trusted.on-link", b"l"),
        ("fifo", "trusted.on-fifo", b"f"),
    ] {
        rustix::fs::lsetxattr(root.join(name), key, value, XattrFlags::empty()).unwrap();
    }
}

/// Times last: everything before changed them.
fn build_times(root: &Path) {
    let mut pending = vec![root.to_owned()];
    let mut number = 0;
    while let Some(path) = pending.pop() {
        if std::fs::symlink_metadata(&path).unwrap().is_dir() {
            let children = std::fs::read_dir(&path).unwrap();
            pending.extend(children.map(|child| child.unwrap().path()));
        }
        number += 1;
        let time = rustix::fs::Timespec {
            tv_sec: 1_000_000_000 + number * 1_000_000,
            tv_nsec: number * 12_345_678 % 1_000_000_000,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(CWD, &path, &times, flags).unwrap();
    }
}
