//! The shim: one small process per running container, the parent of its init.
//!
//! It owns the terminal or the pipes, writes the log and the exit record, serves attached clients
//! and outlives the daemon. It knows nothing of images, networks or the HTTP interface.
//!
//! ```text
//! shims/<id>/shim.sock   a daemon that comes back connects here
//! shims/<id>/exit.json   how the container ended, once its log is complete
//! ```
//!
//! Started by the daemon with its first control connection as descriptor 0, and perhaps with the
//! name of a cgroup in which to keep an empty container ready. One thread, no async, no logging:
//! what cannot be done is answered to the daemon.

mod address;
mod client;
mod connection;
pub mod detach_keys;
pub mod frame;
mod json_line;
mod log;
pub mod protocol;
mod server;
mod session;
mod start;
mod task;

pub use address::SocketAddress;

use crate::{Blank, BlankOptions};
use protocol::Event;
use rustix::fs::{Mode, OFlags};
use server::Server;
use start::Ready;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use sys::process::StdStream;

/// The option before the cgroup of an empty container to keep ready.
pub const READY_OPTION: &str = "--ready";

/// Signals that would end an ordinary program; a shim ends after its container only.
const IGNORED: [i32; 5] = [1, 2, 3, 13, 15]; // HUP, INT, QUIT, PIPE, TERM
const SIGCHLD: i32 = 17;

/// Runs the `shim` role with what follows the role's name on the command line.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // There is nobody to tell: its streams are closed on purpose.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(arguments: &[OsString]) -> io::Result<()> {
    let control = detach()?;
    let signals = sys::poll::signal_fd(&[SIGCHLD])?;
    let ready = match arguments {
        [option, cgroup] if option == READY_OPTION => Some(PathBuf::from(cgroup)),
        _ => None,
    };
    let (blank, event) = match ready {
        None => (None, Event::Ready),
        Some(cgroup) => {
            let options = Box::new(BlankOptions::ordinary(Some(cgroup)));
            match Blank::create(&options) {
                Ok(blank) => (Some(Ready { blank, options }), Event::Ready),
                // Not fatal here: the launch makes its own, and reports why it cannot.
                Err(error) => (None, Event::NotReady(error.message)),
            }
        }
    };
    let mut server = Server::new(signals, control, blank);
    server.tell(event);
    sys::poll::give_back_memory();
    server.run()
}

/// Leaves the daemon's session and streams, and takes the control connection from descriptor 0.
fn detach() -> io::Result<OwnedFd> {
    // Nothing else is meant for us; a directory of the host's must not come near a container.
    sys::process::close_inherited_from(3)?;
    for signal in IGNORED {
        sys::poll::ignore_signal(signal)?;
    }
    rustix::process::setsid()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for stream in [StdStream::In, StdStream::Out, StdStream::Err] {
        sys::process::set_stdio(&null, stream)?;
    }
    Ok(control)
}
