//! One step of `run --trace`: who did what, from when to when.
//!
//! Times are `CLOCK_MONOTONIC` nanoseconds, which every process on the machine shares, so steps of
//! client, daemon, shim and container line up without translation.

use serde::{Deserialize, Serialize};

/// Who did a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// The command that the user typed.
    Client,
    /// The daemon.
    Daemon,
    /// The registry that images come from, as seen from the daemon.
    Registry,
    /// The kernel, at the shim's and the init process's request.
    Kernel,
    /// The container's own process.
    Container,
}

/// A finished step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Who did it.
    pub actor: Actor,
    /// What was done, in a few words: `mount overlay root`.
    pub name: String,
    /// `CLOCK_MONOTONIC` at its start, nanoseconds.
    pub start_ns: u64,
    /// How long it took, nanoseconds.
    pub duration_ns: u64,
    /// A detail worth showing: a path, a digest, a byte count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
