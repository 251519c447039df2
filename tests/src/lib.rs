//! The end-to-end harness: a little machine per test, made of real parts.
//!
//! A [`Machine`] has its own network and mount namespaces, data root, execution root, cgroup
//! parent and bridge. In it run the `berth` binary's daemon and a real registry on loopback,
//! driven by real clients: `berth` with and without a terminal, and the official `docker`
//! command. When a test ends, everything it made must be gone again: [`leak`] looks.
//!
//! The harness knows Berth only from outside: the binary, its socket, its roots. It links none
//! of its crates.
//!
//! ```no_run
//! e2e::scenario(|machine| {
//!     let out = machine.berth(&["run", "--rm", "busybox", "echo", "hello"]);
//!     assert_eq!(out.ok(), "hello");
//! });
//! ```
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "this library is linked into tests only: a broken harness must stop the test, loudly"
)]

pub mod api;
pub mod bootstrap;
pub mod command;
pub mod fixtures;
pub mod layout;
pub mod leak;
pub mod machine;
pub mod namespace;
pub mod proxy;
pub mod registry;
pub mod terminal;
pub mod tree;
pub mod wait;

pub use command::Output;
pub use machine::{Machine, scenario, scenario_with};
pub use terminal::Terminal;
pub use wait::wait_until;

/// Prints that a test did not run and why; the check script counts these lines.
pub fn skip(reason: &str) {
    note(&format!(
        "SKIPPED {}: {reason}",
        std::thread::current().name().unwrap_or("test")
    ));
}

/// Prints a fact about the run, also into the file that `$BERTH_TEST_NOTES` names, because the
/// test runner hides what a passing test prints.
pub fn note(line: &str) {
    use std::io::Write;
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("BERTH_TEST_NOTES") {
        let mut file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
}
