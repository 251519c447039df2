//! What list and inspect commands print: Go-template subset, tables, human sizes and times.

pub(crate) mod human;
mod table;
pub(crate) mod template;

pub(crate) use table::{Layout, align, print_rows};

use crate::failure::Failure;
use std::io::{self, Write};

/// Writes a line to stdout.
///
/// # Errors
/// Stdout is gone; a pipe whose reader has had enough is no failure worth words.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    write_all(format!("{}\n", text.as_ref()).as_bytes())
}

/// Writes bytes to stdout.
///
/// # Errors
/// As [`line`].
pub(crate) fn write_all(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().lock().write_all(bytes) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::code(141)),
        Err(error) => Err(Failure::new(format!("write to stdout: {error}"))),
    }
}
