//! Real shims with real containers, by the interface that the engine uses: needs root, else says
//! that it skips.
//!
//! This program is its own shim: started with `shim` as its first argument it plays that role, as
//! `berth` does. Everything lives in a mount and a network namespace of its own and in cgroups
//! beneath a name of its own, and the end checks that nothing is left.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this is a test"
)]

mod cases;
mod fixture;

use std::ffi::OsString;
use std::process::ExitCode;
use sys::namespace::Namespaces;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|role| role == "shim") {
        return runtime::shim::main(arguments.get(2..).unwrap_or_default());
    }
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in cases::all() {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: {} tests need root", cases::all().len());
        return ExitCode::SUCCESS;
    }
    sys::namespace::unshare(Namespaces::MOUNT | Namespaces::NET).unwrap();
    let private =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).unwrap();
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut failed = 0;
    for (name, case) in cases::all() {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let fixture = fixture::Fixture::new();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                tokio::time::timeout(std::time::Duration::from_secs(30), case(&fixture))
                    .await
                    .unwrap();
            });
        }));
        let clean = runtime.block_on(fixture.nothing_is_left());
        let ok = result.is_ok() && clean;
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        failed += u32::from(!ok);
    }
    ExitCode::from(u8::from(failed > 0))
}
