//! What each target does with its bytes, and what must hold whatever they are.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

use model::Reference;
use model::image::{ImageConfig, Index, Manifest};
use store::UnpackLimits;
use store::layers::unpack_into;

/// A reference that is accepted means the same when it is written out and read again.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(reference) = Reference::from_str(text) else {
        return;
    };
    let written = reference.to_string();
    let again = Reference::from_str(&written).expect("what was written is read again");
    assert_eq!(reference, again);
    let familiar = Reference::from_str(&reference.familiar()).expect("the short form is read");
    assert_eq!(reference.name(), familiar.name());
    assert!(
        !reference.repository().contains(".."),
        "no path can be made of it: {text:?}"
    );
}

/// The image documents never panic, and survive being written and read again.
pub fn manifest(bytes: &[u8]) {
    fn round_trip<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
        let Ok(value) = serde_json::from_slice::<T>(bytes) else {
            return;
        };
        let written = serde_json::to_vec(&value).expect("what was read can be written");
        let again = serde_json::from_slice::<T>(&written).expect("and read again");
        let written_again = serde_json::to_vec(&again).expect("and written again");
        assert_eq!(written, written_again, "a second round changes nothing");
    }
    round_trip::<Manifest>(bytes);
    round_trip::<Index>(bytes);
    round_trip::<ImageConfig>(bytes);
}

/// A body is read or refused with a message, and settings survive being stored and read again.
pub fn api_body(bytes: &[u8]) {
    match docker_api::read_create_body(bytes) {
        Ok(settings) => {
            let written = serde_json::to_string(&settings).expect("settings can be stored");
            let again = serde_json::from_str(&written).expect("and read again");
            assert_eq!(settings, again);
        }
        Err(error) => assert!(!error.message().is_empty()),
    }
}

/// A layer unpacks or fails, and either way nothing appears outside its root.
pub fn layer(bytes: &[u8]) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let root = scratch.path().join("root");
    let outside = scratch.path().join("outside");
    fs::create_dir(&root).expect("an empty root");
    fs::create_dir(&outside).expect("a neighbour");
    fs::write(outside.join("file"), b"untouched").expect("a file in it");
    let directory = fs::File::open(&root).expect("the root opens");
    let limits = UnpackLimits {
        entries_max: 1000,
        ratio_free_bytes: 1 << 20,
        uncompressed_bytes_max: 8 << 20,
        ..UnpackLimits::default()
    };
    let mut input = bytes;
    let _refused = unpack_into(&mut input, directory.as_fd(), &limits);
    let entries = |path: &Path| -> Vec<Vec<u8>> {
        let entries = fs::read_dir(path).expect("a directory is read");
        entries
            .flatten()
            .map(|entry| entry.file_name().as_bytes().to_vec())
            .collect()
    };
    let mut found = entries(scratch.path());
    found.sort();
    assert_eq!(found, [b"outside".to_vec(), b"root".to_vec()]);
    assert_eq!(entries(&outside), [b"file".to_vec()]);
    assert_eq!(
        fs::read(outside.join("file")).expect("still there"),
        b"untouched"
    );
    // What cannot be removed by an ordinary walk must not have been made.
    fs::remove_dir_all(&root).expect("the unpacked tree can be removed");
}
