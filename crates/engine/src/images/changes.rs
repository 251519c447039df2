//! `--change`: one Dockerfile line applied to an image's execution config. Pure.
//!
//! The instructions are those that docker takes here: `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`,
//! `HEALTHCHECK NONE`, `LABEL`, `ONBUILD`, `STOPSIGNAL`, `USER`, `VOLUME` and `WORKDIR`.

use model::image::{Empty, ExecutionConfig, HealthcheckConfig};

/// Why a line changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChange {
    /// An instruction that makes no sense here, or does not exist.
    #[error("{0} is not a valid change command")]
    Instruction(String),
    /// An instruction without what it needs.
    #[error("{0} requires at least one argument")]
    NoArgument(String),
    /// Not `name=value`.
    #[error("Syntax error - can't find = in {0:?}. Must be of the form: name=value")]
    NotAPair(String),
    /// A quote that is not closed.
    #[error("unexpected end of statement while looking for matching quote: {0}")]
    Quote(String),
    /// A port that is none.
    #[error("invalid containerPort: {0}")]
    Port(String),
}

/// Applies one line.
///
/// # Errors
/// It is no instruction, or a malformed one.
pub fn apply(config: &mut ExecutionConfig, line: &str) -> Result<(), InvalidChange> {
    let line = line.trim();
    let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let instruction = instruction.to_ascii_uppercase();
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(InvalidChange::NoArgument(instruction));
    }
    match instruction.as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            for (name, value) in pairs(rest)? {
                set_env(&mut config.env, &name, &value);
            }
        }
        "LABEL" => config.labels.extend(pairs(rest)?),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                config.exposed_ports.insert(exposed(port)?, Empty {});
            }
        }
        "VOLUME" => {
            let paths = json_strings(rest).map_or_else(|| words(rest), Ok)?;
            config
                .volumes
                .extend(paths.into_iter().map(|path| (path, Empty {})));
        }
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => config.working_dir = joined(&config.working_dir, rest),
        "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        "HEALTHCHECK" if rest.eq_ignore_ascii_case("NONE") => {
            config.healthcheck = Some(HealthcheckConfig {
                test: vec!["NONE".to_owned()],
                ..HealthcheckConfig::default()
            });
        }
        _ => return Err(InvalidChange::Instruction(instruction)),
    }
    Ok(())
}

/// The exec form if it is a JSON list of strings, else the shell form.
fn command(text: &str) -> Vec<String> {
    json_strings(text)
        .unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

fn json_strings(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())?
}

/// `a=b c="d e"`, or the old form `a b c` that sets one name.
fn pairs(text: &str) -> Result<Vec<(String, String)>, InvalidChange> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| InvalidChange::NotAPair(text.to_owned()))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(InvalidChange::NotAPair(word)),
    };
    words(text)?.into_iter().map(pair).collect()
}

/// Splits at spaces that are neither quoted nor escaped, and takes quotes away.
fn words(text: &str) -> Result<Vec<String>, InvalidChange> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.get_or_insert_default().extend(chars.next());
            }
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(InvalidChange::Quote(text.to_owned()));
    }
    words.extend(word);
    Ok(words)
}

fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let same = |old: &&mut String| old.split('=').next() == Some(name);
    match env.iter_mut().find(same) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

fn exposed(port: &str) -> Result<String, InvalidChange> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let known = matches!(protocol, "tcp" | "udp" | "sctp");
    match number.parse::<u16>() {
        Ok(number) if known => Ok(format!("{number}/{protocol}")),
        _ => Err(InvalidChange::Port(port.to_owned())),
    }
}

fn joined(current: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    format!("{}/{path}", current.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn applied(lines: &[&str]) -> ExecutionConfig {
        let mut config = ExecutionConfig::default();
        for line in lines {
            apply(&mut config, line).unwrap();
        }
        config
    }

    #[test]
    fn lines() {
        let config = applied(&[
            r#"CMD ["sh", "-l"]"#,
            "entrypoint exec me",
            "ENV A=1 B=\"two words\"",
            "ENV A 3 4",
            "LABEL x=y",
            "EXPOSE 80 53/udp",
            "VOLUME /data",
            "USER me:us",
            "WORKDIR /srv",
            "WORKDIR www",
            "STOPSIGNAL SIGINT",
        ]);
        let shell = ["/bin/sh", "-c", "exec me"].map(str::to_owned).to_vec();
        assert_eq!(config.cmd, Some(vec!["sh".to_owned(), "-l".to_owned()]));
        assert_eq!(config.entrypoint, Some(shell));
        assert_eq!(config.env, ["A=3 4", "B=two words"]);
        assert_eq!(config.labels.get("x").map(String::as_str), Some("y"));
        let ports: Vec<_> = config.exposed_ports.keys().collect();
        assert_eq!(ports, ["53/udp", "80/tcp"]);
        assert!(config.volumes.contains_key("/data"));
        assert_eq!(
            (config.user.as_str(), config.working_dir.as_str()),
            ("me:us", "/srv/www")
        );
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    }

    #[test]
    fn refusals() {
        let check = |line: &str, message: &str| {
            let error = apply(&mut ExecutionConfig::default(), line).unwrap_err();
            assert!(error.to_string().contains(message), "{line}: {error}");
        };
        check("RUN true", "RUN is not a valid change command");
        check("CMD", "CMD requires at least one argument");
        check("ENV A", "can't find =");
        check("EXPOSE 99999", "invalid containerPort");
        check("LABEL a=\"b", "matching quote");
    }

    proptest! {
        #[test]
        fn never_panics(line in "[A-Z]{3,10} ?[ -~]{0,30}") {
            let _applied = apply(&mut ExecutionConfig::default(), &line).is_ok();
        }
    }
}
