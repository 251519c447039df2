//! What tests share: skips that are printed and counted.

use std::io::Write;

/// Whether the test may make devices, owners and mounts. If not, says that it is skipped.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("needs root");
    }
    root
}

/// Notes that the running test, or a part of it, does nothing, and why.
pub(crate) fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {reason}", thread.name().unwrap_or("a test"));
    println!("{line}");
    // The test runner swallows the output of what passes; `./check` counts these lines.
    if let Some(path) = std::env::var_os("BERTH_TEST_NOTES") {
        let mut notes = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        writeln!(notes, "{line}").unwrap();
    }
}
