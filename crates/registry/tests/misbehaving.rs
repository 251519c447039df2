//! The client against servers that break off, lie, redirect and refuse.
#![expect(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "helpers of tests fail as tests do, and are read more often than run"
)]

#[expect(dead_code, reason = "each test program uses a part of it")]
mod support;

use model::Platform;
use model::image::{Descriptor, media_type};
use registry::{
    BlobEvent, Credentials, RegistryClient, RegistryError, RegistryOptions, Repository,
    ResolveError, Secret,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{Answer, Request, Server, digest, options};

const PASSWORD: &str = "correct-horse-battery";

fn me() -> Credentials {
    Credentials::Basic {
        username: "me".to_owned(),
        password: Secret::new(PASSWORD),
    }
}

async fn open(server: &Server, credentials: Credentials) -> Repository {
    let client = RegistryClient::new(options()).unwrap();
    client
        .repository(&server.reference("app:1"), credentials)
        .await
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type::OCI_LAYER_GZIP.to_owned(),
        digest: digest(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

fn blob() -> Vec<u8> {
    (0..300_000_u32).map(|n| (n % 251) as u8).collect()
}

fn manifest() -> Vec<u8> {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":2}},"layers":[]}}"#,
        media_type::OCI_MANIFEST,
        media_type::OCI_CONFIG,
        digest(b"{}")
    )
    .into_bytes()
}

fn serve_manifest(_: &Request) -> Answer {
    Answer::new(200, manifest()).header("Content-Type", media_type::OCI_MANIFEST)
}

/// Reads a blob to its end; counts the pauses.
async fn download(
    repository: &Repository,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<(Vec<u8>, usize), RegistryError> {
    let mut stream = repository.fetch_blob(descriptor, offset);
    let (mut bytes, mut retries) = (Vec::new(), 0);
    while let Some(event) = stream.next().await? {
        match event {
            BlobEvent::Bytes(chunk) => bytes.extend_from_slice(&chunk),
            BlobEvent::Retrying { .. } => retries += 1,
        }
    }
    Ok((bytes, retries))
}

/// The error and its causes in one line, as users see it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

async fn resolve_error(repository: &Repository) -> ResolveError {
    repository.resolve(&Platform::host()).await.unwrap_err()
}

#[tokio::test]
async fn goes_on_where_the_connection_broke() {
    let server = Server::start(|request| Answer {
        cut_after: Some(100_000),
        ..Answer::ranged(request, &blob())
    })
    .await;
    let repository = open(&server, Credentials::Anonymous).await;
    let (bytes, retries) = download(&repository, &descriptor(&blob()), 0)
        .await
        .unwrap();
    assert_eq!((bytes == blob(), retries), (true, 2));
    let starts: Vec<_> = server.requests().iter().map(Request::range_start).collect();
    assert_eq!(starts, [0, 100_000, 200_000]);
}

#[tokio::test]
async fn skips_what_it_has_where_ranges_are_unknown() {
    let server = Server::start(|_| Answer::new(200, blob())).await;
    let repository = open(&server, Credentials::Anonymous).await;
    let (bytes, _) = download(&repository, &descriptor(&blob()), 123_456)
        .await
        .unwrap();
    assert!(bytes == blob()[123_456..]);
}

#[tokio::test]
async fn a_stalled_connection_is_a_broken_one() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| Answer {
        pause: Duration::from_secs(if count.fetch_add(1, Ordering::Relaxed) == 0 {
            5
        } else {
            0
        }),
        ..Answer::ranged(request, &blob())
    })
    .await;
    let repository = open(&server, Credentials::Anonymous).await;
    let (bytes, retries) = download(&repository, &descriptor(&blob()), 0)
        .await
        .unwrap();
    assert_eq!((bytes == blob(), retries), (true, 1));
}

#[tokio::test]
async fn gives_up_after_tries_without_progress() {
    let server = Server::start(|request| Answer {
        cut_after: Some(0),
        ..Answer::ranged(request, &blob())
    })
    .await;
    let repository = open(&server, Credentials::Anonymous).await;
    let error = download(&repository, &descriptor(&blob()), 0)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::GaveUp { breaks: 5, .. }),
        "{error:?}"
    );
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn a_blob_that_is_shorter_than_announced_is_not_tried_again() {
    let server = Server::start(|_| Answer::new(200, &blob()[..1000])).await;
    let repository = open(&server, Credentials::Anonymous).await;
    let error = download(&repository, &descriptor(&blob()), 0)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::WrongSize { actual: 1000, .. }),
        "{error:?}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::new(503, "").header("Retry-After", "0"),
        1 => Answer::new(429, "").header("Retry-After", "0"),
        _ => serve_manifest(request),
    })
    .await;
    let repository = open(&server, Credentials::Anonymous).await;
    let resolved = repository.resolve(&Platform::host()).await.unwrap();
    assert_eq!(resolved.descriptor.digest, digest(&manifest()));
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn manifests_are_verified() {
    let lying = Server::start(|request| {
        let answer = serve_manifest(request);
        answer.header("Docker-Content-Digest", digest(b"another").to_string())
    })
    .await;
    let error = resolve_error(&open(&lying, Credentials::Anonymous).await).await;
    assert!(
        chain(&error).contains("wrong content: expected digest"),
        "{}",
        chain(&error)
    );

    let plain = Server::start(serve_manifest).await;
    let pinned = plain.reference("app").with_digest(digest(b"another"));
    let client = RegistryClient::new(options()).unwrap();
    let repository = client.repository(&pinned, Credentials::Anonymous).await;
    let error = resolve_error(&repository).await;
    assert!(
        chain(&error).contains("wrong content: expected digest"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn documents_are_bounded_and_checked() {
    let check = async |answer: Answer, expected: &str| {
        let server = Server::start(move |_| answer.clone()).await;
        let error = resolve_error(&open(&server, Credentials::Anonymous).await).await;
        assert!(chain(&error).contains(expected), "{}", chain(&error));
    };
    check(
        Answer::new(200, vec![b' '; 5 << 20]),
        "longer than 4194304 bytes",
    )
    .await;
    check(Answer::new(200, "<html>"), "manifest is malformed").await;
    let old = r#"{"schemaVersion":1,"name":"x"}"#;
    let old = Answer::new(200, old).header(
        "Content-Type",
        "application/vnd.docker.distribution.manifest.v1+json",
    );
    check(
        old,
        "unsupported media type application/vnd.docker.distribution.manifest.v1",
    )
    .await;
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
        media_type::OCI_INDEX
    );
    check(Answer::new(200, index), "no matching manifest for linux/").await;
}

#[tokio::test]
async fn refusals_have_dockers_words() {
    let check = async |answer: Answer, expected: &str| {
        let server = Server::start(move |_| answer.clone()).await;
        let name = server.reference("app:1").familiar();
        let error = resolve_error(&open(&server, Credentials::Anonymous).await).await;
        let expected = expected
            .replace("NAME", &name)
            .replace("REPO", &name[..name.len() - 2]);
        assert_eq!(chain(&error), expected);
    };
    check(
        Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        "manifest for NAME not found: manifest unknown: manifest unknown",
    )
    .await;
    check(
        Answer::error(404, "NAME_UNKNOWN", "repository name not known to registry"),
        "repository REPO not found: name unknown: repository name not known to registry",
    )
    .await;
    check(
        Answer::error(403, "DENIED", "requested access to the resource is denied"),
        "pull access denied for REPO, repository does not exist or may require 'docker login': \
         denied: requested access to the resource is denied",
    )
    .await;
}

#[tokio::test]
async fn nobody_listening() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = RegistryClient::new(options()).unwrap();
    let reference = format!("{address}/app").parse().unwrap();
    let repository = client.repository(&reference, Credentials::Anonymous).await;
    let error = resolve_error(&repository).await;
    assert!(error.is_unreachable());
    assert_eq!(
        chain(&error),
        format!(
            "Get \"http://{address}/v2/app/manifests/latest\": dial tcp {address}: connect: \
             connection refused"
        )
    );
}

#[tokio::test]
async fn credentials_stay_with_their_origin() {
    let elsewhere = Server::start(|request| Answer::ranged(request, &blob())).await;
    let target = format!("http://{}/storage?signature=abc", elsewhere.address);
    let server = Server::start(move |request| match request.header("authorization") {
        None => Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Answer::new(307, "").header("Location", target.clone()),
    })
    .await;
    let repository = open(&server, me()).await;
    let (bytes, _) = download(&repository, &descriptor(&blob()), 0)
        .await
        .unwrap();
    assert!(bytes == blob());
    assert_eq!(elsewhere.requests().len(), 1);
    assert_eq!(elsewhere.requests()[0].header("authorization"), None);
    let at_home = server.requests();
    assert!(
        at_home[1]
            .header("authorization")
            .unwrap()
            .starts_with("Basic ")
    );
}

#[tokio::test]
async fn redirects_end() {
    let server = Server::start(|_| Answer::new(307, "").header("Location", "/round")).await;
    let error = resolve_error(&open(&server, Credentials::Anonymous).await).await;
    assert!(
        chain(&error).contains("stopped after 10 redirects"),
        "{}",
        chain(&error)
    );
    assert_eq!(server.requests().len(), 11);
}

#[tokio::test]
async fn basic_authentication() {
    let server = Server::start(|request| match request.header("authorization") {
        Some("Basic bWU6Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5") => serve_manifest(request),
        _ => Answer::error(401, "UNAUTHORIZED", "authentication required")
            .header("WWW-Authenticate", "Basic realm=\"registry\""),
    })
    .await;
    open(&server, me())
        .await
        .resolve(&Platform::host())
        .await
        .unwrap();

    let error = resolve_error(&open(&server, Credentials::Anonymous).await).await;
    assert!(
        chain(&error).ends_with("no basic auth credentials"),
        "{}",
        chain(&error)
    );

    let wrong = Credentials::Basic {
        username: "me".to_owned(),
        password: Secret::new("letmein-please"),
    };
    let error = resolve_error(&open(&server, wrong).await).await;
    assert!(chain(&error).ends_with("unauthorized: authentication required"));
    assert!(!format!("{error:?}{}", chain(&error)).contains("letmein-please"));
}

/// A token server and the registry that trusts it, as two origins.
async fn token_registry() -> (Server, Server) {
    let tokens = Server::start(|request| {
        let body = String::from_utf8(request.body.clone()).unwrap();
        let wanted = request.query.contains("service=the%20registry")
            && request.query.contains("scope=repository:app:pull");
        let refreshed = body.contains("grant_type=refresh_token")
            && body.contains("refresh_token=long%20lived")
            && body.contains("scope=repository:app:pull");
        match (request.method.as_str(), request.header("authorization")) {
            ("GET", Some("Basic bWU6Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5")) if wanted => {
                Answer::new(200, r#"{"token":"for-me","expires_in":300}"#)
            }
            ("GET", None) if wanted => Answer::new(200, r#"{"token":"for-nobody"}"#),
            ("POST", None) if refreshed => Answer::new(200, r#"{"access_token":"for-me"}"#),
            _ => Answer::new(401, r#"{"details":"incorrect username or password"}"#),
        }
    })
    .await;
    let realm = format!("http://{}/token", tokens.address);
    let challenge =
        format!(r#"Bearer realm="{realm}",service="the registry",scope="repository:app:pull""#);
    let registry = Server::start(move |request| match request.header("authorization") {
        Some("Bearer for-me") if request.path.contains("/blobs/") => {
            Answer::ranged(request, &blob())
        }
        Some("Bearer for-me") => serve_manifest(request),
        _ => Answer::error(401, "UNAUTHORIZED", "authentication required")
            .header("WWW-Authenticate", challenge.clone()),
    })
    .await;
    (registry, tokens)
}

#[tokio::test]
async fn token_authentication() {
    let (server, tokens) = token_registry().await;
    let repository = open(&server, me()).await;
    repository.resolve(&Platform::host()).await.unwrap();
    download(&repository, &descriptor(&blob()), 0)
        .await
        .unwrap();
    // One token serves the whole pull, and the registry never sees the password.
    assert_eq!(tokens.requests().len(), 1);
    let seen = server.requests();
    let seen: Vec<_> = seen
        .iter()
        .map(|request| request.header("authorization"))
        .collect();
    assert_eq!(seen, [None, Some("Bearer for-me"), Some("Bearer for-me")]);

    let identity = Credentials::IdentityToken(Secret::new("long lived"));
    open(&server, identity)
        .await
        .resolve(&Platform::host())
        .await
        .unwrap();
}

#[tokio::test]
async fn token_refusals() {
    let (server, _tokens) = token_registry().await;
    let error = resolve_error(&open(&server, Credentials::Anonymous).await).await;
    assert!(matches!(error, ResolveError::Denied { .. }), "{error:?}");

    let wrong = Credentials::Basic {
        username: "me".to_owned(),
        password: Secret::new("letmein-please"),
    };
    let error = resolve_error(&open(&server, wrong).await).await;
    let shown = chain(&error);
    assert!(
        shown.ends_with("unauthorized: incorrect username or password"),
        "{shown}"
    );
    assert!(!format!("{error:?}{shown}").contains("letmein-please"));
}

#[tokio::test]
async fn a_registry_token_needs_no_challenge() {
    let (server, tokens) = token_registry().await;
    let token = Credentials::RegistryToken(Secret::new("for-me"));
    open(&server, token)
        .await
        .resolve(&Platform::host())
        .await
        .unwrap();
    assert_eq!((server.requests().len(), tokens.requests().len()), (1, 0));
}

#[tokio::test]
async fn mirrors_come_first_and_get_no_credentials() {
    let asked = |server: &Server| server.requests().len();
    let mirrored = Server::start(serve_manifest).await;
    let refusing = Server::start(|_| {
        Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"mirror\"")
    })
    .await;
    let itself = Server::start(serve_manifest).await;
    let resolve = async |mirror: &Server| {
        let registry = itself.address.to_string();
        let mirror = format!("http://{}", mirror.address).parse().unwrap();
        let options = RegistryOptions {
            mirrors: BTreeMap::from([(registry, vec![mirror])]),
            ..options()
        };
        let client = RegistryClient::new(options).unwrap();
        let repository = client.repository(&itself.reference("app:1"), me()).await;
        repository.resolve(&Platform::host()).await.unwrap();
    };
    resolve(&mirrored).await;
    assert_eq!((asked(&mirrored), asked(&itself)), (1, 0));
    resolve(&refusing).await;
    assert_eq!((asked(&refusing), asked(&itself)), (1, 1));
    assert_eq!(refusing.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_mirror_that_keeps_breaking_off_is_left() {
    let mirror = Server::start(|request| Answer {
        cut_after: Some(0),
        ..Answer::ranged(request, &blob())
    })
    .await;
    let itself = Server::start(|request| Answer::ranged(request, &blob())).await;
    let options = RegistryOptions {
        mirrors: BTreeMap::from([(
            itself.address.to_string(),
            vec![format!("http://{}", mirror.address).parse().unwrap()],
        )]),
        ..options()
    };
    let client = RegistryClient::new(options).unwrap();
    let reference = itself.reference("app:1");
    let repository = client.repository(&reference, Credentials::Anonymous).await;
    let (bytes, _) = download(&repository, &descriptor(&blob()), 0)
        .await
        .unwrap();
    assert_eq!((bytes == blob(), mirror.requests().len()), (true, 2));
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let sent = Arc::new(blob());
    let server = Server::start({
        let sent = Arc::clone(&sent);
        move |request| Answer {
            pause: Duration::from_millis(100),
            ..Answer::ranged(request, &sent)
        }
    })
    .await;
    let repository = open(&server, Credentials::Anonymous).await;
    let mut stream = repository.fetch_blob(&descriptor(&sent), 0);
    let first = tokio::time::timeout(Duration::from_millis(20), stream.next()).await;
    first.unwrap_err();
    // What the dropped future had begun is not lost.
    let mut bytes = Vec::new();
    while let Some(BlobEvent::Bytes(chunk)) = stream.next().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    assert!(bytes == *sent);
}
