//! A typed client of the Docker Engine API on a unix socket or plain TCP.
//!
//! It stands between the commands and a daemon, ours or docker's, and knows neither terminals nor
//! exit codes. It is synchronous on purpose: a command makes a handful of requests, and starting
//! an async runtime would cost more than making them. Whoever has to watch several streams at once
//! polls the descriptors that [`Hijacked`] and [`Response`] give out.
//!
//! ```no_run
//! # fn main() -> Result<(), client::ClientError> {
//! let client = client::Client::new("unix:///run/berth/berth.sock".parse()?);
//! let version: client::wire::Version = client.get("/version")?;
//! # Ok(()) }
//! ```

mod client;
mod connection;
mod credentials;
mod error;
mod host;
mod query;
mod stdcopy;
pub mod wire;

pub use client::{Client, Hijacked, Pending, Request, Response};
pub use connection::Stream;
pub use credentials::{CredentialError, registry_auth};
pub use error::ClientError;
pub use host::{DEFAULT_HOST, Host};
pub use query::Query;
pub use stdcopy::{Demux, DemuxError, Frame, StreamKind};
