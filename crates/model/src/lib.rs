//! What Berth talks about, as values: no IO, no async, no clock.
//!
//! Everything above this crate exchanges these types. Identifiers parse at the edge into types
//! that cannot hold bad values; decisions (process resolution, the OCI runtime spec, IPAM,
//! lifecycle) are pure functions over them, so they are tested without a kernel.
//!
//! ```
//! use model::Reference;
//! let reference: Reference = "ubuntu".parse().unwrap();
//! assert_eq!(reference.to_string(), "docker.io/library/ubuntu:latest");
//! assert_eq!(reference.familiar(), "ubuntu:latest");
//! ```
#![warn(clippy::wildcard_enum_match_arm)]

mod container_id;
mod digest;
mod error_kind;
pub mod firewall;
pub mod image;
pub mod ipam;
pub mod lifecycle;
pub mod paths;
mod platform;
pub mod process;
mod reference;
pub mod settings;
mod signal;
pub mod spec;
pub mod trace;

pub use container_id::{ContainerId, ContainerName, InvalidContainerId, InvalidContainerName};
pub use digest::{ChainId, DiffId, Digest, ImageId, InvalidDigest};
pub use error_kind::ErrorKind;
pub use platform::{InvalidPlatform, Platform};
pub use reference::{InvalidReference, Reference};
pub use signal::{InvalidSignal, Signal};
