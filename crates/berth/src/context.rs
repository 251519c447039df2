//! Which daemon a command speaks to, and the client for it.
//!
//! `--host`, then `BERTH_HOST`, then `DOCKER_HOST`, then the default socket. Only at the default
//! socket a daemon is started if there is none: whoever names a daemon means that one.

use crate::autostart;
use crate::cli::Globals;
use crate::failure::Failure;
use client::{Client, ClientError, Host};

/// Connects to the daemon that the user means, starting it if that may be done.
///
/// # Errors
/// The host is malformed, or nobody answers there.
pub(crate) fn connect(globals: &Globals) -> Result<Client, Failure> {
    let (host, named) = host(globals)?;
    let client = version(Client::new(host));
    match client.connect() {
        Ok(()) => {}
        Err(error) if error.is_unreachable() && !named && autostart::is_allowed() => {
            autostart::start(client.host())?;
            client.connect()?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(client)
}

/// Gives the daemon's address, and whether the user named it.
fn host(globals: &Globals) -> Result<(Host, bool), Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let named = globals
        .host
        .clone()
        .or_else(|| variable("BERTH_HOST"))
        .or_else(|| variable("DOCKER_HOST"));
    match named {
        Some(text) => Ok((text.parse()?, true)),
        None => Ok((Host::default(), false)),
    }
}

fn version(client: Client) -> Client {
    match std::env::var("DOCKER_API_VERSION") {
        Ok(version) if !version.is_empty() => client.with_version(&version),
        _ => client,
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = Self::new(error.to_string());
        match &error {
            ClientError::PermissionDenied { .. } => failure.with_hint(
                "the socket belongs to root and the group berth: use sudo, or join the group (sudo usermod -aG berth $USER) and log in again",
            ),
            ClientError::Connect { source, host } => {
                let hint = match host {
                    Host::Unix(_) if rustix::process::geteuid().is_root() => "start it: berth daemon",
                    Host::Unix(_) => "start it: sudo berth daemon",
                    Host::Tcp(_) => "check the address and that the daemon listens there",
                };
                failure.with_hint(format!("{hint} ({source})"))
            }
            ClientError::BadHost(_)
            | ClientError::Daemon { .. }
            | ClientError::Broken(_)
            | ClientError::Protocol(_)
            | ClientError::Decode { .. } => failure,
        }
    }
}
