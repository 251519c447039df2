//! Bundle → process tree: create, start, exec, kill, delete.
//!
//! This crate sits above `sys` and below `engine`. It has no async code and no threads, because
//! it forks: the shim, the OCI command line and nothing else run it in their own processes.
//!
//! ```no_run
//! # fn main() -> Result<(), runtime::LaunchError> {
//! # let launch: runtime::Launch = unreachable!();
//! # let fill: runtime::Fill<'_> = unreachable!();
//! let blank = runtime::Blank::create(&runtime::BlankOptions::ordinary(None))?;
//! let running = blank.run(&launch, &fill)?;
//! # Ok(()) }
//! ```

mod blank;
pub mod cgroup;
mod channel;
mod exec;
mod failure;
mod hooks;
mod in_root;
mod init;
pub mod init_role;
mod launch;
pub mod oci_cli;
mod options;
mod plan;
pub mod protect;
mod recorder;
pub mod seccomp;
pub mod shim;
mod users;

pub use blank::{Blank, BlankOptions, Created, Fill, IdMappings, Namespace, Running, Stdio};
pub use cgroup::Cgroup;
pub use exec::{ExecTarget, exec_process};
pub use launch::{ExecRequest, Launch, LaunchError, Root, Stage, UserRequest};

/// The filter of a document's own policy.
fn seccomp_of_spec(policy: &oci_spec::runtime::LinuxSeccomp) -> Result<Vec<u8>, LaunchError> {
    seccomp::compile_spec(policy)
        .map_err(|error| LaunchError::new(Stage::Seccomp, error.to_string()))
}
