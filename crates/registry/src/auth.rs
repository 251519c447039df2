//! From a challenge to an `Authorization` header (docker's token protocol, RFC 6749 §6).
//!
//! A registry says with its 401 what it wants. A name and a password go to the registry itself
//! (Basic) or to the token server that it names (Bearer), never to a mirror, and never over plain
//! HTTP where the registry itself is spoken to over verified TLS.

use crate::challenge::{self, Challenge};
use crate::credentials::{Credentials, Secret};
use crate::error::RegistryError;
use crate::transport::{Exchange, Transport, shown};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// Longest answer of a token server.
const TOKEN_BYTES_MAX: usize = 256 * 1024;
/// What we call ourselves at token servers, as OAuth's `client_id`.
const CLIENT_ID: &str = "berth";
/// What stays as it is in a query or form value (RFC 3986 §2.3), and what readers like to see.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'/');

/// Where the question came from that is being authorized.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// URL that answered 401.
    pub(crate) url: &'a str,
    /// False: the registry needs no verified TLS.
    pub(crate) verify: bool,
    /// The scope to ask for where the challenge names none.
    pub(crate) scope: &'a str,
}

/// What can be shown before anybody asks.
pub(crate) fn upfront(credentials: &Credentials) -> Option<HeaderValue> {
    match credentials {
        Credentials::RegistryToken(token) => bearer(token.expose()),
        Credentials::Anonymous | Credentials::Basic { .. } | Credentials::IdentityToken(_) => None,
    }
}

/// Answers the challenges of a 401.
pub(crate) async fn answer(
    transport: &Transport,
    headers: &HeaderMap,
    credentials: &Credentials,
    asked: Asked<'_>,
) -> Result<HeaderValue, RegistryError> {
    let unanswerable = |reason| RegistryError::Challenge {
        url: asked.url.to_owned(),
        reason,
    };
    let challenges: Vec<Challenge> = headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(challenge::parse)
        .collect();
    // A token is worth less to a thief than a password: prefer it where both are offered.
    let bearer = challenges.iter().find_map(|challenge| match challenge {
        Challenge::Bearer {
            realm,
            service,
            scope,
        } => Some((realm, service, scope)),
        Challenge::Basic => None,
    });
    if let Some((realm, service, scope)) = bearer {
        let realm = token_server(realm, asked)?;
        let wanted = Wanted {
            service: service.as_deref(),
            scope: scope.as_deref().unwrap_or(asked.scope),
        };
        return token(transport, realm, &wanted, credentials, asked).await;
    }
    if challenges.is_empty() {
        return Err(unanswerable(
            "unauthorized: registry names no way to log in",
        ));
    }
    match credentials {
        Credentials::Basic { username, password } => {
            basic(username, password).ok_or_else(|| unanswerable("credentials are no header value"))
        }
        Credentials::Anonymous | Credentials::IdentityToken(_) | Credentials::RegistryToken(_) => {
            Err(RegistryError::NoCredentials {
                url: asked.url.to_owned(),
            })
        }
    }
}

struct Wanted<'a> {
    service: Option<&'a str>,
    scope: &'a str,
}

fn token_server(realm: &str, asked: Asked<'_>) -> Result<Uri, RegistryError> {
    let refused = |reason| RegistryError::Challenge {
        url: asked.url.to_owned(),
        reason,
    };
    let uri: Uri = realm
        .parse()
        .map_err(|_| refused("registry names a malformed token server"))?;
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if !asked.verify => Ok(uri),
        Some("http") => Err(refused("registry names a token server without TLS")),
        _ => Err(refused("registry names a malformed token server")),
    }
}

async fn token(
    transport: &Transport,
    realm: Uri,
    wanted: &Wanted<'_>,
    credentials: &Credentials,
    asked: Asked<'_>,
) -> Result<HeaderValue, RegistryError> {
    let exchange = match credentials {
        Credentials::IdentityToken(refresh) => refresh_exchange(realm, wanted, refresh, asked),
        Credentials::Anonymous | Credentials::Basic { .. } | Credentials::RegistryToken(_) => {
            query_exchange(&realm, wanted, credentials, asked)?
        }
    };
    let url = shown(&exchange.uri);
    let answer = transport.send(exchange).await?;
    if !answer.response.status().is_success() {
        return Err(transport.refusal(answer).await);
    }
    let body = transport.read(answer, TOKEN_BYTES_MAX).await?;
    let refused = |reason| RegistryError::Challenge {
        url: url.clone(),
        reason,
    };
    let reply: TokenReply = serde_json::from_slice(&body)
        // The parser's words could repeat a piece of the token.
        .map_err(|_| refused("token server's answer is malformed"))?;
    let token = Some(reply.token)
        .filter(|token| !token.is_empty())
        .or(Some(reply.access_token).filter(|token| !token.is_empty()))
        .ok_or_else(|| refused("token server sent no token"))?;
    bearer(&token).ok_or_else(|| refused("token server sent a token that is no header value"))
}

#[derive(Deserialize)]
struct TokenReply {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// `GET realm?service=…&scope=…`, with the name and password if there are any.
fn query_exchange(
    realm: &Uri,
    wanted: &Wanted<'_>,
    credentials: &Credentials,
    asked: Asked<'_>,
) -> Result<Exchange, RegistryError> {
    let mut fields: Vec<(&str, &str)> = Vec::new();
    fields.extend(wanted.service.map(|service| ("service", service)));
    // A challenge may ask for several scopes; each is a field of its own.
    let scopes = wanted.scope.split(' ').filter(|scope| !scope.is_empty());
    fields.extend(scopes.map(|scope| ("scope", scope)));
    let mut authorization = None;
    if let Credentials::Basic { username, password } = credentials {
        fields.push(("account", username));
        authorization = basic(username, password);
    }
    let joint = if realm.query().is_some() { '&' } else { '?' };
    let uri = format!("{realm}{joint}{}", form(&fields));
    let uri = uri.parse().map_err(|_| RegistryError::Challenge {
        url: asked.url.to_owned(),
        reason: "registry names a malformed token server",
    })?;
    Ok(Exchange {
        authorization,
        ..Exchange::get(uri, asked.verify)
    })
}

/// `POST realm` with the refresh token (docker's `oauth.md`).
fn refresh_exchange(
    realm: Uri,
    wanted: &Wanted<'_>,
    refresh: &Secret,
    asked: Asked<'_>,
) -> Exchange {
    let mut fields = vec![
        ("grant_type", "refresh_token"),
        ("client_id", CLIENT_ID),
        ("scope", wanted.scope),
        ("refresh_token", refresh.expose()),
    ];
    fields.extend(wanted.service.map(|service| ("service", service)));
    let mut exchange = Exchange::get(realm, asked.verify);
    exchange.method = Method::POST;
    exchange.body = Bytes::from(form(&fields));
    exchange.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    exchange
}

fn form(fields: &[(&str, &str)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, VALUE)))
        .collect();
    fields.join("&")
}

fn basic(username: &str, password: &Secret) -> Option<HeaderValue> {
    if username.is_empty() && password.is_empty() {
        return None;
    }
    let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
    sensitive(&format!("Basic {pair}"))
}

fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

/// A header value whose `Debug` is hidden.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_in_debug() {
        let credentials = Credentials::Basic {
            username: "me".into(),
            password: Secret::new("hunter2"),
        };
        let header = basic("me", &Secret::new("hunter2")).unwrap();
        let shown = format!("{credentials:?} {header:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("bWU6"),
            "{shown}"
        );
    }

    #[test]
    fn fields_are_escaped() {
        assert_eq!(
            form(&[
                ("scope", "repository:a/b:pull,push"),
                ("account", "a&b=c d")
            ]),
            "scope=repository:a/b:pull%2Cpush&account=a%26b%3Dc%20d"
        );
    }

    #[test]
    fn no_token_server_without_tls_behind_verified_tls() {
        let check = |realm: &str, verify: bool, expected: bool| {
            let asked = Asked {
                url: "https://reg.example/v2/",
                verify,
                scope: "",
            };
            assert_eq!(token_server(realm, asked).is_ok(), expected, "{realm}");
        };
        check("https://auth.example/token", true, true);
        check("http://auth.example/token", true, false);
        check("http://auth.example/token", false, true);
        check("file:///etc/passwd", false, false);
        check("token", false, false);
    }
}
