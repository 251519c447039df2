//! Durable records: one JSON file for each object, replaced whole.
//!
//! Owns `records/<kind>/<id>.json`. Knows nothing of what a record means. An ID may be any text:
//! bytes outside a safe set are written as `%XX`, so no ID can name a path. A file that does not
//! parse is moved to `records/<kind>/corrupt/` and reported; it is never deleted and never stops
//! the others from being read.

use crate::files::{self, Durability};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest file name that common file systems hold.
const NAME_BYTES_MAX: usize = 255;
const SUFFIX: &str = ".json";
const CORRUPT_DIR: &str = "corrupt";

/// Handle on the records; clones are cheap.
#[derive(Debug, Clone)]
pub struct Records {
    root: Arc<Path>,
}

/// Why a record could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The ID is empty or too long to be a file name.
    #[error("invalid record name {0:?}")]
    InvalidName(String),
    /// The value has no JSON form.
    #[error("cannot write record {kind}/{id} as JSON")]
    Encode {
        /// Kind of the record.
        kind: String,
        /// Its ID.
        id: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The file is not the JSON that was asked for.
    #[error("record {} is corrupt", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("cannot access record {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Records {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        files::ensure_dir(root)?;
        for entry in std::fs::read_dir(root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                files::sweep_temporaries(&entry.path())?;
            }
        }
        Ok(Self { root: root.into() })
    }

    /// Replaces a record. Every later read sees it; a power cut may bring the old one back.
    ///
    /// # Errors
    /// The ID is unusable, the value has no JSON form, or the file system refuses.
    pub fn put<T: Serialize>(&self, kind: &str, id: &str, value: &T) -> Result<(), RecordError> {
        self.write(kind, id, value, Durability::Visible)
    }

    /// Replaces a record and returns when it is on the disk.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_durable<T: Serialize>(
        &self,
        kind: &str,
        id: &str,
        value: &T,
    ) -> Result<(), RecordError> {
        self.write(kind, id, value, Durability::Durable)
    }

    fn write<T: Serialize>(
        &self,
        kind: &str,
        id: &str,
        value: &T,
        durability: Durability,
    ) -> Result<(), RecordError> {
        let (dir, name) = self.locate(kind, id)?;
        let bytes = serde_json::to_vec(value).map_err(|source| RecordError::Encode {
            kind: kind.to_owned(),
            id: id.to_owned(),
            source,
        })?;
        let result = match files::replace(&dir, &name, &bytes, durability) {
            // The first record of its kind: its directory is not there yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self
                .make_kind(&dir, durability)
                .and_then(|()| files::replace(&dir, &name, &bytes, durability)),
            result => result,
        };
        result.map_err(at(&dir.join(name)))
    }

    fn make_kind(&self, dir: &Path, durability: Durability) -> io::Result<()> {
        files::ensure_dir(dir)?;
        match durability {
            Durability::Visible => Ok(()),
            Durability::Durable => files::sync_dir(&self.root),
        }
    }

    /// Reads a record, if there is one.
    ///
    /// # Errors
    /// The file is corrupt (it stays where it is), or cannot be read.
    pub fn get<T: DeserializeOwned>(&self, kind: &str, id: &str) -> Result<Option<T>, RecordError> {
        let (dir, name) = self.locate(kind, id)?;
        let path = dir.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| RecordError::Corrupt { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Removes a record; one that is not there is fine.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self, kind: &str, id: &str) -> Result<(), RecordError> {
        let (dir, name) = self.locate(kind, id)?;
        let path = dir.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Reads every record of a kind, sorted by ID. Corrupt ones are moved to
    /// `records/<kind>/corrupt/` and named in an error event; the others are returned.
    ///
    /// # Errors
    /// The directory or a file cannot be read.
    pub fn list<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<(String, T)>, RecordError> {
        let dir = self.root.join(safe_name(kind, "")?);
        let entries = match std::fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at(&dir))?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let name = entry.map_err(at(&dir))?.file_name();
            let Some(id) = name.to_str().and_then(id_of) else {
                continue;
            };
            if let Some(record) = read_listed(&dir, &name)? {
                records.push((id, record));
            }
        }
        records.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(records)
    }

    fn locate(&self, kind: &str, id: &str) -> Result<(PathBuf, String), RecordError> {
        Ok((self.root.join(safe_name(kind, "")?), safe_name(id, SUFFIX)?))
    }
}

fn read_listed<T: DeserializeOwned>(
    dir: &Path,
    name: &std::ffi::OsStr,
) -> Result<Option<T>, RecordError> {
    let path = dir.join(name);
    let bytes = match std::fs::read(&path) {
        // Removed since the directory was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(at(&path))?,
    };
    match serde_json::from_slice(&bytes) {
        Ok(record) => Ok(Some(record)),
        Err(error) => {
            let aside = set_aside(dir, name).map_err(at(&path))?;
            tracing::error!(
                record = %path.display(), moved_to = %aside.display(), %error,
                "a corrupt record was set aside"
            );
            Ok(None)
        }
    }
}

/// Moves a corrupt file where it is not read again, under a name that replaces no earlier one.
fn set_aside(dir: &Path, name: &std::ffi::OsStr) -> io::Result<PathBuf> {
    let corrupt = dir.join(CORRUPT_DIR);
    files::ensure_dir(&corrupt)?;
    for number in 0_u32.. {
        let mut new = name.to_owned();
        new.push(format!(".{number}"));
        let target = corrupt.join(new);
        // A link refuses to replace; a rename would not.
        match std::fs::hard_link(dir.join(name), &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => {
                std::fs::remove_file(dir.join(name))?;
                return Ok(target);
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RecordError + '_ {
    move |source| RecordError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Spells an ID as a file name. A leading dot is escaped too: no `.`, `..`, no temporary.
fn safe_name(id: &str, suffix: &str) -> Result<String, RecordError> {
    let mut name = String::with_capacity(id.len() + suffix.len());
    for (position, byte) in id.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b':' | b'@' | b'+')
            || (byte == b'.' && position > 0);
        if plain {
            name.push(char::from(byte));
        } else {
            name.push('%');
            for digit in [byte >> 4, byte & 15] {
                name.extend(char::from_digit(digit.into(), 16));
            }
        }
    }
    name.push_str(suffix);
    if id.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(RecordError::InvalidName(id.chars().take(64).collect()));
    }
    Ok(name)
}

/// Reads an ID back from a file name; nothing for files that are no records.
fn id_of(name: &str) -> Option<String> {
    let name = name.strip_suffix(SUFFIX)?;
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()?
        } else {
            byte
        });
    }
    let id = String::from_utf8(bytes).ok()?;
    // Only the spelling we write counts, so that one ID has one file.
    (safe_name(&id, "").ok()? == name).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> (tempfile::TempDir, Records) {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(&dir.path().join("records")).unwrap();
        (dir, records)
    }

    #[test]
    fn puts_gets_lists_removes() {
        let (_dir, records) = records();
        assert_eq!(records.get::<u32>("numbers", "one").unwrap(), None);
        assert!(records.list::<u32>("numbers").unwrap().is_empty());
        records.put("numbers", "two", &2).unwrap();
        records.put_durable("numbers", "one", &7).unwrap();
        records.put("numbers", "one", &1).unwrap();
        assert_eq!(records.get("numbers", "one").unwrap(), Some(1));
        let listed = records.list::<u32>("numbers").unwrap();
        assert_eq!(listed, [("one".to_owned(), 1), ("two".to_owned(), 2)]);
        records.remove("numbers", "one").unwrap();
        records.remove("numbers", "one").unwrap();
        assert_eq!(records.list::<u32>("numbers").unwrap().len(), 1);
    }

    #[test]
    fn a_corrupt_record_is_set_aside_and_the_rest_is_read() {
        let (dir, records) = records();
        records.put("numbers", "good", &1).unwrap();
        let bad = dir.path().join("records/numbers/bad.json");
        for text in ["{\"half", ""] {
            std::fs::write(&bad, text).unwrap();
            let error = records.get::<u32>("numbers", "bad").unwrap_err();
            assert!(matches!(error, RecordError::Corrupt { path, .. } if path == bad));
            let listed = records.list::<u32>("numbers").unwrap();
            assert_eq!(listed, [("good".to_owned(), 1)]);
            assert!(!bad.exists());
        }
        let aside = dir.path().join("records/numbers/corrupt");
        assert_eq!(std::fs::read(aside.join("bad.json.0")).unwrap(), b"{\"half");
        assert_eq!(std::fs::read(aside.join("bad.json.1")).unwrap(), b"");
    }

    #[test]
    fn no_id_is_a_path() {
        let (dir, records) = records();
        for id in [
            "../escape",
            "/etc/passwd",
            "..",
            ".",
            "a/b",
            "nul\0",
            ".new-0",
        ] {
            records.put("odd", id, &id).unwrap();
            assert_eq!(
                records.get::<String>("odd", id).unwrap().as_deref(),
                Some(id)
            );
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(records.list::<String>("odd").unwrap().len(), 7);
        assert!(matches!(
            records.put("odd", "", &0),
            Err(RecordError::InvalidName(_))
        ));
        assert!(matches!(
            records.put("odd", &"x".repeat(251), &0),
            Err(RecordError::InvalidName(_))
        ));
    }

    proptest! {
        #[test]
        fn names_round_trip(id in ".{1,20}") {
            let name = safe_name(&id, SUFFIX).unwrap();
            prop_assert!(!name.contains('/') && !name.starts_with('.') && !name.contains('\0'));
            prop_assert_eq!(id_of(&name), Some(id));
        }

        #[test]
        fn reading_names_never_panics(name in ".{0,40}") {
            if let Some(id) = id_of(&name) {
                prop_assert_eq!(safe_name(&id, SUFFIX).unwrap(), name);
            }
        }
    }
}
