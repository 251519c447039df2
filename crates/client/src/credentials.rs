//! Credentials for a registry, from where docker's tools keep them: `~/.docker/config.json`
//! (`$DOCKER_CONFIG`), `credsStore` and `credHelpers`.
//!
//! The file is read only when an image is pulled; nothing is kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use model::Reference;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;

/// The name under which docker files the default registry's credentials.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Why credentials that are configured cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file is there and cannot be opened.
    #[error("open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The helper failed, or the file is broken.
    #[error("credentials for {registry}: {source}")]
    Retrieve {
        /// The registry.
        registry: String,
        /// What went wrong.
        source: CredentialRetrievalError,
    },
}

/// Returns the value of `X-Registry-Auth` for a reference; none: nothing is configured for its
/// registry.
///
/// # Errors
/// Something is configured and does not work.
pub fn registry_auth(reference: &Reference) -> Result<Option<String>, CredentialError> {
    let registry = match reference.registry() {
        "docker.io" => DOCKER_HUB,
        other => other,
    };
    let retrieve = |source| CredentialError::Retrieve {
        registry: registry.to_owned(),
        source,
    };
    let Some(path) = config_path() else {
        return Ok(None);
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialError::Open { path, source }),
    };
    match docker_credential::get_credential_from_reader(BufReader::new(file), registry) {
        Ok(found) => Ok(Some(encode(registry, &found))),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // Helpers report "not logged in" by failing with these words.
        Err(CredentialRetrievalError::HelperFailure { ref stdout, .. })
            if stdout.contains("credentials not found in native keychain") =>
        {
            Ok(None)
        }
        Err(source) => Err(retrieve(source)),
    }
}

fn config_path() -> Option<PathBuf> {
    let directory = match std::env::var_os("DOCKER_CONFIG") {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".docker"),
    };
    Some(directory.join("config.json"))
}

fn encode(registry: &str, credential: &DockerCredential) -> String {
    let document = match credential {
        DockerCredential::IdentityToken(token) => serde_json::json!({
            "identitytoken": token,
            "serveraddress": registry,
        }),
        DockerCredential::UsernamePassword(username, password) => serde_json::json!({
            "username": username,
            "password": password,
            "serveraddress": registry,
        }),
    };
    URL_SAFE.encode(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_as_docker_does() {
        let basic = DockerCredential::UsernamePassword("me".into(), "p?>".into());
        let decoded = URL_SAFE.decode(encode("r:5000", &basic)).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&decoded).unwrap();
        assert_eq!(document["username"], "me");
        assert_eq!(document["password"], "p?>");
        assert_eq!(document["serveraddress"], "r:5000");
    }
}
