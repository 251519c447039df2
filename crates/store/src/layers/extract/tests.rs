//! What entries become, and what hostile ones do not. Needs root (devices, owners, `trusted.*`).

use super::*;
use crate::layers::unpack_into;
use model::DiffId;
use proptest::prelude::*;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// A layer being written and the directory it is unpacked into.
struct Layer {
    tar: tar::Builder<Vec<u8>>,
    base: tempfile::TempDir,
}

impl Layer {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("root")).unwrap();
        std::fs::write(base.path().join("outside"), b"outside").unwrap();
        Self {
            tar: tar::Builder::new(Vec::new()),
            base,
        }
    }

    fn add(mut self, kind: EntryType, path: &str, link: &str, data: &[u8]) -> Self {
        let mut header = header(kind, path, link);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.tar.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.add(EntryType::Regular, path, "", data.as_bytes())
    }

    fn dir(self, path: &str) -> Self {
        self.add(EntryType::Directory, path, "", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, path, target, b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.add(EntryType::Link, path, target, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.tar
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    fn unpack_with(self, limits: &UnpackLimits) -> Result<Tree, UnpackError> {
        let bytes = self.tar.into_inner().unwrap();
        let root = std::fs::File::open(self.base.path().join("root")).unwrap();
        let result = unpack_into(&mut &bytes[..], root.as_fd(), limits);
        assert_eq!(
            std::fs::read(self.base.path().join("outside")).unwrap(),
            b"outside"
        );
        let outside: Vec<_> = std::fs::read_dir(self.base.path()).unwrap().collect();
        assert_eq!(outside.len(), 2, "something was made outside the root");
        result.map(|diff_id| Tree {
            diff_id,
            bytes,
            base: self.base,
        })
    }

    fn unpack(self) -> Result<Tree, UnpackError> {
        self.unpack_with(&UnpackLimits::default())
    }
}

/// A header with names as they are given: the tar crate's own setters refuse hostile ones.
fn header(kind: EntryType, path: &str, link: &str) -> Header {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_mtime(1_000_000_000);
    header
}

struct Tree {
    diff_id: DiffId,
    bytes: Vec<u8>,
    base: tempfile::TempDir,
}

impl Tree {
    fn path(&self, path: &str) -> PathBuf {
        self.base.path().join("root").join(path)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    fn meta(&self, path: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.path(path)).unwrap()
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let meta = self.meta(path);
        meta.file_type().is_char_device() && meta.rdev() == 0
    }

    fn xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        xattr(&self.path(path), name)
    }

    fn is_opaque(&self, path: &str) -> bool {
        self.xattr(path, OPAQUE).as_deref() == Some(b"y")
    }
}

const OPAQUE: &str = "trusted.overlay.opaque";

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut buffer = Vec::with_capacity(1024);
    rustix::fs::lgetxattr(path, name, rustix::buffer::spare_capacity(&mut buffer)).ok()?;
    Some(buffer)
}

#[test]
fn the_diff_id_is_the_digest_of_the_stream() {
    if !crate::testing::is_root() {
        return;
    }
    let tree = Layer::new().file("a", "data").unpack().unwrap();
    use sha2::Digest as _;
    let expected = model::Digest::from_sha256(sha2::Sha256::digest(&tree.bytes).into());
    assert_eq!(tree.diff_id, DiffId(expected));
}

#[test]
fn modes_owners_times() {
    if !crate::testing::is_root() {
        return;
    }
    let mut layer = Layer::new();
    for (path, kind, mode) in [
        ("dir/", EntryType::Directory, 0o3751),
        ("dir/setuid", EntryType::Regular, 0o4755),
        ("dir/setgid", EntryType::Regular, 0o2711),
        ("dir/open", EntryType::Regular, 0o666),
        ("dir/shut", EntryType::Regular, 0),
        ("dir/fifo", EntryType::Fifo, 0o622),
        ("dir/sub", EntryType::Directory, 0o1777),
    ] {
        let mut header = header(kind, path, "");
        header.set_mode(mode);
        header.set_uid(12);
        header.set_gid(100_034);
        header.set_size(0);
        header.set_cksum();
        layer = layer.pax(&[("mtime", b"1234567890.123456789"), ("atime", b"7.5")]);
        layer.tar.append(&header, std::io::empty()).unwrap();
    }
    let tree = layer.unpack().unwrap();
    for (path, mode) in [
        ("dir", 0o3751),
        ("dir/setuid", 0o4755),
        ("dir/setgid", 0o2711),
        ("dir/open", 0o666),
        ("dir/shut", 0),
        ("dir/fifo", 0o622),
        ("dir/sub", 0o1777),
    ] {
        let meta = tree.meta(path);
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{path}");
        assert_eq!((meta.uid(), meta.gid()), (12, 100_034), "{path}");
        assert_eq!(
            (meta.mtime(), meta.mtime_nsec()),
            (1_234_567_890, 123_456_789),
            "{path}"
        );
        assert_eq!(
            (meta.atime(), meta.atime_nsec()),
            (7, 500_000_000),
            "{path}"
        );
    }
    assert!(tree.meta("dir/fifo").file_type().is_fifo());
}

#[test]
fn a_setgid_directory_does_not_rub_off() {
    if !crate::testing::is_root() {
        return;
    }
    let mut layer = Layer::new();
    let mut parent = header(EntryType::Directory, "mail/", "");
    parent.set_mode(0o2775);
    parent.set_gid(8);
    parent.set_cksum();
    layer.tar.append(&parent, std::io::empty()).unwrap();
    let tree = layer
        .dir("mail/sub")
        .file("mail/file", "x")
        .unpack()
        .unwrap();
    assert_eq!(tree.meta("mail").gid(), 8);
    for path in ["mail/sub", "mail/file"] {
        assert_eq!(tree.meta(path).gid(), 0, "{path}");
        assert_eq!(tree.meta(path).mode() & 0o2000, 0, "{path}");
    }
}

#[test]
fn capabilities_survive_owner_and_setuid() {
    if !crate::testing::is_root() {
        return;
    }
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut layer = Layer::new().pax(&[
        ("SCHILY.xattr.security.capability", capability),
        ("SCHILY.xattr.user.note", b"a\0=\n"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
    ]);
    let mut ping = header(EntryType::Regular, "ping", "");
    ping.set_mode(0o4755);
    ping.set_uid(5);
    ping.set_size(3);
    ping.set_cksum();
    layer.tar.append(&ping, &b"elf"[..]).unwrap();
    let tree = layer.unpack().unwrap();
    assert_eq!(
        tree.xattr("ping", "security.capability").as_deref(),
        Some(&capability[..])
    );
    assert_eq!(
        tree.xattr("ping", "user.note").as_deref(),
        Some(&b"a\0=\n"[..])
    );
    assert_eq!(tree.xattr("ping", "trusted.overlay.redirect"), None);
    assert_eq!(tree.meta("ping").mode() & 0o7777, 0o4755);
}

#[test]
fn directories_keep_attributes_of_their_own_and_of_the_root() {
    if !crate::testing::is_root() {
        return;
    }
    let mut layer = Layer::new();
    for path in ["./", "d"] {
        layer = layer.pax(&[("SCHILY.xattr.user.k", b"v")]);
        let mut entry = header(EntryType::Directory, path, "");
        entry.set_mode(0o700);
        entry.set_uid(9);
        entry.set_cksum();
        layer.tar.append(&entry, std::io::empty()).unwrap();
    }
    let tree = layer.file("d/child", "x").unpack().unwrap();
    for path in ["", "d"] {
        let meta = tree.meta(path);
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid(), meta.mtime()),
            (0o700, 9, 1_000_000_000)
        );
        assert_eq!(tree.xattr(path, "user.k").as_deref(), Some(&b"v"[..]));
    }
}

#[test]
fn links_and_devices() {
    if !crate::testing::is_root() {
        return;
    }
    let mut layer = Layer::new().file("a", "shared");
    for (path, kind, major, minor) in [
        ("null", EntryType::Char, 1, 3),
        ("disk", EntryType::Block, 259, 300),
    ] {
        let mut device = header(kind, path, "");
        device.set_device_major(major).unwrap();
        device.set_device_minor(minor).unwrap();
        device.set_cksum();
        layer.tar.append(&device, std::io::empty()).unwrap();
    }
    let tree = layer
        .hard_link("b", "a")
        .hard_link("/c", "/./a")
        .symlink("s", "/absolute/nowhere")
        .hard_link("t", "s")
        .unpack()
        .unwrap();
    assert_eq!(tree.meta("a").nlink(), 3);
    assert_eq!(tree.meta("a").ino(), tree.meta("c").ino());
    let target = std::fs::read_link(tree.path("t")).unwrap();
    assert_eq!(target, Path::new("/absolute/nowhere"));
    assert_eq!(tree.meta("s").mtime(), 1_000_000_000);
    assert_eq!(tree.meta("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(tree.meta("disk").rdev(), rustix::fs::makedev(259, 300));
    assert!(tree.meta("disk").file_type().is_block_device());
}

#[test]
fn the_later_entry_wins() {
    if !crate::testing::is_root() {
        return;
    }
    let tree = Layer::new()
        .file("file-dir", "x")
        .dir("file-dir")
        .file("file-dir/in", "kept")
        .dir("dir-file/sub")
        .file("dir-file/sub/in", "lost")
        .file("dir-file", "won")
        .file("twice", "first and longer")
        .file("twice", "second")
        .symlink("link-dir", "/file-dir")
        .dir("link-dir")
        .file("link-dir/in", "not in file-dir")
        .file("dir-link/in", "lost")
        .symlink("dir-link", "twice")
        .dir("again")
        .file("again/in", "kept")
        .dir("again")
        .unpack()
        .unwrap();
    assert_eq!(tree.read("file-dir/in"), "kept");
    assert_eq!(tree.read("dir-file"), "won");
    assert_eq!(tree.read("twice"), "second");
    assert_eq!(tree.read("link-dir/in"), "not in file-dir");
    assert_eq!(tree.read("dir-link"), "second");
    assert_eq!(tree.read("again/in"), "kept");
    let names = std::fs::read_dir(tree.path("")).unwrap().count();
    assert_eq!(names, 6, "nothing but the entries is left");
}

#[test]
fn a_deep_directory_is_replaced_whole() {
    if !crate::testing::is_root() {
        return;
    }
    let mut layer = Layer::new();
    // Deeper than deletion keeps directories open.
    let path = "d/".repeat(150);
    let mut deep = header(EntryType::Regular, "", "");
    deep.set_size(0);
    layer
        .tar
        .append_data(&mut deep, path.clone() + "file", std::io::empty())
        .unwrap();
    let tree = layer.file("d", "flat").unpack().unwrap();
    assert_eq!(tree.read("d"), "flat");
    assert_eq!(std::fs::read_dir(tree.path("")).unwrap().count(), 1);
}

#[test]
fn implicit_parents_are_plain() {
    if !crate::testing::is_root() {
        return;
    }
    let tree = Layer::new().file("a/b/c/file", "x").unpack().unwrap();
    for path in ["a", "a/b", "a/b/c"] {
        let meta = tree.meta(path);
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid(), meta.gid()),
            (0o755, 0, 0),
            "{path}"
        );
    }
}

#[test]
fn whiteouts() {
    if !crate::testing::is_root() {
        return;
    }
    let tree = Layer::new()
        .dir("d")
        .file("d/.wh.gone", "")
        .file("d/.wh..wh..opq", "")
        .file(".wh.implicit/deeper", "a name that only looks like one")
        .file("new/.wh.x", "")
        .file(".wh..wh.plnk/99.1", "aufs")
        .file(".wh..wh.aufs", "")
        .unpack()
        .unwrap();
    assert!(tree.is_whiteout("d/gone"));
    assert!(tree.is_opaque("d"));
    assert!(tree.is_whiteout("new/x"));
    assert!(!tree.is_opaque("new"));
    assert!(!tree.path(".wh..wh.plnk").exists() && !tree.path(".wh..wh.aufs").exists());
}

#[test]
fn whiteouts_hide_only_what_lies_beneath() {
    if !crate::testing::is_root() {
        return;
    }
    let tree = Layer::new()
        .file("kept-file", "mine")
        .file(".wh.kept-file", "")
        .dir("kept-dir")
        .file("kept-dir/in", "mine")
        .file(".wh.kept-dir", "")
        .file(".wh.new-file", "")
        .file("new-file", "mine")
        .file(".wh.new-dir", "")
        .dir("new-dir")
        .file(".wh.implicit", "")
        .file("implicit/in", "mine")
        .unpack()
        .unwrap();
    assert_eq!(tree.read("kept-file"), "mine");
    assert_eq!(tree.read("new-file"), "mine");
    assert_eq!(tree.read("kept-dir/in"), "mine");
    for path in ["kept-dir", "new-dir", "implicit"] {
        assert!(tree.is_opaque(path), "{path}");
    }
}

#[test]
fn whiteouts_of_what_cannot_be_named_are_refused() {
    if !crate::testing::is_root() {
        return;
    }
    for name in [".wh.", ".wh..", ".wh...", "d/.wh..."] {
        let error = Layer::new()
            .dir("d")
            .file(name, "")
            .unpack()
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(error, UnpackError::InvalidEntry { .. }),
            "{name}: {error}"
        );
    }
}

#[test]
fn parents_that_are_links_resolve_inside() {
    if !crate::testing::is_root() {
        return;
    }
    let tree = Layer::new()
        .dir("usr")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("up", "../../..")
        .symlink("absolute", "/usr")
        .file("lib/a", "through lib")
        .file("up/usr/b", "through up")
        .file("absolute/c", "through absolute")
        .hard_link("d", "absolute/c")
        .unpack()
        .unwrap();
    assert_eq!(tree.read("usr/lib/a"), "through lib");
    assert_eq!(tree.read("usr/b"), "through up");
    assert_eq!(tree.read("usr/c"), "through absolute");
    assert_eq!(tree.read("d"), "through absolute");
}

#[test]
fn nothing_leaves_the_root() {
    if !crate::testing::is_root() {
        return;
    }
    let outside = |layer: Layer| {
        layer
            .base
            .path()
            .join("outside")
            .to_str()
            .unwrap()
            .to_owned()
    };
    // Refused.
    for path in ["../outside", "a/../../outside", "..", "a/../../../etc/x"] {
        let error = Layer::new()
            .file(path, "bad")
            .unpack()
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(error, UnpackError::PathEscapes(_)),
            "{path}: {error}"
        );
        let error = Layer::new()
            .hard_link("x", path)
            .unpack()
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(error, UnpackError::LinkEscapes { .. }),
            "{path}: {error}"
        );
    }
    let error = Layer::new()
        .hard_link("x", "/outside")
        .unpack()
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(error, UnpackError::LinkTargetMissing { .. }),
        "{error}"
    );
    // Kept inside.
    let tree = Layer::new().file("/etc/passwd", "mine").unpack().unwrap();
    assert_eq!(tree.read("etc/passwd"), "mine");
    let absolute = outside(Layer::new());
    for target in ["../outside", &absolute] {
        // A file entry replaces a link of its name instead of writing through it.
        let tree = Layer::new()
            .symlink("s", target)
            .file("s", "mine")
            .unpack()
            .unwrap();
        assert_eq!(tree.read("s"), "mine");
    }
    for target in ["..", "/", "../.."] {
        let tree = Layer::new()
            .symlink("s", target)
            .file("s/outside", "mine")
            .unpack()
            .unwrap();
        assert_eq!(tree.read("outside"), "mine");
    }
    // A hard link to a link is the link, not what it leads to.
    let tree = Layer::new()
        .symlink("s", "../outside")
        .hard_link("h", "s")
        .unpack()
        .unwrap();
    assert!(tree.meta("h").is_symlink());
    let error = Layer::new()
        .symlink("s", "..")
        .hard_link("h", "s/outside")
        .unpack()
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(error, UnpackError::LinkTargetMissing { .. }),
        "{error}"
    );
}

#[test]
fn impossible_entries_are_named() {
    if !crate::testing::is_root() {
        return;
    }
    let check = |layer: Layer, expected: &str| {
        let error = layer.unpack().map(drop).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(
        Layer::new().file("f", "x").file("f/in", "y"),
        "layer entry f lies beneath something that is no directory",
    );
    check(
        Layer::new().symlink("l", "nowhere").file("l/in", "y"),
        "layer entry l lies beneath something that is no directory",
    );
    check(
        Layer::new().symlink("l", "l").file("l/in", "y"),
        "layer entry l lies beneath something that is no directory",
    );
    check(
        Layer::new().dir("d").hard_link("h", "d"),
        "layer entry h is invalid: it is a hard link to a directory",
    );
    check(
        Layer::new().hard_link("h", "h"),
        "layer entry h links to h, which the layer does not have",
    );
    check(
        Layer::new().symlink("./", "x"),
        "layer entry . is invalid: the root is a directory",
    );
}

#[test]
fn bounds() {
    if !crate::testing::is_root() {
        return;
    }
    let limits = UnpackLimits {
        entries_max: 3,
        ..UnpackLimits::default()
    };
    let layer = |count| (0..count).fold(Layer::new(), |layer, n| layer.file(&format!("{n}"), ""));
    layer(3).unpack_with(&limits).map(drop).unwrap();
    let error = layer(4).unpack_with(&limits).map(drop).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyEntries(3)));
    let limits = UnpackLimits {
        directories_bytes_max: 300,
        ..UnpackLimits::default()
    };
    let dirs = (0..9).fold(Layer::new(), |layer, n| layer.dir(&format!("{n}")));
    let error = dirs.unpack_with(&limits).map(drop).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyDirectories(300)));
}

#[test]
fn sparse_files_keep_their_holes() {
    if !crate::testing::is_root() {
        return;
    }
    // Made by GNU tar, in each of its four formats.
    let base = tempfile::tempdir().unwrap();
    let original = base.path().join("sparse");
    let file = std::fs::File::create(&original).unwrap();
    for (offset, text) in [(0, "begin"), (9_000_000, "middle"), (20_000_001, "late")] {
        std::os::unix::fs::FileExt::write_at(&file, text.as_bytes(), offset).unwrap();
    }
    file.set_len(30_000_000).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let output = std::process::Command::new("tar")
            .args(["-C", base.path().to_str().unwrap(), "--sparse", "-cf", "-"])
            .args(format)
            .arg("sparse")
            .output()
            .unwrap();
        assert!(output.status.success() && output.stdout.len() < 1_000_000);
        let root = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(root.path()).unwrap();
        unpack_into(
            &mut &output.stdout[..],
            fd.as_fd(),
            &UnpackLimits::default(),
        )
        .unwrap();
        let unpacked = root.path().join("sparse");
        assert!(
            std::fs::metadata(&unpacked).unwrap().blocks() * 512 < 1_000_000,
            "{format:?}"
        );
        assert!(std::fs::read(&unpacked).unwrap() == std::fs::read(&original).unwrap());
    }
}

/// Entries over few names, so that they meet: links to links, links replaced by directories,
/// whiteouts of all of them, and every way up and out.
fn hostile_entry() -> impl Strategy<Value = (EntryType, String, String)> {
    let part = prop::sample::select(vec!["a", "b", "c", "..", ".", "", ".wh.a", ".wh..wh..opq"]);
    let path = prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"));
    let kind = prop::sample::select(vec![
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Fifo,
    ]);
    let target = prop_oneof![
        path.clone(),
        path.clone().prop_map(|path| format!("/{path}")),
        Just("../outside".to_owned()),
        Just("../../../../outside".to_owned()),
    ];
    (kind, path, target)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_a_layer_holds_stays_inside(
        entries in prop::collection::vec(hostile_entry(), 1..16),
    ) {
        if !crate::testing::is_root() {
            return Ok(());
        }
        // `Layer` itself checks what is outside, whether unpacking succeeds or not.
        let mut layer = Layer::new();
        for (kind, path, target) in entries {
            let data = if kind == EntryType::Regular { "written by the layer" } else { "" };
            layer = layer.add(kind, &path, &target, data.as_bytes());
        }
        match layer.unpack() {
            Ok(tree) => check_tree(tree.path("").as_path()),
            Err(error) => {
                let named = !matches!(error, UnpackError::Io { .. } | UnpackError::Truncated);
                prop_assert!(named, "{error:?}");
            }
        }
    }
}

/// Nothing that only extraction uses is left in the tree.
fn check_tree(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        assert!(
            !name.as_encoded_bytes().starts_with(b".wh..wh."),
            "{name:?}"
        );
        if entry.file_type().unwrap().is_dir() {
            check_tree(&entry.path());
        }
    }
}
