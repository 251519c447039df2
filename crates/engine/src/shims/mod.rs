//! The daemon's side of the shims: a pool of ready ones, and a handle on each that runs.
//!
//! [`Shims::launch`] takes a shim out of the pool (or starts one), hands it everything a container
//! needs and returns a [`Shim`]. A daemon that comes back asks [`Shims::adopt`] about each
//! container it has a record of. Nothing here decides about a container's life.

mod handle;
mod link;
mod pool;

pub use handle::{Attachment, ExecProcess, ExecStart, Shim, ShimError};
pub use pool::{Adopted, LaunchRequest, ShimOptions, Shims};
pub use runtime::shim::detach_keys::{DetachKeys, InvalidDetachKeys};
pub use runtime::shim::protocol::{AttachOptions, ExitRecord, IoSettings, LogTarget};
