//! Real containers, by the crate's own interface: needs root, else says that it skips.
//!
//! The standard test harness runs tests in threads, and this crate forks; so here is a `main`
//! that runs one test after the other. Everything lives in a mount and a network namespace of its
//! own and in cgroups beneath a name of its own, and the end checks that nothing is left.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "this is a test")]

mod cases;
mod fixture;

use std::process::ExitCode;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    if std::env::args().any(|arg| arg == "--list") {
        cases::ALL
            .iter()
            .for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: {} tests need root", cases::ALL.len());
        return ExitCode::SUCCESS;
    }
    let fixture = fixture::Fixture::new();
    let mut failed = 0;
    for (name, case) in cases::ALL {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&fixture)));
        println!(
            "test {name} ... {}",
            if result.is_ok() { "ok" } else { "FAILED" }
        );
        failed += u32::from(result.is_err());
    }
    failed += u32::from(!fixture.nothing_is_left());
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
