//! What `run` and `create` say about a container, from flags to the API's create body.
//!
//! One file per little language that a flag's value is written in. Nothing here speaks to a
//! daemon; the environment and the working directory are arguments.

mod body;
mod container;
mod env_file;
mod mount;
mod network;
mod port;
mod units;

pub(crate) use body::{Surroundings, create_body};
pub(crate) use container::ContainerArgs;
pub(crate) use env_file::environment;
pub(crate) use units::duration_ns;

/// A flag's value that cannot be read; clap puts the flag's name before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FlagError(pub(crate) String);

impl FlagError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}
