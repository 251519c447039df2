//! What every [`Snapshots`] must do. An implementation's test calls [`suite`] with a way to make
//! one, and layers to stand on.

use super::{RootMount, SnapshotError, Snapshots, Usage};
use model::{DiffId, Digest};
use std::path::Path;

/// Runs all checks on a fresh, empty snapshotter. `layers` are two layers that are there, bottom
/// first: the lower with a file `lower`, the upper with a file `upper`.
pub(super) fn suite(snapshots: &dyn Snapshots, layers: [DiffId; 2]) {
    starts_empty(snapshots);
    prepares_and_says_it_again(snapshots, layers);
    stands_on_nothing(snapshots);
    refuses_bad_keys(snapshots, layers);
    refuses_missing_layers(snapshots);
    counts_usage(snapshots, layers);
    lists_and_removes(snapshots, layers);
}

fn starts_empty(snapshots: &dyn Snapshots) {
    assert!(snapshots.list().unwrap().is_empty());
    assert!(snapshots.layers_in_use().unwrap().is_empty());
}

fn prepares_and_says_it_again(snapshots: &dyn Snapshots, layers: [DiffId; 2]) {
    let mount = snapshots.prepare("one", &layers).unwrap();
    assert_eq!(snapshots.mount("one").unwrap(), mount);
    let [top, bottom] = &mount.lower[..] else {
        panic!("two layers, two lower directories: {mount:?}");
    };
    assert!(top.join("upper").exists() && bottom.join("lower").exists());
    check_writable_parts(&mount);
    let again = snapshots.prepare("one", &layers).unwrap_err();
    assert!(matches!(again, SnapshotError::Exists(key) if key == "one"));
    // The failed attempt changed nothing.
    assert_eq!(snapshots.mount("one").unwrap(), mount);
    check_writable_parts(&mount);
}

/// Upper and work are there, empty, apart, and on one file system.
fn check_writable_parts(mount: &RootMount) {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| {
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
        std::fs::metadata(path).unwrap().dev()
    };
    assert_eq!(device(&mount.upper), device(&mount.work));
    assert_ne!(mount.upper, mount.work);
}

fn stands_on_nothing(snapshots: &dyn Snapshots) {
    let mount = snapshots.prepare("scratch", &[]).unwrap();
    // Overlayfs wants a lower directory all the same.
    assert_eq!(mount.lower.len(), 1);
    assert_eq!(std::fs::read_dir(&mount.lower[0]).unwrap().count(), 0);
}

fn refuses_bad_keys(snapshots: &dyn Snapshots, layers: [DiffId; 2]) {
    let before = snapshots.list().unwrap();
    for key in [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "/a",
        "a\0",
        "ä",
        &"x".repeat(129),
    ] {
        let refused = |result| matches!(result, Err(SnapshotError::InvalidKey(_)));
        assert!(
            refused(snapshots.prepare(key, &layers).map(drop)),
            "{key:?}"
        );
        assert!(refused(snapshots.mount(key).map(drop)), "{key:?}");
        assert!(refused(snapshots.remove(key)), "{key:?}");
        assert!(refused(snapshots.usage(key).map(drop)), "{key:?}");
    }
    assert_eq!(snapshots.list().unwrap(), before);
}

fn refuses_missing_layers(snapshots: &dyn Snapshots) {
    let missing = DiffId(Digest::from_sha256([9; 32]));
    let error = snapshots.prepare("missing", &[missing]).unwrap_err();
    assert!(matches!(error, SnapshotError::Layer { .. }), "{error}");
    let error = snapshots.mount("missing").unwrap_err();
    assert!(matches!(error, SnapshotError::NotFound(_)), "{error}");
}

fn counts_usage(snapshots: &dyn Snapshots, layers: [DiffId; 2]) {
    let upper = snapshots.prepare("used", &layers).unwrap().upper;
    assert_eq!(snapshots.usage("used").unwrap(), Usage::default());
    std::fs::create_dir_all(upper.join("a/b")).unwrap();
    std::fs::write(upper.join("a/file"), vec![1; 100_000]).unwrap();
    std::fs::hard_link(upper.join("a/file"), upper.join("a/b/again")).unwrap();
    std::os::unix::fs::symlink("/", upper.join("root")).unwrap();
    let usage = snapshots.usage("used").unwrap();
    assert_eq!(
        usage.inodes, 4,
        "two directories, one file with two names, one link"
    );
    assert!((100_000..200_000).contains(&usage.size_bytes), "{usage:?}");
    let error = snapshots.usage("never").unwrap_err();
    assert!(matches!(error, SnapshotError::NotFound(_)), "{error}");
}

fn lists_and_removes(snapshots: &dyn Snapshots, layers: [DiffId; 2]) {
    assert_eq!(snapshots.list().unwrap(), ["one", "scratch", "used"]);
    assert_eq!(snapshots.layers_in_use().unwrap(), layers.into());
    let upper = snapshots.mount("used").unwrap().upper;
    for key in ["used", "used", "scratch", "never"] {
        snapshots.remove(key).unwrap();
    }
    assert!(!upper.exists());
    let error = snapshots.mount("used").unwrap_err();
    assert!(matches!(error, SnapshotError::NotFound(_)), "{error}");
    assert_eq!(snapshots.list().unwrap(), ["one"]);
    // A key is free again at once.
    check_writable_parts(&snapshots.prepare("used", &layers).unwrap());
    for key in snapshots.list().unwrap() {
        snapshots.remove(&key).unwrap();
    }
    starts_empty(snapshots);
}
