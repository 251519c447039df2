//! `berth pull`: an image from its registry, with progress; `run` pulls in the same way.

use crate::cli::{Globals, Verb};
use crate::context;
use crate::failure::Failure;
use crate::progress::{self, To};
use client::{Client, Query, Request};
use model::Reference;
use std::io::{self, Write};
use std::process::ExitCode;

/// Arguments of `berth pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image: [REGISTRY/]NAME[:TAG|@DIGEST]
    image: String,
    /// Say only the image's full name
    #[arg(short, long)]
    quiet: bool,
    /// Platform: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

impl Verb for Args {
    fn run(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let reference = parse(&self.image)?;
        let tagged = reference
            .tag()
            .is_some_and(|tag| self.image.ends_with(&format!(":{tag}")));
        let mut stdout = io::stdout();
        if !self.quiet && reference.digest().is_none() && !tagged {
            writeln!(stdout, "Using default tag: latest").ok();
        }
        let client = context::connect(globals)?;
        let to = if self.quiet { To::Nowhere } else { To::Stdout };
        pull(&client, &self.image, self.platform.as_deref(), to)?;
        writeln!(stdout, "{reference}")
            .map_err(|error| Failure::new(format!("write to stdout: {error}")))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Pulls and draws the progress.
///
/// # Errors
/// The reference is malformed, credentials do not work, or the pull fails.
pub(crate) fn pull(
    client: &Client,
    image: &str,
    platform: Option<&str>,
    to: To,
) -> Result<(), Failure> {
    let reference = parse(image)?;
    let auth =
        client::registry_auth(&reference).map_err(|error| Failure::new(error.to_string()))?;
    let version = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    let target = Query::new("/images/create", &[])
        .with("fromImage", &reference.name())
        .with("tag", &version)
        .with_some("platform", platform)
        .finish();
    let mut request = Request::post(target);
    if let Some(auth) = auth {
        request = request.header("X-Registry-Auth", auth);
    }
    let outcome = client
        .send(request)
        .map_err(Failure::from)
        .and_then(|response| progress::draw(response, to));
    outcome.map_err(|failure| hint(failure, &reference))
}

/// Gives the name as a user would write it, with its tag.
pub(crate) fn familiar(image: &str) -> String {
    match image.parse::<Reference>() {
        Ok(reference) => reference.familiar(),
        Err(_) => image.to_owned(),
    }
}

fn parse(image: &str) -> Result<Reference, Failure> {
    image
        .parse()
        .map_err(|error: model::InvalidReference| Failure::new(error.to_string()))
}

/// Without any registry in reach there is still a way to a root file system.
fn hint(failure: Failure, reference: &Reference) -> Failure {
    const UNREACHABLE: [&str; 14] = [
        "no such host",
        "lookup ",
        "resolve",
        "dns",
        "connection refused",
        "timed out",
        "timeout",
        "deadline exceeded",
        "unreachable",
        "connect to",
        "connect error",
        "error trying to connect",
        "request canceled while waiting for connection",
        "connection reset",
    ];
    let message = failure.message.to_ascii_lowercase();
    // Our own daemon says it in its message already.
    let said = message.contains("image bootstrap") || failure.hint.is_some();
    // Whoever names a registry of their own wants that one.
    if said
        || reference.registry() != "docker.io"
        || !UNREACHABLE.iter().any(|word| message.contains(word))
    {
        return failure;
    }
    // A digest cannot be chosen, so an image made here cannot have it.
    if reference.digest().is_some() {
        return failure;
    }
    let name = reference.familiar();
    failure.with_hint(format!(
        "if no registry can be reached from here, make a Debian image called {name} from this machine's package source: berth image bootstrap {name}"
    ))
}
