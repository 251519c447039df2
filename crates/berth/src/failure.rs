//! How a command ends when it does not succeed: one clear line, perhaps a hint, an exit code.

use crate::commands;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// What a failed command tells the user and its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The message, with docker's wording where scripts read it; empty: the exit code says it all.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// The exit code; none: an ordinary failure's, which is 1 unless the command has another.
    pub(crate) code: Option<u8>,
}

impl Failure {
    /// Makes an ordinary failure: exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code: None,
        }
    }

    /// Makes a failure without a message, such as a container's own exit code.
    pub(crate) const fn code(code: u8) -> Self {
        Self {
            message: String::new(),
            hint: None,
            code: Some(code),
        }
    }

    /// Prints an error and everything that caused it on one line.
    pub(crate) fn from_chain(error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            // Infallible: the target is a String.
            write!(message, ": {cause}").ok();
            source = cause.source();
        }
        Self::new(message)
    }

    /// Replaces the exit code.
    #[must_use]
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// Replaces the exit code of an ordinary failure; a code that says something stays.
    #[must_use]
    pub(crate) fn or_code(self, code: u8) -> Self {
        Self {
            code: self.code.or(Some(code)),
            ..self
        }
    }

    /// Adds a hint.
    #[must_use]
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Writes message and hint to stderr and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        if !self.message.is_empty() {
            // Nobody is left to be told that stderr is closed.
            writeln!(stderr, "{}", self.message).ok();
        }
        if let Some(hint) = &self.hint {
            writeln!(stderr, "hint: {hint}").ok();
        }
        ExitCode::from(self.code.unwrap_or(1))
    }
}

impl From<commands::daemon::DaemonError> for Failure {
    fn from(error: commands::daemon::DaemonError) -> Self {
        let failure = Self::from_chain(&error);
        Self {
            message: format!("berth daemon: {}", failure.message),
            ..failure
        }
    }
}
