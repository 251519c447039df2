//! `berth image bootstrap`: a Debian root file system as an image, without any registry.
//!
//! `mmdebstrap` (or `debootstrap`) builds it from the package source that this machine itself is
//! configured with, and its tar goes straight to the daemon. A build that fails cuts the upload
//! off, so the daemon never sees half a tar as a whole one.

use super::import::Import;
use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::output;
use model::Reference;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

const DEFAULT_NAME: &str = "debian:bookworm";
const DEFAULT_SUITE: &str = "bookworm";
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
/// Releases by number, as the official images are tagged.
const NUMBERED: [(&str, &str); 3] = [("11", "bullseye"), ("12", "bookworm"), ("13", "trixie")];

/// Arguments of `berth image bootstrap`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the image; a Debian release as its tag chooses the release
    #[arg(value_name = "NAME[:TAG]", default_value = DEFAULT_NAME)]
    name: String,
    /// Release to build [default: the tag if it is one, else this machine's]
    #[arg(long, value_name = "SUITE")]
    suite: Option<String>,
    /// Package source [default: this machine's]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Further packages
    #[arg(long, value_name = "PACKAGE", value_delimiter = ',')]
    include: Vec<String>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let reference: Reference = self
            .name
            .parse()
            .map_err(|error: model::InvalidReference| Failure::new(error.to_string()))?;
        if reference.digest().is_some() {
            return Err(Failure::new(
                "an image that is built here cannot be named by a digest",
            ));
        }
        let machine = Machine::read();
        let plan = Plan {
            suite: self
                .suite
                .clone()
                .unwrap_or_else(|| suite(&reference, &machine)),
            mirror: self.mirror.clone().unwrap_or(machine.mirror),
            include: self.include.clone(),
        };
        let tool = Tool::find()?;
        let client = context::connect(globals)?;
        let name = reference.familiar();
        writeln!(
            io::stderr(),
            "Building {name} (Debian {}) from {} with {}",
            plan.suite,
            plan.mirror,
            tool.name()
        )
        .ok();
        let mut tar = tool.start(&plan)?;
        let import = Import {
            reference: Some(&reference),
            changes: &["CMD [\"bash\"]".to_owned()],
            message: Some("made by berth image bootstrap"),
            platform: None,
        };
        let id = match import.send(&client, &mut tar) {
            Ok(id) => id,
            Err(failure) => {
                return Err(match tar.failure.take() {
                    Some(why) => Failure::new(why).with_hint(
                        "its own messages are above; check the package source of this machine (apt-get update), or name one with --mirror",
                    ),
                    None => failure,
                });
            }
        };
        writeln!(io::stderr(), "Made {name}: berth run -i -t {name}").ok();
        output::line(id)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What to build.
struct Plan {
    suite: String,
    mirror: String,
    include: Vec<String>,
}

/// What this machine is configured with.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    codename: String,
    mirror: String,
}

impl Machine {
    fn read() -> Self {
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let mut sources = vec![PathBuf::from("/etc/apt/sources.list")];
        if let Ok(directory) = std::fs::read_dir("/etc/apt/sources.list.d") {
            let mut more: Vec<PathBuf> = directory.flatten().map(|entry| entry.path()).collect();
            more.sort();
            sources.extend(more);
        }
        let texts: Vec<String> = sources
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .collect();
        Self {
            codename: codename(&release).unwrap_or_else(|| DEFAULT_SUITE.to_owned()),
            mirror: mirror(&texts.join("\n\n")).unwrap_or_else(|| DEFAULT_MIRROR.to_owned()),
        }
    }
}

/// Finds the release's name in os-release, on Debian itself.
fn codename(release: &str) -> Option<String> {
    let field = |name: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(name))?;
        Some(value.trim_matches('"').to_owned())
    };
    let is_debian = field("ID=")? == "debian";
    is_debian.then(|| field("VERSION_CODENAME="))?
}

/// Finds the Debian archive among apt's sources, in either format.
fn mirror(sources: &str) -> Option<String> {
    let lines = sources.lines().map(str::trim);
    lines
        .filter_map(|line| match line.split_once(char::is_whitespace)? {
            ("deb", rest) => rest
                .split_whitespace()
                .find(|word| word.contains("://"))
                .map(str::to_owned),
            ("URIs:", rest) => rest.split_whitespace().next().map(str::to_owned),
            _ => None,
        })
        .find(|uri| {
            let uri = uri.trim_end_matches('/');
            uri.ends_with("/debian")
        })
}

/// Chooses the release: the tag of an image called debian, else the machine's.
fn suite(reference: &Reference, machine: &Machine) -> String {
    let tag = reference.tag().unwrap_or("latest");
    let tag = tag.strip_suffix("-slim").unwrap_or(tag);
    if let Some((_, name)) = NUMBERED.iter().find(|(number, _)| *number == tag) {
        return (*name).to_owned();
    }
    let is_debian = reference.repository().rsplit('/').next() == Some("debian");
    if is_debian && tag != "latest" {
        tag.to_owned()
    } else {
        machine.codename.clone()
    }
}

/// A program that can build.
enum Tool {
    Mmdebstrap(PathBuf),
    Debootstrap(PathBuf),
}

impl Tool {
    fn find() -> Result<Self, Failure> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let find = |name: &str| {
            std::env::split_paths(&path)
                .chain([PathBuf::from("/usr/sbin")])
                .map(|directory| directory.join(name))
                .find(|program| program.is_file())
        };
        if let Some(program) = find("mmdebstrap") {
            return Ok(Self::Mmdebstrap(program));
        }
        match find("debootstrap") {
            Some(program) => Ok(Self::Debootstrap(program)),
            None => Err(
                Failure::new("neither mmdebstrap nor debootstrap is installed")
                    .with_hint("install one: sudo apt-get install mmdebstrap"),
            ),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Mmdebstrap(_) => "mmdebstrap",
            Self::Debootstrap(_) => "debootstrap",
        }
    }

    fn start(&self, plan: &Plan) -> Result<Tar, Failure> {
        match self {
            Self::Mmdebstrap(program) => {
                let mut command = Command::new(program);
                command.args([
                    "--variant=minbase",
                    "--format=tar",
                    // Nothing here must survive a power cut; the official images have it too.
                    "--dpkgopt=force-unsafe-io",
                ]);
                if !plan.include.is_empty() {
                    command.arg(format!("--include={}", plan.include.join(",")));
                }
                command.args([&plan.suite, "-", &plan.mirror]);
                Tar::spawn(command, self.name(), None)
            }
            Self::Debootstrap(program) => {
                let directory = Scratch::create()?;
                let mut command = Command::new(program);
                command.arg("--variant=minbase");
                if !plan.include.is_empty() {
                    command.arg(format!("--include={}", plan.include.join(",")));
                }
                command
                    .args([OsStr::new(&plan.suite), directory.0.as_os_str()])
                    .arg(&plan.mirror)
                    .stdout(Stdio::from(io::stderr()));
                let status = command
                    .status()
                    .map_err(|error| Failure::new(format!("start debootstrap: {error}")))?;
                if !status.success() {
                    return Err(Failure::new(format!("debootstrap ended with {status}")));
                }
                let mut tar = Command::new("tar");
                tar.args(["--numeric-owner", "--xattrs", "-c", "-C"])
                    .arg(&directory.0)
                    .arg(".");
                Tar::spawn(tar, "tar", Some(directory))
            }
        }
    }
}

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("berth-bootstrap-{}", std::process::id()));
        std::fs::create_dir(&path)
            .map_err(|error| Failure::new(format!("create {}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        writeln!(io::stderr(), "berth: remove {}: {error}", path.display()).ok();
    }
}

/// The tar that a program writes; its end is only an end if the program succeeded.
struct Tar {
    child: Child,
    name: &'static str,
    failure: Option<String>,
    _scratch: Option<Scratch>,
}

impl Tar {
    fn spawn(
        mut command: Command,
        name: &'static str,
        scratch: Option<Scratch>,
    ) -> Result<Self, Failure> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::new(format!("start {name}: {error}")))?;
        Ok(Self {
            child,
            name,
            failure: None,
            _scratch: scratch,
        })
    }
}

impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.child.stdout {
            Some(stdout) => stdout.read(buffer)?,
            None => 0,
        };
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        let status = self.child.wait()?;
        if status.success() {
            return Ok(0);
        }
        let why = format!("{} ended with {status}", self.name);
        self.failure = Some(why.clone());
        Err(io::Error::other(why))
    }
}

impl Drop for Tar {
    fn drop(&mut self) {
        // Ended already, unless the daemon refused in the middle.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_archive_among_the_sources() {
        let check = |sources: &str, expected: Option<&str>| {
            assert_eq!(mirror(sources).as_deref(), expected, "{sources}");
        };
        check("# deb http://a/debian x main", None);
        check(
            "deb [arch=amd64] http://a/debian bookworm main",
            Some("http://a/debian"),
        );
        check(
            "Types: deb\nURIs: http://b/debian-security\n\nTypes: deb\nURIs: http://b/debian/",
            Some("http://b/debian/"),
        );
        check("deb https://packages.example/apt stable main", None);
    }

    #[test]
    fn chooses_the_release() {
        let machine = Machine {
            codename: "bookworm".to_owned(),
            mirror: String::new(),
        };
        let check = |name: &str, expected: &str| {
            assert_eq!(suite(&name.parse().unwrap(), &machine), expected, "{name}");
        };
        check("debian:trixie", "trixie");
        check("debian:trixie-slim", "trixie");
        check("debian:13", "trixie");
        check("debian", "bookworm");
        check("ubuntu", "bookworm");
        check("ubuntu:noble", "bookworm");
        assert_eq!(
            codename("ID=debian\nVERSION_CODENAME=trixie\n").as_deref(),
            Some("trixie")
        );
        assert_eq!(codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
    }

    #[test]
    fn a_failed_build_is_not_the_end_of_a_tar() {
        let mut command = Command::new("sh");
        command.args(["-c", "printf abc; exit 3"]);
        let mut tar = Tar::spawn(command, "sh", None).unwrap();
        let mut read = Vec::new();
        tar.read_to_end(&mut read).unwrap_err();
        assert_eq!(read, b"abc");
        assert!(tar.failure.is_some());
    }
}
