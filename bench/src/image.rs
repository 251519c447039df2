//! The images of the measurements: busybox, and a real Debian of several hundred megabytes in
//! layers as an image author would have them: the base, then a compiler, then languages, tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::bootstrap::{cache, cache_directory};
use e2e::layout::{Compression, Image, Layout};
use serde_json::json;

/// The big image's name in layout and registry.
pub(crate) const BIG: &str = "bench/big:latest";

/// What the parts of `/usr` are split by; each becomes a layer above the base.
const LAYERS: [&str; 4] = [
    "usr/lib/gcc usr/libexec/gcc",
    "usr/lib/python3 usr/lib/python3.11 usr/share/perl",
    "usr/lib/git-core usr/lib/x86_64-linux-gnu",
    "usr/bin usr/share",
];

/// The layout with the big image, made on first use.
pub(crate) fn layout() -> PathBuf {
    let done = cache_directory().join("bench-v1");
    if !done.is_dir() {
        let half = cache_directory().join("bench-half");
        if half.is_dir() {
            fs::remove_dir_all(&half).unwrap();
        }
        fs::create_dir_all(&half).unwrap();
        eprintln!("bench: making a real image of several hundred megabytes (once)");
        let mut image = Image::new();
        for tar in layer_tars(&half) {
            image = image.layer(&fs::read(&tar).unwrap(), Compression::Gzip);
            fs::remove_file(tar).unwrap();
        }
        let layout_root = half.join("layout");
        let mut layout = Layout::create(&layout_root);
        layout.add(BIG, &image.config(json!({"Cmd": ["bash"]})));
        layout.finish();
        e2e::registry::fill(&half.join("registry"), &layout_root);
        fs::rename(&half, &done).unwrap();
    }
    done.join("layout")
}

/// A registry's storage with the fixtures and the big image, copied (by hard links) into `to`.
pub(crate) fn fill_registry(to: &Path) {
    e2e::registry::copy_storage(&cache().registry, to);
    e2e::registry::copy_storage(&layout().parent().unwrap().join("registry/docker"), to);
}

/// Unpacks the fixtures' busybox into a plain directory.
pub(crate) fn unpack_busybox(root: &Path) {
    fs::create_dir_all(root).unwrap();
    let digest = &e2e::layout::layer_digests(&cache().layout, "library/busybox:latest")[0];
    let blob = blob(&cache().layout, digest);
    let status = Command::new("tar")
        .arg("-xzf")
        .arg(blob)
        .arg("-C")
        .arg(root)
        .status()
        .unwrap();
    assert!(status.success());
    for point in ["proc", "sys", "dev"] {
        fs::create_dir_all(root.join(point)).unwrap();
    }
}

/// One blob's file in a layout.
pub(crate) fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout
        .join("blobs/sha256")
        .join(digest.trim_start_matches("sha256:"))
}

fn layer_tars(scratch: &Path) -> Vec<PathBuf> {
    let tree = scratch.join("tree");
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--variant=minbase", "--quiet", "--format=directory"])
        .arg("--include=gcc,g++,python3,perl,git,vim-common,file,curl,rsync,make,gdb")
        .arg("bookworm")
        .arg(&tree);
    for list in [
        "/etc/apt/sources.list.d/debian.sources",
        "/etc/apt/sources.list",
    ] {
        if fs::metadata(list).is_ok_and(|meta| meta.len() > 0) {
            command.arg(list);
            break;
        }
    }
    let out = command.output().expect("mmdebstrap is installed");
    assert!(
        out.status.success(),
        "mmdebstrap: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    let mut tars = Vec::new();
    let mut excluded: Vec<String> = vec!["./dev/*".into()];
    for (number, paths) in LAYERS.iter().enumerate() {
        let tar = scratch.join(format!("layer-{number}.tar"));
        let present = paths.split(' ').filter(|path| tree.join(path).exists());
        let paths: Vec<String> = present.map(|path| format!("./{path}")).collect();
        make_tar(&tree, &tar, &paths, &excluded);
        excluded.extend(paths);
        tars.push(tar);
    }
    let base = scratch.join("base.tar");
    make_tar(&tree, &base, &[".".to_owned()], &excluded);
    tars.insert(0, base);
    fs::remove_dir_all(tree).unwrap();
    tars
}

fn make_tar(tree: &Path, tar: &Path, paths: &[String], excluded: &[String]) {
    let status = Command::new("tar")
        .args(["--create", "--numeric-owner", "--format=posix", "--file"])
        .arg(tar)
        .arg("--directory")
        .arg(tree)
        .args(excluded.iter().map(|path| format!("--exclude={path}")))
        .args(paths)
        .status()
        .unwrap();
    assert!(status.success(), "tar of {paths:?}");
}
