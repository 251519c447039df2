//! `-e`, `--env-file`, `--label`, `--label-file`: names and values, from flags and files.

use super::FlagError;
use std::path::{Path, PathBuf};

/// Gives the environment of `--env-file` and `-e`, in docker's order: files first.
pub(crate) fn environment(
    files: &[PathBuf],
    entries: &[String],
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, FlagError> {
    let mut all = Vec::new();
    for path in files {
        all.extend(read_env(path, lookup)?);
    }
    for entry in entries {
        all.push(resolve(entry, lookup)?);
    }
    Ok(all)
}

/// Resolves `NAME` without a value from the client's own environment, as docker does; a name
/// that is not set there goes to the daemon as it is, which removes the image's.
fn resolve(entry: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, FlagError> {
    if entry.is_empty() || entry.starts_with('=') {
        return Err(FlagError::new(format!(
            "invalid environment variable: {entry}"
        )));
    }
    if entry.contains('=') {
        return Ok(entry.to_owned());
    }
    Ok(match lookup(entry) {
        Some(value) => format!("{entry}={value}"),
        None => entry.to_owned(),
    })
}

/// Reads a file of `NAME=value` lines.
fn read_env(
    path: &Path,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, FlagError> {
    parse(&read(path)?, |name| {
        lookup(name).map(|value| format!("{name}={value}"))
    })
    .map_err(|message| FlagError::new(format!("{}: {message}", path.display())))
}

/// Reads a file of labels: a name alone is a label with an empty value.
pub(crate) fn read_labels(path: &Path) -> Result<Vec<String>, FlagError> {
    parse(&read(path)?, |name| Some(name.to_owned()))
        .map_err(|message| FlagError::new(format!("{}: {message}", path.display())))
}

fn read(path: &Path) -> Result<String, FlagError> {
    let bytes = std::fs::read(path)
        .map_err(|error| FlagError::new(format!("open {}: {error}", path.display())))?;
    String::from_utf8(bytes)
        .map_err(|_| FlagError::new(format!("{}: invalid utf8 bytes", path.display())))
}

fn parse(text: &str, bare: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.is_empty() {
            return Err(format!("no variable name on line {}", index + 1));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!("variable '{name}' contains whitespaces"));
        }
        match value {
            Some(value) => entries.push(format!("{name}={value}")),
            None => entries.extend(bare(name)),
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn files() {
        let text = "\u{feff}# comment\nA=1\n  B=two words \n\nC=a=b\nHOME\nUNSET\nEMPTY=\n";
        let parsed = parse(text, |name| {
            lookup(name).map(|value| format!("{name}={value}"))
        });
        assert_eq!(
            parsed.unwrap(),
            ["A=1", "B=two words ", "C=a=b", "HOME=/root", "EMPTY="]
        );
        parse("=x", |_| None).unwrap_err();
        parse("A B=x", |_| None).unwrap_err();
    }

    #[test]
    fn flags() {
        let check = |entry: &str, expected: &str| {
            assert_eq!(resolve(entry, &lookup).unwrap(), expected);
        };
        check("A=b", "A=b");
        check("HOME", "HOME=/root");
        check("UNSET", "UNSET");
        resolve("=x", &lookup).unwrap_err();
        resolve("", &lookup).unwrap_err();
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs in prop::collection::vec(("[A-Z_][A-Z0-9_]{0,8}", "[ -~]{0,20}"), 0..8)) {
            let written: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            prop_assert_eq!(parse(&written.join("\n"), |_| None).unwrap(), written);
        }
    }
}
