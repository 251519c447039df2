//! Trees that we unpack against trees that GNU tar and umoci unpack of the same layer: equal,
//! attribute by attribute. Needs root; a missing peer is printed as a skip.

#![cfg(test)]

#[path = "../src/testing.rs"]
mod testing;
#[path = "compare/tree.rs"]
mod tree;

use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use store::UnpackLimits;
use tree::Tree;

/// Runs a program that is part of the test's set-up.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn unpack_ours(layer: &Path, root: &Path) -> model::DiffId {
    std::fs::create_dir(root).unwrap();
    let fd = std::fs::File::open(root).unwrap();
    let mut layer = std::fs::File::open(layer).unwrap();
    store::layers::unpack_into(&mut layer, fd.as_fd(), &UnpackLimits::default()).unwrap()
}

fn unpack_by_tar(layer: &Path, root: &Path) {
    std::fs::create_dir(root).unwrap();
    let options = [
        "-xp",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--same-owner",
    ];
    let place = ["-f", text(layer), "-C", text(root)];
    run("tar", &[&options[..], &place].concat());
}

/// Writes the smallest image that holds the layer, for umoci to unpack.
fn unpack_by_umoci(layer: &Path, diff_id: model::DiffId, base: &Path) -> Option<Tree> {
    if Command::new("umoci").arg("--version").output().is_err() {
        testing::skip("umoci is not installed");
        return None;
    }
    let layout = base.join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        use sha2::Digest as _;
        let digest = model::Digest::from_sha256(sha2::Sha256::digest(bytes).into());
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        serde_json::json!({ "digest": digest, "size": bytes.len() })
    };
    let descriptor = |kind: &str, json: &serde_json::Value| {
        let mut descriptor = put(json.to_string().as_bytes());
        descriptor["mediaType"] = format!("application/vnd.oci.image.{kind}.v1+json").into();
        descriptor
    };
    let mut blob = put(&std::fs::read(layer).unwrap());
    blob["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
    let config = descriptor(
        "config",
        &serde_json::json!({ "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [diff_id] } }),
    );
    let mut manifest = descriptor(
        "manifest",
        &serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [blob],
            "mediaType": "application/vnd.oci.image.manifest.v1+json" }),
    );
    manifest["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "test" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    std::fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let bundle = base.join("bundle");
    let image = format!("{}:test", text(&layout));
    run("umoci", &["unpack", "--image", &image, text(&bundle)]);
    Some(Tree::read(&bundle.join("rootfs")))
}

fn compare(base: &Path, layer: &Path) {
    let ours = base.join("ours");
    let diff_id = unpack_ours(layer, &ours);
    let ours = Tree::read(&ours);
    let by_tar = base.join("by-tar");
    unpack_by_tar(layer, &by_tar);
    ours.assert_equals(&Tree::read(&by_tar), "GNU tar");
    if let Some(by_umoci) = unpack_by_umoci(layer, diff_id, base) {
        ours.assert_equals(&by_umoci, "umoci");
    }
}

#[test]
fn a_layer_with_everything() {
    if !testing::is_root() {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let source = base.path().join("source");
    tree::build(&source);
    let original = Tree::read(&source);
    for (number, options) in [
        &["--format=posix", "--sparse"][..],
        &[
            "--format=posix",
            "--sparse",
            "--sparse-version=0.1",
            "--sort=name",
        ],
        &["--format=gnu", "--sort=name"],
    ]
    .iter()
    .enumerate()
    {
        let base = base.path().join(number.to_string());
        std::fs::create_dir(&base).unwrap();
        let layer = base.join("layer.tar.gz");
        // The GNU format holds neither extended attributes nor fractions of seconds.
        let whole = options[0] == "--format=posix";
        let xattrs = if whole {
            &["--xattrs", "--xattrs-include=*"][..]
        } else {
            &[]
        };
        let place = [
            "--numeric-owner",
            "-czf",
            text(&layer),
            "-C",
            text(&source),
            ".",
        ];
        run("tar", &[options, xattrs, &place].concat());
        compare(&base, &layer);
        if whole {
            Tree::read(&base.join("ours")).assert_equals(&original, "what was packed");
        }
    }
}

#[test]
fn real_layers() {
    if !testing::is_root() {
        return;
    }
    // This machine's own: owners, modes, links and names as distributions make them.
    for tree in ["/etc", "/usr/sbin"] {
        let base = tempfile::tempdir().unwrap();
        let layer = base.path().join("layer.tar.gz");
        let options = [
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--format=posix",
        ];
        let place = ["-czf", text(&layer), "-C", tree, "."];
        let arguments = [&options[..], &place].concat();
        // Tar reports files that change meanwhile by status 1: the archive is good.
        let output = Command::new("tar").args(arguments).output().unwrap();
        assert!(output.status.code().is_some_and(|code| code < 2));
        compare(base.path(), &layer);
    }
}
