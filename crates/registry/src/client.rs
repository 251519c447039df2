//! The client, and one repository seen through it: endpoints in order, authorization kept.

use crate::auth::{self, Asked};
use crate::credentials::Credentials;
use crate::endpoint::{self, Endpoint};
use crate::error::RegistryError;
use crate::options::RegistryOptions;
use crate::transport::{Answer, Exchange, Transport, shown};
use crate::{dial, retry};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use model::Reference;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest answer to a log-in; it is `{}`.
const CHECK_BYTES_MAX: usize = 64 * 1024;

/// Speaks to registries. Clones share connections.
#[derive(Debug, Clone)]
pub struct RegistryClient(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    transport: Transport,
    options: RegistryOptions,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS")]
pub struct ClientError(#[from] rustls::Error);

impl RegistryClient {
    /// Makes a client; nothing is connected yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(options: RegistryOptions) -> Result<Self, ClientError> {
        Ok(Self(Arc::new(Shared {
            transport: Transport::new(&options)?,
            options,
        })))
    }

    /// Returns a view of the repository that `reference` is in, with one caller's credentials.
    pub async fn repository(&self, reference: &Reference, credentials: Credentials) -> Repository {
        let registry = reference.registry();
        // A name that does not resolve is no error yet: a mirror may have the image.
        let addresses = if registry == "docker.io" {
            Vec::new()
        } else {
            dial::lookup(endpoint::host(registry))
                .await
                .unwrap_or_default()
        };
        let endpoints = endpoint::plan(registry, &addresses, &self.0.options);
        let authorization = auth::upfront(&credentials);
        Repository(Arc::new(Inner {
            client: self.clone(),
            reference: reference.clone(),
            credentials,
            endpoints,
            state: Mutex::new(State {
                current: 0,
                authorization: None,
            }),
            upfront: authorization,
        }))
    }
}

/// One repository, seen with one caller's credentials. Clones share what was learned.
#[derive(Debug, Clone)]
pub struct Repository(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: RegistryClient,
    reference: Reference,
    credentials: Credentials,
    endpoints: Vec<Endpoint>,
    state: Mutex<State>,
    /// Authorization for the registry itself that needs no challenge.
    upfront: Option<HeaderValue>,
}

/// What requests taught.
#[derive(Debug, Clone)]
struct State {
    /// Index of the endpoint that answers. It only grows: one that failed is not tried again.
    current: usize,
    /// What the current endpoint wanted to see.
    authorization: Option<HeaderValue>,
}

/// A request as far as the repository's endpoints share it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Beneath `/v2/`.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

impl Repository {
    /// The reference that the repository was opened for.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.0.reference
    }

    /// Returns a path beneath `/v2/` of this repository's.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("{}/{rest}", self.0.reference.repository())
    }

    /// Asks the registry whether it takes the credentials (`docker login`).
    ///
    /// # Errors
    /// It does not, or cannot be reached.
    pub async fn check_credentials(&self) -> Result<(), RegistryError> {
        let ask = Ask {
            method: Method::GET,
            path: String::new(),
            headers: HeaderMap::new(),
        };
        self.fetch_small(&ask, CHECK_BYTES_MAX).await.map(drop)
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.0.credentials == Credentials::Anonymous
    }

    /// Turns to the next endpoint if the current one is a mirror that keeps breaking off.
    pub(crate) fn leave_mirror(&self) {
        let current = self.state().current;
        if self.0.endpoints.get(current).is_some_and(|e| e.mirror) {
            self.move_on(current);
        }
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.0.client.0.transport
    }

    pub(crate) fn retry_pause(&self) -> Duration {
        self.0.client.0.options.retry_pause
    }

    /// Asks the endpoints in order until one answers with success.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<Answer, RegistryError> {
        loop {
            let State { current, .. } = self.state();
            let Some(endpoint) = self.0.endpoints.get(current) else {
                unreachable!("the registry itself is the last endpoint and is never left");
            };
            match self.ask_endpoint(ask, endpoint).await {
                Ok(answer) => return Ok(answer),
                Err(error) if self.may_move_on(current, endpoint, &error) => {
                    tracing::debug!(%endpoint, error = %error, "trying the next endpoint");
                    self.move_on(current);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A mirror's failure is never the last word. An insecure registry may do without TLS.
    fn may_move_on(&self, current: usize, endpoint: &Endpoint, error: &RegistryError) -> bool {
        let last = current + 1 >= self.0.endpoints.len();
        !last && (endpoint.mirror || error.is_unreachable())
    }

    fn move_on(&self, from: usize) {
        let mut state = self.lock();
        // Several requests may find the same endpoint dead at once.
        if state.current == from {
            state.current = from + 1;
            state.authorization = None;
        }
    }

    async fn ask_endpoint(&self, ask: &Ask, endpoint: &Endpoint) -> Result<Answer, RegistryError> {
        let uri: Uri =
            format!("{endpoint}/v2/{}", ask.path)
                .parse()
                .map_err(|_| RegistryError::Broken {
                    url: endpoint.to_string(),
                    reason: "malformed URL".to_owned(),
                })?;
        let exchange = |authorization| Exchange {
            method: ask.method.clone(),
            headers: ask.headers.clone(),
            authorization,
            ..Exchange::get(uri.clone(), endpoint.verify)
        };
        let upfront = self.0.upfront.clone().filter(|_| !endpoint.mirror);
        let known = self.state().authorization.or(upfront);
        let mut answer = self.transport().send(exchange(known)).await?;
        if answer.response.status() == StatusCode::UNAUTHORIZED {
            let authorization = self.authorize(&uri, endpoint, &answer).await?;
            self.lock().authorization = Some(authorization.clone());
            answer = self.transport().send(exchange(Some(authorization))).await?;
        }
        if answer.response.status().is_success() {
            return Ok(answer);
        }
        Err(self.transport().refusal(answer).await)
    }

    async fn authorize(
        &self,
        uri: &Uri,
        endpoint: &Endpoint,
        answer: &Answer,
    ) -> Result<HeaderValue, RegistryError> {
        let nobody = Credentials::Anonymous;
        let credentials = if endpoint.mirror {
            &nobody
        } else {
            &self.0.credentials
        };
        let url = shown(uri);
        // Asked at the root, a registry only says whether it knows the caller.
        let scope = if uri.path() == "/v2/" {
            String::new()
        } else {
            format!("repository:{}:pull", self.0.reference.repository())
        };
        let asked = Asked {
            url: &url,
            verify: endpoint.verify,
            scope: &scope,
        };
        let headers = answer.response.headers();
        auth::answer(self.transport(), headers, credentials, asked).await
    }

    /// Fetches a small document, trying again while the registry says "not now".
    pub(crate) async fn fetch_small(
        &self,
        ask: &Ask,
        limit: usize,
    ) -> Result<(HeaderMap, String, Bytes), RegistryError> {
        let mut tries = 1;
        loop {
            let error = match self.fetch_small_once(ask, limit).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            // A registry that cannot be reached at all is reported at once: the user waits.
            let hopeless = !error.is_transient() || error.is_unreachable();
            if hopeless || tries >= retry::SMALL_TRIES_MAX {
                return Err(error);
            }
            let pause = error
                .retry_after()
                .unwrap_or_else(|| retry::pause(self.retry_pause(), tries));
            tokio::time::sleep(pause).await;
            tries += 1;
        }
    }

    async fn fetch_small_once(
        &self,
        ask: &Ask,
        limit: usize,
    ) -> Result<(HeaderMap, String, Bytes), RegistryError> {
        let answer = self.ask(ask).await?;
        let headers = answer.response.headers().clone();
        let url = answer.url.clone();
        let body = self.transport().read(answer, limit).await?;
        Ok((headers, url, body))
    }

    fn state(&self) -> State {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
