//! Turning kernel errors into [`LaunchError`]s in the wording that docker's clients know.

use std::{fmt::Display, io};

use crate::launch::{LaunchError, Stage};

/// The text of an OS error as Go programs print it: `no such file or directory`.
pub(crate) fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(characters).collect()
    })
}

/// Gives a failed call its stage and its words.
pub(crate) trait Context<T> {
    /// `what: reason`.
    fn at(self, stage: Stage, what: impl Display) -> Result<T, LaunchError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn at(self, stage: Stage, what: impl Display) -> Result<T, LaunchError> {
        self.map_err(|error| {
            LaunchError::new(stage, format!("{what}: {}", errno_text(&error.into())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_go() {
        let check = |code, text| assert_eq!(errno_text(&io::Error::from_raw_os_error(code)), text);
        check(2, "no such file or directory");
        check(13, "permission denied");
        check(21, "is a directory");
    }
}
