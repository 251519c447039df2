//! Arguments as runc takes them: `--flag value`, `--flag=value`, `-f value`, then the rest.

use std::collections::HashMap;

/// Parsed flags of one command, and what follows them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Args {
    values: HashMap<String, Vec<String>>,
    pub(super) rest: Vec<String>,
}

/// A flag: its names, and whether a value follows.
pub(super) type Flag = (&'static [&'static str], bool);

impl Args {
    /// Parses up to the first word that is no flag; an unknown flag is an error that names it.
    pub(super) fn parse(words: &[String], flags: &[Flag]) -> Result<Self, String> {
        let mut args = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                args.rest.extend(words.cloned());
                break;
            }
            let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else {
                args.rest.push(word.clone());
                args.rest.extend(words.cloned());
                break;
            };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, inline) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let (names, takes_value) = flags
                .iter()
                .find(|(names, _)| names.contains(&name))
                .ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
            let value = match (inline, takes_value) {
                (Some(value), _) => value,
                (None, false) => "true".to_owned(),
                (None, true) => words
                    .next()
                    .cloned()
                    .ok_or_else(|| format!("flag needs an argument: -{name}"))?,
            };
            args.values
                .entry(names[0].to_owned())
                .or_default()
                .push(value);
        }
        Ok(args)
    }

    /// The last value of a flag.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str)
    }

    /// All values of a flag.
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a flag is set.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// The first word after the flags: a container's id.
    pub(super) fn id(&self) -> Result<&str, String> {
        let id = self.rest.first().ok_or("a container id is needed")?;
        let valid = !id.is_empty()
            && id.len() <= 1024
            && id != "."
            && id != ".."
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte));
        if valid {
            Ok(id)
        } else {
            Err(format!("invalid container ID format: {id:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[(&["bundle", "b"], true), (&["force", "f"], false)];

    fn parse(words: &[&str]) -> Result<Args, String> {
        Args::parse(
            &words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>(),
            FLAGS,
        )
    }

    #[test]
    fn flags_stop_at_the_first_word() {
        let args = parse(&["--bundle=/x", "-f", "id", "-b", "y"]).unwrap();
        assert_eq!(
            (args.value("bundle"), args.has("force")),
            (Some("/x"), true)
        );
        assert_eq!(args.rest, ["id", "-b", "y"]);
        assert_eq!(parse(&["-b", "/y", "--", "-f"]).unwrap().rest, ["-f"]);
        assert_eq!(
            parse(&["--magic"]).unwrap_err(),
            "flag provided but not defined: -magic"
        );
        assert_eq!(parse(&["-b"]).unwrap_err(), "flag needs an argument: -b");
    }

    #[test]
    fn ids_are_names_of_directories() {
        let id = |id: &str| parse(&[id]).unwrap().id().map(str::to_owned);
        assert_eq!(id("a_b+c-d.e").unwrap(), "a_b+c-d.e");
        id("a/b").unwrap_err();
        id("..").unwrap_err();
    }
}
