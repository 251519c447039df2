//! The hidden roles: what containers' starts execute. Looked at before anything else, because
//! they are on the start path and must not pay for a command line they do not have.

use crate::autostart;
use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::ExitCode,
};

/// Plays the role that the arguments name, if they name one.
pub(crate) fn play(args: &[OsString]) -> Option<ExitCode> {
    let (program, rest) = args.split_first()?;
    let name = Path::new(program).file_name().unwrap_or_default();
    // A monitor that takes a path and no arguments gets a link of this name.
    if name.as_encoded_bytes().starts_with(b"berth-runtime") {
        return Some(code(runtime::oci_cli::main(rest)));
    }
    // How a container that was made with `--init` executes it.
    if name == "docker-init" {
        return Some(code(runtime::init_role::main(rest)));
    }
    let (role, rest) = rest.split_first()?;
    if role == OsStr::new("runtime") {
        Some(code(runtime::oci_cli::main(rest)))
    } else if role == OsStr::new("shim") {
        // What it forks enters containers. Where this fails it is no worse off than before.
        runtime::protect::this_process(3).ok();
        Some(runtime::shim::main(rest))
    } else if role == OsStr::new("init") {
        Some(code(runtime::init_role::main(rest)))
    } else if role == OsStr::new(autostart::ROLE) {
        Some(autostart::become_daemon())
    } else {
        None
    }
}

fn code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}
