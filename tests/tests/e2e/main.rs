//! End-to-end tests: the real binary, real clients, a real registry, the real kernel.
//!
//! One program with a file per topic, so that the fixtures are made once and the link step is
//! paid once. `cargo test -p e2e --test e2e run::` runs one topic.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy sees only the test functions themselves as tests"
)]

mod api;
mod autostart;
mod bad_input;
mod bootstrap;
mod crash;
mod fixtures;
mod flags;
mod leak;
mod lifecycle;
mod network;
mod pull;
mod run;
mod runtime;
mod streams;
mod terminal;
mod trace;
