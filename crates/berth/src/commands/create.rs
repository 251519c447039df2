//! `berth create`: a container that does not run yet; `run` begins in the same way.

use crate::cli::{Globals, Verb};
use crate::commands::pull;
use crate::context;
use crate::failure::Failure;
use crate::flags::{self, ContainerArgs, Surroundings};
use crate::progress::To;
use clap::Command;
use client::wire::{CreateBody, Created};
use client::{Client, Query, Request};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `berth create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    container: ContainerArgs,
}

impl Verb for Args {
    fn shape(command: Command) -> Command {
        without_short_help(command)
    }

    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let body = body(&self.container)?;
        let creation = Creation::new(&self.container, &body)?;
        let client = context::connect(globals)?;
        let id = creation.run(&client)?;
        writeln!(io::stdout(), "{id}")
            .map_err(|error| Failure::new(format!("write to stdout: {error}")))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// `-h` is the host name here, as in docker; help is `--help`.
pub(crate) fn without_short_help(command: Command) -> Command {
    command.disable_help_flag(true).arg(
        clap::Arg::new("help")
            .long("help")
            .action(clap::ArgAction::Help)
            .help("Print help"),
    )
}

/// Reads the flags in the client's surroundings.
///
/// # Errors
/// A flag cannot be understood.
pub(crate) fn body(args: &ContainerArgs) -> Result<CreateBody, Failure> {
    let cwd = std::env::current_dir().unwrap_or_default();
    let around = Surroundings {
        cwd: &cwd,
        env: &|name| std::env::var(name).ok(),
    };
    flags::create_body(args, &around).map_err(|error| Failure::new(error.to_string()))
}

/// A create request and everything around it: the ID file, the image's pull.
#[derive(Debug)]
pub(crate) struct Creation<'a> {
    args: &'a ContainerArgs,
    body: &'a CreateBody,
    id_file: Option<IdFile>,
}

/// `--cidfile`: made first, so that nothing is created whose ID cannot be noted.
#[derive(Debug)]
struct IdFile {
    path: PathBuf,
    file: File,
}

impl<'a> Creation<'a> {
    /// Prepares; makes the ID file.
    ///
    /// # Errors
    /// The ID file exists or cannot be made.
    pub(crate) fn new(args: &'a ContainerArgs, body: &'a CreateBody) -> Result<Self, Failure> {
        let id_file = match &args.cidfile {
            None => None,
            Some(path) => Some(IdFile::create(path.clone())?),
        };
        Ok(Self {
            args,
            body,
            id_file,
        })
    }

    /// Creates, pulling the image as `--pull` says; returns the ID.
    ///
    /// # Errors
    /// The daemon refuses, or the pull fails.
    pub(crate) fn run(self, client: &Client) -> Result<String, Failure> {
        let made = self.create(client);
        match (&made, self.id_file) {
            (Ok(id), Some(file)) => file.write(id)?,
            (Err(_), Some(file)) => file.remove(),
            (_, None) => {}
        }
        made
    }

    fn create(&self, client: &Client) -> Result<String, Failure> {
        if self.args.pull == "always" {
            self.pull(client)?;
        }
        let target = Query::new("/containers/create", &[])
            .with_some("name", self.args.name.as_deref())
            .with_some("platform", self.args.platform.as_deref())
            .finish();
        let request = || Request::post(target.clone()).json(self.body);
        let created: Created = match client.fetch(request()) {
            Err(error) if error.status() == Some(404) && self.is_about_the_image(&error) => {
                if self.args.pull == "never" {
                    return Err(error.into());
                }
                if !self.args.quiet {
                    let name = pull::familiar(self.args.image());
                    writeln!(io::stderr(), "Unable to find image '{name}' locally").ok();
                }
                self.pull(client)?;
                client.fetch(request())?
            }
            other => other?,
        };
        for warning in created.warnings {
            writeln!(io::stderr(), "WARNING: {warning}").ok();
        }
        Ok(created.id)
    }

    /// A missing network or volume driver is a 404 too.
    fn is_about_the_image(&self, error: &client::ClientError) -> bool {
        error
            .to_string()
            .to_ascii_lowercase()
            .contains("no such image")
    }

    fn pull(&self, client: &Client) -> Result<(), Failure> {
        let to = if self.args.quiet {
            To::Nowhere
        } else {
            To::Stderr
        };
        pull::pull(client, self.args.image(), self.args.platform.as_deref(), to)
    }
}

impl IdFile {
    fn create(path: PathBuf) -> Result<Self, Failure> {
        match File::create_new(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Failure::new(format!(
                    "container ID file found, make sure the other container isn't running or delete {}",
                    path.display()
                )))
            }
            Err(error) => Err(Failure::new(format!(
                "failed to create the container ID file: {}: {error}",
                path.display()
            ))),
        }
    }

    fn write(mut self, id: &str) -> Result<(), Failure> {
        self.file.write_all(id.as_bytes()).map_err(|error| {
            Failure::new(format!(
                "failed to write the container ID ({id}) to {}: {error}",
                self.path.display()
            ))
        })
    }

    fn remove(self) {
        // Made by us a moment ago; gone is what we want.
        std::fs::remove_file(&self.path).ok();
    }
}
