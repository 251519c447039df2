//! Which process an image and a user's settings together mean.
//!
//! Pure merging, by docker's rules. Who the user name is, and where in `PATH` the program lies,
//! only the container's own root file system can tell: that is the runtime's part.

use crate::image::ExecutionConfig;
use crate::settings::ProcessSettings;
use serde::{Deserialize, Serialize};

/// The `PATH` of a container whose image sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process with every docker default applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedProcess {
    /// The command line; never empty.
    pub args: Vec<String>,
    /// `NAME=value`, in the order the process sees them.
    pub env: Vec<String>,
    /// Absolute path to start in.
    pub cwd: String,
    /// `user[:group]` as given; empty is root.
    pub user: String,
    /// Supplementary groups as given.
    pub groups: Vec<String>,
    /// Runs on a terminal.
    pub tty: bool,
}

/// Why settings make no process. The wording is docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// Neither image nor user names a command.
    #[error("no command specified")]
    NoCommand,
    /// The working directory is relative.
    #[error("the working directory '{0}' is invalid, it needs to be an absolute path")]
    RelativeWorkingDir(String),
    /// An environment entry starts with `=` or is empty.
    #[error("invalid environment variable: {0:?}")]
    InvalidEnv(String),
    /// A string that the kernel would cut at its NUL.
    #[error("invalid argument {0:?}: it contains a NUL byte")]
    Nul(String),
}

/// Merges an image's defaults with what the user asked for.
///
/// # Errors
/// There is no command, or one of the values cannot be handed to a process.
pub fn resolve(
    image: &ExecutionConfig,
    settings: &ProcessSettings,
    hostname: &str,
) -> Result<ResolvedProcess, ProcessError> {
    let args = command_line(image, settings);
    if args.is_empty() {
        return Err(ProcessError::NoCommand);
    }
    let cwd = working_dir(image, settings)?;
    let env = environment(image, settings, hostname)?;
    if let Some(bad) = args
        .iter()
        .chain(&env)
        .chain([&cwd])
        .find(|text| text.contains('\0'))
    {
        return Err(ProcessError::Nul(bad.chars().take(80).collect()));
    }
    let user = if settings.user.is_empty() {
        &image.user
    } else {
        &settings.user
    };
    Ok(ResolvedProcess {
        args,
        env,
        cwd,
        user: user.clone(),
        groups: settings.group_add.clone(),
        tty: settings.tty,
    })
}

/// Entrypoint and command after merging, as `docker inspect` shows them in `Config`.
#[must_use]
pub fn entrypoint_and_cmd(
    image: &ExecutionConfig,
    settings: &ProcessSettings,
) -> (Option<Vec<String>>, Option<Vec<String>>) {
    // A user's entrypoint, even the empty one that clears, also drops the image's command.
    let given = settings.cmd.as_ref().filter(|cmd| !cmd.is_empty());
    let (entrypoint, cmd) = match &settings.entrypoint {
        Some(entrypoint) if !entrypoint.is_empty() => (Some(entrypoint.clone()), given.cloned()),
        other => {
            let entrypoint = if other.is_none() {
                image.entrypoint.clone()
            } else {
                None
            };
            (entrypoint, given.cloned().or_else(|| image.cmd.clone()))
        }
    };
    (entrypoint.filter(|words| words.as_slice() != [""]), cmd)
}

fn command_line(image: &ExecutionConfig, settings: &ProcessSettings) -> Vec<String> {
    let (entrypoint, cmd) = entrypoint_and_cmd(image, settings);
    entrypoint.into_iter().chain(cmd).flatten().collect()
}

fn working_dir(
    image: &ExecutionConfig,
    settings: &ProcessSettings,
) -> Result<String, ProcessError> {
    let given = &settings.working_dir;
    if !given.is_empty() && !given.starts_with('/') {
        return Err(ProcessError::RelativeWorkingDir(given.clone()));
    }
    let chosen = if given.is_empty() {
        &image.working_dir
    } else {
        given
    };
    Ok(crate::paths::clean_absolute(chosen))
}

/// Engine defaults, then the image's, then the user's; a user's bare `NAME` removes one.
fn environment(
    image: &ExecutionConfig,
    settings: &ProcessSettings,
    hostname: &str,
) -> Result<Vec<String>, ProcessError> {
    let mut env = vec![
        format!("PATH={DEFAULT_PATH}"),
        format!("HOSTNAME={hostname}"),
    ];
    if settings.tty {
        env.push("TERM=xterm".to_owned());
    }
    for entry in image.env.iter().chain(&settings.env) {
        let name = variable_name(entry);
        if name.is_empty() {
            return Err(ProcessError::InvalidEnv(entry.chars().take(80).collect()));
        }
        let at = env.iter().position(|known| variable_name(known) == name);
        match (at, entry.contains('=')) {
            (Some(at), true) => env[at].clone_from(entry),
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
    Ok(env)
}

fn variable_name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn image(entrypoint: Option<&str>, cmd: Option<&str>) -> ExecutionConfig {
        ExecutionConfig {
            entrypoint: entrypoint.map(words),
            cmd: cmd.map(words),
            ..ExecutionConfig::default()
        }
    }

    #[test]
    fn command_line_follows_docker() {
        let check =
            |image: &ExecutionConfig, entrypoint: Option<Vec<String>>, cmd: &str, expected| {
                let cmd = Some(words(cmd)).filter(|words| !words.is_empty());
                let settings = ProcessSettings {
                    entrypoint,
                    cmd,
                    ..ProcessSettings::default()
                };
                assert_eq!(command_line(image, &settings), words(expected));
            };
        let both = image(Some("entry"), Some("default"));
        check(&both, None, "", "entry default");
        check(&both, None, "mine", "entry mine");
        check(&both, Some(words("own")), "", "own");
        check(&both, Some(words("own")), "mine", "own mine");
        check(&both, Some(vec![String::new()]), "mine", "mine");
        check(&both, Some(vec![String::new()]), "", "");
        check(&image(None, Some("default")), None, "", "default");
    }

    #[test]
    fn environment_replaces_in_place_and_removes() {
        let mut config = image(None, Some("x"));
        config.env = words("PATH=/bin A=1 B=2");
        let settings = ProcessSettings {
            env: words("A=3 B C C=4"),
            ..ProcessSettings::default()
        };
        let process = resolve(&config, &settings, "host").unwrap();
        assert_eq!(process.env, words("PATH=/bin HOSTNAME=host A=3 C=4"));
    }

    #[test]
    fn refuses_what_no_process_can_have() {
        let check = |settings: ProcessSettings, expected: ProcessError| {
            assert_eq!(
                resolve(&image(None, Some("x")), &settings, "h"),
                Err(expected)
            );
        };
        check(
            ProcessSettings {
                working_dir: "a/b".into(),
                ..Default::default()
            },
            ProcessError::RelativeWorkingDir("a/b".into()),
        );
        check(
            ProcessSettings {
                env: words("=x"),
                ..Default::default()
            },
            ProcessError::InvalidEnv("=x".into()),
        );
        check(
            ProcessSettings {
                cmd: Some(vec!["a\0b".into()]),
                ..Default::default()
            },
            ProcessError::Nul("a\0b".into()),
        );
    }
}
