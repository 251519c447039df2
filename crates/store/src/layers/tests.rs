//! A layer from its compressed bytes to its name.

use super::*;
use crate::Store;
use sha2::Digest as _;
use std::io::{Read, Write};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("data")).unwrap();
    (dir, store)
}

/// An archive of some hundred kilobytes that does not compress to nothing.
fn archive() -> Vec<u8> {
    let mut tar = ::tar::Builder::new(Vec::new());
    let mut state = 1_u32;
    for number in 0..40 {
        let data: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(10_000 + number * 311)
        .collect();
        let mut header = ::tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        let path = format!("dir-{}/file-{number}", number % 3);
        tar.append_data(&mut header, path, &data[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn diff_id(bytes: &[u8]) -> DiffId {
    DiffId(model::Digest::from_sha256(
        sha2::Sha256::digest(bytes).into(),
    ))
}

fn unpack(store: &Store, bytes: &[u8]) -> Result<UnpackedLayer, UnpackError> {
    let writer = store.layers().begin().unwrap();
    writer.unpack(&mut &bytes[..], &UnpackLimits::default())
}

/// Nothing half-made is left: neither where layers are made nor where they stay.
fn check_clean(store: &Store) {
    let inner = &store.layers().0;
    assert_eq!(std::fs::read_dir(&inner.unpacking).unwrap().count(), 0);
    assert!(store.layers().list().unwrap().is_empty());
}

#[test]
fn every_compression_gives_the_same_layer() {
    if !crate::testing::is_root() {
        return;
    }
    let plain = archive();
    let (first, second) = plain.split_at(plain.len() / 2);
    for compressed in [
        plain.clone(),
        gzip(&plain),
        // Two members, as pigz and estargz write.
        [gzip(first), gzip(second)].concat(),
        zstd::encode_all(&plain[..], 3).unwrap(),
        [
            zstd::encode_all(first, 3).unwrap(),
            zstd::encode_all(second, 3).unwrap(),
        ]
        .concat(),
        // A skippable frame goes before.
        [
            &[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..],
            &zstd::encode_all(&plain[..], 1).unwrap(),
        ]
        .concat(),
    ] {
        let (_dir, store) = store();
        let unpacked = unpack(&store, &compressed).unwrap();
        assert_eq!(unpacked.diff_id, diff_id(&plain));
        assert_eq!(
            unpacked.size_bytes,
            (0..40).map(|n| 10_000 + n * 311).sum::<u64>()
        );
        unpacked.commit(&diff_id(&plain)).unwrap();
        let tree = store.layers().path(&diff_id(&plain));
        assert_eq!(
            std::fs::metadata(tree.join("dir-0/file-39")).unwrap().len(),
            10_000 + 39 * 311
        );
    }
}

#[test]
fn an_empty_layer_is_a_layer() {
    if !crate::testing::is_root() {
        return;
    }
    for plain in [&[0; 1024][..], &[]] {
        let (_dir, store) = store();
        let unpacked = unpack(&store, plain).unwrap();
        assert_eq!((unpacked.diff_id, unpacked.size_bytes), (diff_id(plain), 0));
        unpacked.commit(&diff_id(plain)).unwrap();
    }
}

#[test]
fn bad_streams_are_told_apart_and_leave_nothing() {
    if !crate::testing::is_root() {
        return;
    }
    let plain = archive();
    let compressed = gzip(&plain);
    let zstd = zstd::encode_all(&plain[..], 3).unwrap();
    let (_dir, store) = store();
    let check = |bytes: &[u8], expected: fn(&UnpackError) -> bool| {
        let error = unpack(&store, bytes).map(drop).unwrap_err();
        assert!(expected(&error), "{error:?}");
        check_clean(&store);
    };
    let is_truncated = |e: &UnpackError| matches!(e, UnpackError::Truncated);
    for cut in [
        5,
        300,
        compressed.len() / 2,
        compressed.len() - 9,
        compressed.len() - 1,
    ] {
        check(&compressed[..cut], is_truncated);
    }
    for cut in [5, 300, zstd.len() / 2, zstd.len() - 1] {
        check(&zstd[..cut], is_truncated);
    }
    check(&plain[..plain.len() / 2], is_truncated);
    let mut flipped = compressed.clone();
    flipped[compressed.len() / 2] ^= 0x10;
    check(&flipped, |e| {
        matches!(
            e,
            UnpackError::Decompress {
                compression: "gzip",
                ..
            } | UnpackError::InvalidHeader { .. }
        )
    });
    check(
        &[&compressed[..], b"this is no gzip member"].concat(),
        |e| {
            matches!(
                e,
                UnpackError::Decompress {
                    compression: "gzip",
                    ..
                }
            )
        },
    );
    check(&gzip(&[&plain[..], b"garbage"].concat()), |e| {
        matches!(e, UnpackError::TrailingGarbage)
    });
    check(b"BZh91AY&SY", |e| {
        matches!(e, UnpackError::UnsupportedCompression("bzip2"))
    });
    check(b"\xfd7zXZ\0\0\0", |e| {
        matches!(e, UnpackError::UnsupportedCompression("xz"))
    });
    check(&b"<html>404</html>".repeat(99), |e| {
        matches!(e, UnpackError::InvalidHeader { offset: 0, .. })
    });
}

#[test]
fn a_failing_source_is_the_sources_failure() {
    if !crate::testing::is_root() {
        return;
    }
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "gone"));
            }
            self.0.read(buffer)
        }
    }
    let (_dir, store) = store();
    let plain = archive();
    for bytes in [&plain[..plain.len() / 2], &gzip(&plain)[..4000], &[]] {
        let writer = store.layers().begin().unwrap();
        let result = writer.unpack(&mut Failing(bytes), &UnpackLimits::default());
        let Err(UnpackError::Source(error)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        check_clean(&store);
    }
}

#[test]
fn bombs_are_stopped() {
    if !crate::testing::is_root() {
        return;
    }
    let mut tar = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_gnu();
    header.set_size(64 << 20);
    tar.append_data(&mut header, "zeros", io::repeat(0).take(64 << 20))
        .unwrap();
    let bomb = gzip(&tar.into_inner().unwrap());
    let (_dir, store) = store();
    let unpack = |limits: UnpackLimits| {
        let writer = store.layers().begin().unwrap();
        writer.unpack(&mut &bomb[..], &limits).map(drop)
    };
    unpack(UnpackLimits::default()).unwrap();
    let ratio_free_bytes = 16 << 20;
    let result = unpack(UnpackLimits {
        ratio_free_bytes,
        ..UnpackLimits::default()
    });
    assert!(
        matches!(result, Err(UnpackError::Bomb { .. })),
        "{result:?}"
    );
    let uncompressed_bytes_max = 32 << 20;
    let result = unpack(UnpackLimits {
        uncompressed_bytes_max,
        ..UnpackLimits::default()
    });
    assert!(
        matches!(result, Err(UnpackError::TooLarge(_))),
        "{result:?}"
    );
    check_clean(&store);
}

#[test]
fn the_wrong_layer_is_not_committed() {
    if !crate::testing::is_root() {
        return;
    }
    let (_dir, store) = store();
    let plain = archive();
    let unpacked = unpack(&store, &plain).unwrap();
    let error = unpacked.commit(&diff_id(b"another")).unwrap_err();
    let CommitError::DiffIdMismatch { expected, actual } = error else {
        panic!("{error}");
    };
    assert_eq!((expected, actual), (diff_id(b"another"), diff_id(&plain)));
    check_clean(&store);
}

#[test]
fn the_second_writer_of_a_layer_yields() {
    if !crate::testing::is_root() {
        return;
    }
    let (_dir, store) = store();
    let plain = archive();
    let id = diff_id(&plain);
    let [first, second] = [(); 2].map(|()| unpack(&store, &plain).unwrap());
    assert!(!store.layers().contains(&id));
    first.commit(&id).unwrap();
    let inode =
        |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let before = inode(&store.layers().path(&id));
    second.commit(&id).unwrap();
    assert_eq!(inode(&store.layers().path(&id)), before);
    assert!(store.layers().contains(&id));
    assert_eq!(
        std::fs::read_dir(&store.layers().0.unpacking)
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn layers_are_found_again_and_leftovers_are_swept() {
    if !crate::testing::is_root() {
        return;
    }
    let (dir, store) = store();
    let plain = archive();
    let id = diff_id(&plain);
    let unpacked = unpack(&store, &plain).unwrap();
    let size_bytes = unpacked.size_bytes;
    unpacked.commit(&id).unwrap();
    // What a process leaves that dies while unpacking, or while removing.
    let inner = &store.layers().0;
    std::fs::create_dir_all(inner.unpacking.join("0/fs/half")).unwrap();
    std::os::unix::fs::symlink("../layers/sha256/gone/fs", inner.short.join("gone")).unwrap();
    let short = inner.short.clone();
    drop(store);
    let store = Store::open(&dir.path().join("data")).unwrap();
    let layers = store.layers();
    assert_eq!(layers.list().unwrap(), [id]);
    assert_eq!(layers.size_bytes(&id).unwrap(), size_bytes);
    let info = layers.info(&id).unwrap();
    assert_eq!(info.short, id.0.hex()[..8]);
    let same = |a: &Path, b: &Path| std::fs::canonicalize(a).unwrap() == b;
    assert!(same(&layers.short_path(&info), &layers.path(&id)));
    assert_eq!(std::fs::read_dir(&layers.0.unpacking).unwrap().count(), 0);
    std::fs::symlink_metadata(short.join("gone")).unwrap_err();
    layers.remove(&id).unwrap();
    layers.remove(&id).unwrap();
    assert!(!layers.contains(&id) && !layers.short_path(&info).exists());
    assert!(matches!(
        layers.size_bytes(&id),
        Err(LayerError::NotFound(_))
    ));
}

#[test]
fn short_names_grow_where_layers_begin_alike() {
    let (_dir, store) = store();
    let layers = store.layers();
    let [a, b] = [0, 1].map(|last| {
        let mut bytes = [7; 32];
        bytes[31] = last;
        DiffId(model::Digest::from_sha256(bytes))
    });
    assert_eq!(layers.take_short_name(&a).unwrap(), "07070707");
    assert_eq!(layers.take_short_name(&a).unwrap(), "07070707");
    assert_eq!(layers.take_short_name(&b).unwrap(), "070707070");
}
