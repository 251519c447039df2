//! Credentials from clients: `X-Registry-Auth`, and `POST /auth` that tries them.

use crate::{ApiError, AppState};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use engine::images::{Credentials, Secret};
use http::HeaderMap;
use model::Reference;
use serde::{Deserialize, Serialize};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// Docker's `AuthConfig`. Never shown: it derives no `Debug`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthConfig {
    username: Option<String>,
    password: Option<String>,
    /// base64 of `username:password`.
    auth: Option<String>,
    serveraddress: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LoggedIn {
    status: &'static str,
    identity_token: &'static str,
}

/// Reads `X-Registry-Auth`. What cannot be read counts as nothing, as in docker: the registry may
/// not ask for it.
pub(super) fn from_headers(headers: &HeaderMap) -> Credentials {
    let header = headers.get("x-registry-auth").map(|value| value.as_bytes());
    header.map_or(Credentials::Anonymous, |value| {
        let json = decode(value);
        json.and_then(|json| serde_json::from_slice::<AuthConfig>(&json).ok())
            .map_or(Credentials::Anonymous, AuthConfig::into_credentials)
    })
}

/// Both alphabets are seen, with and without padding.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let decoded = URL_SAFE.decode(text).or_else(|_| STANDARD.decode(text));
    decoded.ok()
}

impl AuthConfig {
    fn into_credentials(self) -> Credentials {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = given(self.registrytoken) {
            return Credentials::RegistryToken(Secret::new(token));
        }
        if let Some(token) = given(self.identitytoken) {
            return Credentials::IdentityToken(Secret::new(token));
        }
        if let Some(username) = given(self.username) {
            return Credentials::Basic {
                username,
                password: Secret::new(self.password.unwrap_or_default()),
            };
        }
        let pair = given(self.auth).and_then(|auth| decode(auth.as_bytes()));
        let pair = pair.and_then(|pair| String::from_utf8(pair).ok());
        match pair.as_deref().and_then(|pair| pair.split_once(':')) {
            Some((username, password)) => Credentials::Basic {
                username: username.to_owned(),
                password: Secret::new(password),
            },
            None => Credentials::Anonymous,
        }
    }
}

/// `POST /auth`.
pub(super) async fn log_in(
    State(state): State<AppState>,
    body: Result<Json<AuthConfig>, JsonRejection>,
) -> Result<Json<LoggedIn>, ApiError> {
    // The rejection's own words could repeat the body.
    let Ok(Json(config)) = body else {
        return Err(ApiError::bad_request("invalid auth configuration"));
    };
    let reference = any_reference(config.serveraddress.as_deref().unwrap_or_default())?;
    let credentials = config.into_credentials();
    state
        .engine
        .images()
        .log_in(&reference, credentials)
        .await?;
    Ok(Json(LoggedIn {
        status: "Login Succeeded",
        identity_token: "",
    }))
}

/// Any reference at the registry that a server address names.
fn any_reference(address: &str) -> Result<Reference, ApiError> {
    let host = address
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or(host);
    let registry = match host {
        "" | "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    let invalid = |_| ApiError::bad_request(format!("invalid server address {address:?}"));
    format!("{registry}/any/any").parse().map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn credentials(json: &str, engine: &GeneralPurpose) -> Credentials {
        let value = HeaderValue::from_str(&engine.encode(json)).unwrap();
        from_headers(&HeaderMap::from_iter([(
            http::HeaderName::from_static("x-registry-auth"),
            value,
        )]))
    }

    #[test]
    fn what_clients_send() {
        let basic = |username: &str, password: &str| Credentials::Basic {
            username: username.into(),
            password: Secret::new(password),
        };
        let check = |json: &str, expected: Credentials| {
            assert_eq!(credentials(json, &URL_SAFE), expected, "{json}");
            assert_eq!(credentials(json, &STANDARD), expected, "{json}");
        };
        check(
            r#"{"username":"me","password":"~~~???"}"#,
            basic("me", "~~~???"),
        );
        check(r#"{"auth":"bWU6cGE6c3M="}"#, basic("me", "pa:ss"));
        check(
            r#"{"identitytoken":"t","username":"me"}"#,
            Credentials::IdentityToken(Secret::new("t")),
        );
        check("{}", Credentials::Anonymous);
        check(r#"{"username":null}"#, Credentials::Anonymous);
        check("not json", Credentials::Anonymous);
    }

    #[test]
    fn server_addresses() {
        let check = |address: &str, expected: &str| {
            assert_eq!(any_reference(address).unwrap().registry(), expected);
        };
        check("https://index.docker.io/v1/", "docker.io");
        check("", "docker.io");
        check("localhost:5000", "localhost:5000");
        check("https://ghcr.io", "ghcr.io");
    }

    proptest! {
        #[test]
        fn never_panics(value in proptest::collection::vec(32_u8..127, 0..60)) {
            let value = HeaderValue::from_bytes(&value).unwrap();
            let name = http::HeaderName::from_static("x-registry-auth");
            let _credentials = from_headers(&HeaderMap::from_iter([(name, value)]));
        }
    }
}
