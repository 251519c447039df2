//! The shim: one small process per running container, the parent of its init.
//!
//! It owns the terminal or the pipes, writes the log and the exit record, serves attached clients
//! and outlives the daemon. It knows nothing of images, networks or the HTTP interface.

pub mod detach_keys;
pub mod protocol;
