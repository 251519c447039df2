//! The reader against tars that GNU tar, other writers and nobody at all would make.

use super::*;
use proptest::prelude::*;

fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, UnpackError> {
    let limits = UnpackLimits::default();
    // A tiny buffer puts every boundary in the way.
    let mut reader = Reader::new(io::BufReader::with_capacity(7, bytes), &limits);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut data = Vec::new();
        loop {
            let bytes = reader.data()?;
            if bytes.is_empty() {
                break;
            }
            let count = bytes.len();
            data.extend_from_slice(bytes);
            reader.consume(count);
        }
        entries.push((entry, data));
    }
    Ok(entries)
}

fn builder() -> tar::Builder<Vec<u8>> {
    tar::Builder::new(Vec::new())
}

fn file(size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

#[test]
fn long_names_and_links() {
    let mut tar = builder();
    let long = "d/".repeat(150) + "name";
    tar.append_data(&mut file(3), &long, &b"abc"[..]).unwrap();
    let mut link = file(0);
    link.set_entry_type(tar::EntryType::Symlink);
    tar.append_link(&mut link, "link", &long).unwrap();
    let entries = read_all(&tar.into_inner().unwrap()).unwrap();
    assert_eq!(entries[0].0.path, long.as_bytes());
    assert_eq!(entries[0].1, b"abc");
    assert_eq!(
        (entries[1].0.kind, &entries[1].0.link[..]),
        (Kind::Symlink, long.as_bytes())
    );
}

#[test]
fn global_headers_stand_for_what_follows() {
    let mut tar = builder();
    let records = b"10 uid=42\n19 path=overridden\n";
    let mut global = file(records.len());
    global.set_entry_type(tar::EntryType::XGlobalHeader);
    global.set_cksum();
    tar.append(&global, &records[..]).unwrap();
    tar.append_data(&mut file(0), "one", io::empty()).unwrap();
    tar.append_pax_extensions([("uid", &b"43"[..])]).unwrap();
    tar.append_data(&mut file(0), "two", io::empty()).unwrap();
    let entries = read_all(&tar.into_inner().unwrap()).unwrap();
    let owners: Vec<_> = entries.iter().map(|(e, _)| (&e.path[..], e.uid)).collect();
    assert_eq!(owners, [(&b"one"[..], 42), (b"two", 43)]);
}

#[test]
fn ends_and_what_is_no_end() {
    let mut tar = builder();
    tar.append_data(&mut file(3), "name", &b"abc"[..]).unwrap();
    let whole = tar.into_inner().unwrap();
    let archive = &whole[..1024];
    let check = |bytes: &[u8]| read_all(bytes).map(|entries| entries.len());
    assert!(matches!(check(b""), Ok(0)));
    assert!(matches!(check(&whole), Ok(1)));
    assert!(matches!(check(archive), Ok(1)));
    assert!(matches!(check(&[archive, &[0; 512]].concat()), Ok(1)));
    assert!(matches!(check(&[&whole[..], &[0; 9000]].concat()), Ok(1)));
    assert!(matches!(
        check(&archive[..700]),
        Err(UnpackError::Truncated)
    ));
    assert!(matches!(
        check(&archive[..100]),
        Err(UnpackError::Truncated)
    ));
    let garbage = [&whole[..], b"garbage"].concat();
    assert!(matches!(check(&garbage), Err(UnpackError::TrailingGarbage)));
    let lone = [&[0; 512], archive].concat();
    assert!(matches!(
        check(&lone),
        Err(UnpackError::InvalidHeader { offset: 0, .. })
    ));
    let mut flipped = archive.to_vec();
    flipped[3] ^= 1;
    assert!(matches!(
        check(&flipped),
        Err(UnpackError::InvalidHeader { offset: 0, .. })
    ));
}

#[test]
fn bounds_what_it_holds() {
    let mut huge = file(0);
    huge.set_entry_type(tar::EntryType::XHeader);
    huge.set_size(1 << 40);
    huge.set_cksum();
    let error = read_all(huge.as_bytes()).unwrap_err();
    assert!(matches!(error, UnpackError::ExtensionTooLarge { .. }));
    let mut tar = builder();
    let long = "x/".repeat(3000);
    tar.append_data(&mut file(0), &long, io::empty()).unwrap();
    let error = read_all(&tar.into_inner().unwrap()).unwrap_err();
    assert!(matches!(
        error,
        UnpackError::PathTooLong { limit: 4096, .. }
    ));
}

#[test]
fn unknown_types_are_named() {
    let mut tar = builder();
    let mut header = file(0);
    header.set_entry_type(tar::EntryType::new(b'Z'));
    tar.append_data(&mut header, "odd", io::empty()).unwrap();
    let error = read_all(&tar.into_inner().unwrap()).unwrap_err();
    assert!(matches!(
        error,
        UnpackError::UnsupportedEntry { kind: b'Z', .. }
    ));
}

proptest! {
    #[test]
    fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000), fix: bool) {
        if fix && bytes.len() >= 512 {
            // A right checksum lets the parser see the rest of the block.
            bytes[148..156].fill(b' ');
            let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let _unused = read_all(&bytes).is_ok();
    }

    #[test]
    fn reads_what_the_tar_crate_writes(
        files in proptest::collection::vec(
            ("[a-z]{1,12}(/[a-z]{1,60}){0,4}", proptest::collection::vec(any::<u8>(), 0..1500),
             0_u32..0o10000, 0_u64..0xffff_ffff, any::<u32>()),
            0..6,
        ),
    ) {
        let mut tar = builder();
        for (path, data, mode, uid, mtime) in &files {
            let mut header = file(data.len());
            header.set_mode(*mode);
            header.set_uid(*uid);
            header.set_gid(*uid / 2);
            header.set_mtime(u64::from(*mtime));
            tar.append_data(&mut header, path, &data[..]).unwrap();
        }
        let entries = read_all(&tar.into_inner().unwrap()).unwrap();
        prop_assert_eq!(entries.len(), files.len());
        for ((entry, read), (path, data, mode, uid, mtime)) in entries.iter().zip(&files) {
            prop_assert_eq!(&entry.path, path.as_bytes());
            prop_assert_eq!(read, data);
            prop_assert_eq!(entry.mode, *mode);
            prop_assert_eq!(u64::from(entry.uid), *uid);
            prop_assert_eq!(u64::from(entry.gid), *uid / 2);
            prop_assert_eq!(entry.mtime, Time { seconds: i64::from(*mtime), nanoseconds: 0 });
        }
    }
}
