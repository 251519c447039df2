//! Doing one thing to several containers or images: every failure is told, the rest still done.

use crate::failure::Failure;
use crate::output;
use std::process::ExitCode;

/// Does it for each name and prints the name (or what `act` returns) for those that worked.
///
/// # Errors
/// Every failure's message, one a line.
pub(crate) fn each(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<String, Failure>,
) -> Result<ExitCode, Failure> {
    let mut failures: Vec<Failure> = Vec::new();
    for name in names {
        match act(name) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => output::line(text)?,
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let messages: Vec<&str> = failures
        .iter()
        .map(|failure| failure.message.as_str())
        .collect();
    Err(Failure {
        message: messages.join("\n"),
        hint: failures.iter().find_map(|failure| failure.hint.clone()),
        code: None,
    })
}
