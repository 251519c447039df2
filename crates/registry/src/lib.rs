//! A client of container registries (OCI distribution-spec, and docker's token protocol).
//!
//! `engine` asks a [`RegistryClient`] for a [`Repository`] and reads manifests and blobs through
//! it. This crate knows HTTP, TLS, credentials and retries; it has no disk and knows neither
//! layers nor images on this machine. It may depend on `model` alone.
//!
//! ```text
//! RegistryClient ──repository(reference, credentials)──▶ Repository
//!    options, TLS, DNS                                     │ endpoints: mirrors, then the registry
//!                                                          │ authorization, learned from a 401
//!                     resolve(platform) ─▶ Resolved        │
//!                     fetch_blob(descriptor) ─▶ BlobStream ┘ (resumes by itself)
//! ```
//!
//! ```no_run
//! # async fn pull() -> Result<(), Box<dyn std::error::Error>> {
//! use registry::{Credentials, RegistryClient, RegistryOptions};
//! let client = RegistryClient::new(RegistryOptions::default())?;
//! let repository = client.repository(&"ubuntu".parse()?, Credentials::Anonymous).await;
//! let resolved = repository.resolve(&model::Platform::host()).await?;
//! # Ok(()) }
//! ```

mod auth;
mod blob;
mod challenge;
mod client;
mod credentials;
mod dial;
mod endpoint;
mod error;
mod manifest;
mod options;
mod retry;
mod tls;
mod transport;

pub use blob::{BlobEvent, BlobStream};
pub use client::{ClientError, RegistryClient, Repository};
pub use credentials::{Credentials, Secret};
pub use dial::DialError;
pub use error::{RegistryError, RegistryReply, ResolveError};
pub use manifest::Resolved;
pub use options::{AddressRange, InsecureRegistry, InvalidOption, Mirror, RegistryOptions};
