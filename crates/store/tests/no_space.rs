//! A full disk: each error says so, and nothing is left half-made. The test runs itself again in
//! a mount namespace with a file system of two megabytes; that needs root.

#![cfg(test)]

#[path = "../src/testing.rs"]
mod testing;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;
use store::{ContentError, IngestError, Store, UnpackError, UnpackLimits};

const SMALL: &str = "BERTH_TEST_SMALL_DISK";

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    if !testing::is_root() {
        return;
    }
    if let Some(small) = std::env::var_os(SMALL) {
        return fill(Path::new(&small));
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=2m tmpfs \"$1\" && exec \"$2\" --exact \
                  a_full_disk_leaves_nothing_half_made";
    let output = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", script, "sh"])
        .args([dir.path(), &std::env::current_exe().unwrap()])
        .env(SMALL, dir.path())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&text)
    );
}

fn fill(disk: &Path) {
    let store = Store::open(disk).unwrap();
    unpack_fails(&store);
    ingest_fails(&store);
    let error = store.content().put(&vec![1; 3 << 20]).unwrap_err();
    assert!(matches!(error, ContentError::Io { source, .. } if is_full(&source)));
    // What fits still goes.
    let digest = store.content().put(b"small").unwrap();
    assert_eq!(store.content().list().unwrap(), [(digest, 5)]);
    assert!(store.layers().list().unwrap().is_empty());
    for dir in ["layers/unpacking", "content/ingest"] {
        let left = std::fs::read_dir(disk.join(dir)).unwrap().count();
        assert_eq!(left, 0, "{dir}");
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull
}

fn unpack_fails(store: &Store) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3 << 20);
    header.set_mode(0o644);
    let data = io::repeat(7).take(3 << 20);
    tar.append_data(&mut header, "dir/large", data).unwrap();
    let layer = tar.into_inner().unwrap();
    let writer = store.layers().begin().unwrap();
    let error = writer
        .unpack(&mut &layer[..], &UnpackLimits::default())
        .unwrap_err();
    let UnpackError::Io { path, source } = error else {
        panic!("{error}");
    };
    assert!(is_full(&source), "{source}");
    assert_eq!(path, Path::new("dir/large"));
    // Its bytes are free again as soon as the trash is emptied.
    let trash = store.root().join("trash");
    while std::fs::read_dir(&trash).unwrap().next().is_some() {
        std::thread::yield_now();
    }
}

fn ingest_fails(store: &Store) {
    let descriptor = model::image::Descriptor {
        media_type: String::new(),
        digest: model::Digest::from_sha256([1; 32]),
        size: 3 << 20,
        platform: None,
        annotations: BTreeMap::new(),
    };
    let mut ingest = store.content().ingest(&descriptor).unwrap();
    let error = std::iter::repeat_with(|| ingest.write(&[1; 65536]))
        .find_map(Result::err)
        .unwrap();
    assert!(matches!(error, IngestError::Io { source, .. } if is_full(&source)));
    ingest.discard().unwrap();
}
