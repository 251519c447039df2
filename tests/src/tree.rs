//! File trees as data, so that two unpackers' work can be compared attribute by attribute.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::layout::digest;

/// What there is to know about one file, in one comparable line.
pub type Tree = BTreeMap<PathBuf, String>;

/// Reads the tree below `root`, except the paths in `skipped` (relative) and below them.
///
/// Hard links are told by naming the first path of their group.
pub fn read(root: &Path, skipped: &[&str]) -> Tree {
    let mut tree = Tree::new();
    let mut links = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    let mut paths = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(root.join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            if skipped.iter().any(|skip| path == Path::new(skip)) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                pending.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let line = describe(root, &path, &mut links);
        tree.insert(path, line);
    }
    tree
}

fn describe(root: &Path, path: &Path, links: &mut BTreeMap<u64, PathBuf>) -> String {
    let full = root.join(path);
    let meta = fs::symlink_metadata(&full).unwrap();
    let kind = meta.file_type();
    let content = if kind.is_symlink() {
        format!("link to {}", fs::read_link(&full).unwrap().display())
    } else if kind.is_file() {
        format!("file {} {}", meta.len(), digest(&fs::read(&full).unwrap()))
    } else if kind.is_char_device() || kind.is_block_device() {
        format!("device {:x} block={}", meta.rdev(), kind.is_block_device())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else if kind.is_dir() {
        "directory".to_owned()
    } else {
        format!("{kind:?}")
    };
    let same_as = if meta.nlink() > 1 && !kind.is_dir() {
        let first = links
            .entry(meta.ino())
            .or_insert_with(|| path.to_path_buf());
        format!(" same as {}", first.display())
    } else {
        String::new()
    };
    format!(
        "{content}{same_as} mode={:o} uid={} gid={} mtime={}.{:09} xattrs={}",
        meta.mode() & 0o7777,
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec(),
        xattrs(&full)
    )
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else {
        return String::new();
    };
    let mut found: Vec<String> = names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty() && !name.starts_with(b"trusted.overlay"))
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
            format!(
                "{}={}",
                String::from_utf8_lossy(name),
                hex::encode(&value[..length])
            )
        })
        .collect();
    found.sort();
    found.join(",")
}

/// Every difference, one line each; empty when the trees are equal.
pub fn differences(expected: &Tree, actual: &Tree) -> Vec<String> {
    let mut differences = Vec::new();
    for (path, line) in expected {
        match actual.get(path) {
            None => differences.push(format!("{} is missing", path.display())),
            Some(other) if other != line => {
                differences.push(format!(
                    "{}\n    expected {line}\n    found    {other}",
                    path.display()
                ));
            }
            Some(_) => {}
        }
    }
    for path in actual.keys().filter(|path| !expected.contains_key(*path)) {
        differences.push(format!("{} should not be there", path.display()));
    }
    differences
}
