//! logs: reads the json-file log that the shim writes, its rotated files too, and follows it.
//!
//! Following waits for inotify, never for a timer: the shim is not asked, so logs can be read
//! whatever it is doing. A log is complete once the container's exit is published.

use super::error::VerbError;
use super::record::View;
use super::{Containers, files};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde::Deserialize;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Rotated files that are looked for; docker's own `max-file` is rarely above ten.
const MAX_ROTATED: u32 = 1000;
/// A line of the log that is longer is not ours: the shim splits output at 16 KiB.
const MAX_LINE_BYTES: usize = 1 << 20;
const BLOCK_BYTES: usize = 64 << 10;

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogRequest {
    /// Go on as long as the container runs.
    pub follow: bool,
    /// Only the last so many.
    pub tail: Option<usize>,
    /// Only since, nanoseconds since 1970.
    pub since_unix_ns: Option<i64>,
    /// Only until.
    pub until_unix_ns: Option<i64>,
    /// Which streams; none: both.
    pub only: Option<LogStream>,
}

/// Which stream a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it was written to.
    pub stream: LogStream,
    /// When, as RFC 3339 with nanoseconds.
    pub time: String,
    /// What, with its line end.
    pub text: String,
}

#[derive(Deserialize)]
struct RawEntry {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: String,
}

/// Reads entries in order; `None` from [`LogReader::next`] is the end.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    request: LogRequest,
    view: watch::Receiver<Arc<View>>,
    older: VecDeque<File>,
    current: Option<File>,
    buffer: Vec<u8>,
    parsed: usize,
    changes: Option<Changes>,
    draining: bool,
}

impl Containers {
    /// Opens a container's log.
    ///
    /// # Errors
    /// If there is no such container, or its log is kept nowhere.
    pub fn logs(&self, reference: &str, request: LogRequest) -> Result<LogReader, VerbError> {
        let handle = self.table.get(reference)?;
        let view = handle.view();
        if view.definition.settings.log.driver == "none" {
            return Err(VerbError::NoLog);
        }
        let path = files::log_path(&self.context, &handle.id);
        LogReader::open(path.clone(), request, handle.view)
            .map_err(|source| VerbError::File { path, source })
    }
}

impl LogReader {
    fn open(
        path: PathBuf,
        request: LogRequest,
        view: watch::Receiver<Arc<View>>,
    ) -> io::Result<Self> {
        let changes = if request.follow {
            Some(Changes::of_directory(&path)?)
        } else {
            None
        };
        let (older, current) = match request.tail {
            None => (open_rotated(&path)?, open_if_there(&path)?),
            Some(lines) => open_tail(&path, lines)?,
        };
        Ok(Self {
            path,
            request,
            view,
            older: older.into(),
            current,
            buffer: Vec::new(),
            parsed: 0,
            changes,
            draining: false,
        })
    }

    /// Returns the next entry that is wanted.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<LogEntry>> {
        loop {
            while let Some(entry) = self.buffered()? {
                match self.wanted(&entry) {
                    Wanted::Yes => return Ok(Some(entry)),
                    Wanted::No => {}
                    Wanted::Over => return Ok(None),
                }
            }
            if self.fill()? {
                continue;
            }
            if !self.request.follow || self.draining {
                return Ok(None);
            }
            self.more().await?;
        }
    }

    /// Waits until there may be more, or notes that there will be none.
    async fn more(&mut self) -> io::Result<()> {
        let over = |view: &Arc<View>| {
            view.removed
                || matches!(
                    view.state.phase,
                    model::lifecycle::Phase::Exited | model::lifecycle::Phase::Removing
                )
        };
        let Some(changes) = &mut self.changes else {
            self.draining = true;
            return Ok(());
        };
        tokio::select! {
            biased;
            changed = changes.wait() => changed?,
            // The exit is published after the log is complete: one more read gets all of it.
            _ = self.view.wait_for(over) => self.draining = true,
        }
        self.follow_rotation()
    }

    /// The current file was renamed: what it still holds is read before the new one.
    fn follow_rotation(&mut self) -> io::Result<()> {
        let Some(new) = open_if_there(&self.path)? else {
            return Ok(());
        };
        match &self.current {
            None => self.current = Some(new),
            Some(current) if !same_file(current, &new)? => {
                if let Some(old) = self.current.replace(new) {
                    self.older.push_back(old);
                }
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Takes one whole line out of the buffer.
    fn buffered(&mut self) -> io::Result<Option<LogEntry>> {
        while let Some(length) = self.buffer[self.parsed..].iter().position(|b| *b == b'\n') {
            let line = &self.buffer[self.parsed..self.parsed + length];
            self.parsed += length + 1;
            // A line that a crash cut short is not worth failing for.
            if let Ok(raw) = serde_json::from_slice::<RawEntry>(line) {
                return Ok(Some(LogEntry {
                    stream: if raw.stream == "stderr" {
                        LogStream::Stderr
                    } else {
                        LogStream::Stdout
                    },
                    time: raw.time,
                    text: raw.log,
                }));
            }
        }
        if self.buffer.len() - self.parsed > MAX_LINE_BYTES {
            return Err(io::Error::other("a line of the log is too long"));
        }
        Ok(None)
    }

    /// Reads a block; false if there is nothing now.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.parsed);
        self.parsed = 0;
        let mut block = vec![0; BLOCK_BYTES];
        while let Some(file) = self.older.front_mut() {
            let length = file.read(&mut block)?;
            if length > 0 {
                self.buffer.extend_from_slice(&block[..length]);
                return Ok(true);
            }
            self.older.pop_front();
        }
        let Some(file) = &mut self.current else {
            return Ok(false);
        };
        let length = file.read(&mut block)?;
        self.buffer.extend_from_slice(&block[..length]);
        Ok(length > 0)
    }

    fn wanted(&self, entry: &LogEntry) -> Wanted {
        if self.request.only.is_some_and(|only| only != entry.stream) {
            return Wanted::No;
        }
        if self.request.since_unix_ns.is_none() && self.request.until_unix_ns.is_none() {
            return Wanted::Yes;
        }
        let at = OffsetDateTime::parse(&entry.time, &Rfc3339)
            .map_or(0, |time| time.unix_timestamp_nanos());
        if self
            .request
            .until_unix_ns
            .is_some_and(|until| at > i128::from(until))
        {
            return Wanted::Over;
        }
        if self
            .request
            .since_unix_ns
            .is_some_and(|since| at < i128::from(since))
        {
            return Wanted::No;
        }
        Wanted::Yes
    }
}

enum Wanted {
    Yes,
    No,
    Over,
}

fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the rotated files, oldest first.
fn open_rotated(path: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    for number in 1..=MAX_ROTATED {
        match open_if_there(&rotated(path, number))? {
            Some(file) => files.push(file),
            None => break,
        }
    }
    files.reverse();
    Ok(files)
}

/// Opens only the files that hold the last lines, each at the right place.
fn open_tail(path: &Path, lines: usize) -> io::Result<(Vec<File>, Option<File>)> {
    let mut wanted = lines;
    let mut current = open_if_there(path)?;
    if let Some(file) = &mut current {
        wanted = wanted.saturating_sub(seek_tail(file, wanted)?);
    }
    let mut older = Vec::new();
    for number in 1..=MAX_ROTATED {
        if wanted == 0 {
            break;
        }
        let Some(mut file) = open_if_there(&rotated(path, number))? else {
            break;
        };
        wanted = wanted.saturating_sub(seek_tail(&mut file, wanted)?);
        older.push(file);
    }
    older.reverse();
    Ok((older, current))
}

/// Puts the file before its last lines, and says how many there are.
fn seek_tail(file: &mut File, lines: usize) -> io::Result<usize> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(0);
    }
    let mut found = 0;
    let mut block = vec![0; BLOCK_BYTES];
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES as u64);
        let length = usize::try_from(end - start).unwrap_or(BLOCK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block[..length])?;
        for position in (0..length).rev().filter(|at| block[*at] == b'\n') {
            // The line before this line end is complete once we meet the one before it.
            if found == lines {
                file.seek(SeekFrom::Start(start + position as u64 + 1))?;
                return Ok(found);
            }
            found += 1;
        }
        end = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(found)
}

fn same_file(a: &File, b: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (a, b) = (a.metadata()?, b.metadata()?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Changes in the log's directory. Watching the directory sees rotation too.
#[derive(Debug)]
struct Changes {
    inotify: AsyncFd<OwnedFd>,
}

impl Changes {
    fn of_directory(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let directory = path.parent().unwrap_or(path);
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&inotify, directory, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd keeps the promise that it asks for"
        )]
        let inotify = AsyncFd::new(inotify)?;
        Ok(Self { inotify })
    }

    /// Waits, and forgets all that came together.
    async fn wait(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
            let mut events = 0;
            let mut reader = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(_) => events += 1,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if events > 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn tail_starts_at_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = File::create(&path).unwrap();
        let lines: Vec<String> = (0..20_000).map(|n| format!("line {n}\n")).collect();
        file.write_all(lines.concat().as_bytes()).unwrap();
        for wanted in [0, 1, 2, 9_999, 20_000, 30_000] {
            let mut file = File::open(&path).unwrap();
            let found = seek_tail(&mut file, wanted).unwrap();
            let rest = io::read_to_string(&file).unwrap();
            let expected = &lines[lines.len().saturating_sub(wanted)..];
            assert_eq!(found, expected.len());
            assert_eq!(rest, expected.concat());
        }
    }
}
