//! The container's log in docker's `json-file` format, with rotation.
//!
//! ```text
//! <id>-json.log     {"log":"hello\n","stream":"stdout","time":"2026-11-24T12:00:00.5Z"}
//! <id>-json.log.1   the file before, up to max_files in all
//! ```
//!
//! Lines longer than 16 KiB are written in pieces without a newline, as docker does. A log that
//! cannot be written (no space) loses lines and never stops the container.

use super::json_line;
use super::protocol::LogTarget;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Docker's bound on one log entry.
const MAX_ENTRY_BYTES: usize = 16 << 10;

/// Which stream an entry is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// An open log.
#[derive(Debug)]
pub(super) struct LogWriter {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    max_size_bytes: Option<u64>,
    max_files: u32,
    /// Lines not yet ended, of stdout and of stderr.
    unfinished: [Vec<u8>; 2],
    /// Entries not yet written.
    pending: Vec<u8>,
}

impl LogWriter {
    /// Opens the log; none for the driver `none`.
    pub(super) fn open(target: &LogTarget) -> io::Result<Option<Self>> {
        let LogTarget::JsonFile {
            path,
            max_size_bytes,
            max_files,
        } = target
        else {
            return Ok(None);
        };
        let file = open(path)?;
        Ok(Some(Self {
            path: path.clone(),
            size_bytes: file.metadata()?.len(),
            file,
            max_size_bytes: *max_size_bytes,
            max_files: (*max_files).max(1),
            unfinished: [Vec::new(), Vec::new()],
            pending: Vec::new(),
        }))
    }

    /// Takes output as it comes, and writes the lines that are complete.
    pub(super) fn append(&mut self, stream: Stream, mut data: &[u8], now_unix_ns: u64) {
        while let Some(newline) = data.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = data.split_at(newline + 1);
            self.hold(stream, line, now_unix_ns);
            self.end_entry(stream, now_unix_ns);
            data = rest;
        }
        self.hold(stream, data, now_unix_ns);
        self.write_pending();
    }

    /// Writes what has no newline yet, at the stream's end.
    pub(super) fn finish(&mut self, now_unix_ns: u64) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.end_entry(stream, now_unix_ns);
        }
        self.write_pending();
    }

    /// Adds a piece of a line, ending an entry wherever it reaches its bound.
    fn hold(&mut self, stream: Stream, mut piece: &[u8], now_unix_ns: u64) {
        loop {
            let ended = piece.last() == Some(&b'\n');
            let line = &mut self.unfinished[stream as usize];
            // The newline itself does not count, as docker splits before adding it.
            let room = MAX_ENTRY_BYTES.saturating_sub(line.len());
            if piece.len() - usize::from(ended) <= room {
                line.extend_from_slice(piece);
                if line.len() >= MAX_ENTRY_BYTES && !ended {
                    self.end_partial(stream, now_unix_ns);
                }
                return;
            }
            let (head, tail) = piece.split_at(room);
            line.extend_from_slice(head);
            self.end_partial(stream, now_unix_ns);
            piece = tail;
        }
    }

    /// Ends an entry in mid-line, but not in mid-character.
    fn end_partial(&mut self, stream: Stream, now_unix_ns: u64) {
        let line = &mut self.unfinished[stream as usize];
        let cut = json_line::character_boundary(line);
        let rest = line.split_off(cut);
        self.end_entry(stream, now_unix_ns);
        self.unfinished[stream as usize].extend_from_slice(&rest);
    }

    fn end_entry(&mut self, stream: Stream, now_unix_ns: u64) {
        let mut line = std::mem::take(&mut self.unfinished[stream as usize]);
        if line.is_empty() {
            return;
        }
        self.rotate_if_full();
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        json_line::write(&mut self.pending, &line, name, now_unix_ns);
        if line.capacity() <= 1024 {
            line.clear(); // small ones are worth keeping, large ones are not
            self.unfinished[stream as usize] = line;
        }
        if self.pending.len() >= MAX_ENTRY_BYTES {
            self.write_pending();
        }
    }

    fn write_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        if self.file.write_all(&self.pending).is_ok() {
            self.size_bytes += self.pending.len() as u64;
        }
        if self.pending.capacity() > 4096 {
            self.pending = Vec::new();
        } else {
            self.pending.clear();
        }
    }

    /// Starts a new file, as docker does, before the entry that would come after the bound.
    fn rotate_if_full(&mut self) {
        let Some(max) = self.max_size_bytes else {
            return;
        };
        if self.size_bytes + (self.pending.len() as u64) < max {
            return;
        }
        self.write_pending();
        if let Ok(file) = rotate(&self.path, self.max_files) {
            self.file = file;
            self.size_bytes = 0;
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// Renames `log` to `log.1` and so on, drops the oldest, and opens a new `log`.
fn rotate(path: &Path, max_files: u32) -> io::Result<File> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    if max_files == 1 {
        std::fs::remove_file(path)?;
    }
    for number in (0..max_files - 1).rev() {
        match std::fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(
        max_size_bytes: Option<u64>,
        max_files: u32,
        pieces: &[(Stream, &[u8])],
    ) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x-json.log");
        let target = LogTarget::JsonFile {
            path: path.clone(),
            max_size_bytes,
            max_files,
        };
        let mut log = LogWriter::open(&target).unwrap().unwrap();
        for (stream, piece) in pieces {
            log.append(*stream, piece, 0);
        }
        log.finish(0);
        let mut files = vec![std::fs::read_to_string(&path).unwrap()];
        for number in 1.. {
            match std::fs::read_to_string(format!("{}.{number}", path.display())) {
                Ok(text) => files.push(text),
                Err(_) => break,
            }
        }
        files
    }

    fn entry(text: &str, stream: &str) -> String {
        format!(
            "{{\"log\":\"{text}\",\"stream\":\"{stream}\",\"time\":\"1970-01-01T00:00:00Z\"}}\n"
        )
    }

    #[test]
    fn lines_are_joined_across_pieces_and_streams_kept_apart() {
        let files = written(
            None,
            1,
            &[
                (Stream::Stdout, b"he"),
                (Stream::Stderr, b"oops\nand"),
                (Stream::Stdout, b"llo\n\nbye"),
            ],
        );
        let expected = [
            entry("oops\\n", "stderr"),
            entry("hello\\n", "stdout"),
            entry("\\n", "stdout"),
            entry("bye", "stdout"),
            entry("and", "stderr"),
        ];
        assert_eq!(files, [expected.concat()]);
    }

    #[test]
    fn long_lines_are_split_at_16_kib() {
        let mut line = "a".repeat(MAX_ENTRY_BYTES + 3);
        line.push('\n');
        let expected = entry(&"a".repeat(MAX_ENTRY_BYTES), "stdout") + &entry("aaa\\n", "stdout");
        assert_eq!(
            written(None, 1, &[(Stream::Stdout, line.as_bytes())]),
            [expected]
        );

        let exact = "b".repeat(MAX_ENTRY_BYTES) + "\n";
        let expected = entry(&("b".repeat(MAX_ENTRY_BYTES) + "\\n"), "stdout");
        assert_eq!(
            written(None, 1, &[(Stream::Stdout, exact.as_bytes())]),
            [expected]
        );
    }

    #[test]
    fn a_character_is_not_cut_in_two() {
        let line = "é".repeat(MAX_ENTRY_BYTES) + "\n";
        let line = format!("x{line}");
        let files = written(None, 1, &[(Stream::Stdout, line.as_bytes())]);
        assert!(!files[0].contains("\\ufffd"));
        let text: String = files[0]
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["log"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(text, line);
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        let lines: Vec<(Stream, &[u8])> = [&b"1\n"[..], b"2\n", b"3\n", b"4\n"]
            .iter()
            .map(|line| (Stream::Stdout, *line))
            .collect();
        let files = written(Some(10), 3, &lines);
        let expected: Vec<String> = ["4\\n", "3\\n", "2\\n"]
            .iter()
            .map(|text| entry(text, "stdout"))
            .collect();
        assert_eq!(files, expected);
        assert_eq!(written(Some(10), 1, &lines), [entry("4\\n", "stdout")]);
    }
}
