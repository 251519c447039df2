//! Seccomp policies and their compilation. Pure: loading a filter is `sys::seccomp`.
//!
//! ```text
//! docker profile JSON ─┐
//! OCI linux.seccomp ───┼─> Policy ──compile──> struct sock_filter bytes ──> Launch.seccomp
//! default_policy ──────┘
//! ```

mod cache;
mod compile;
mod default;
mod policy;
mod profile;
mod syscalls;

pub use cache::{FilterError, Filters};
pub use compile::{CompileError, compile};
pub use default::default_policy;
pub use policy::{Action, Architecture, Comparison, Condition, Policy, Rule};
pub use profile::{Facts, ProfileError, from_spec, parse_profile};
pub use syscalls::{names as syscall_names, number as syscall_number};

/// Compiles the policy of a runtime spec for this machine.
///
/// # Errors
/// When it asks for something that is not supported.
pub fn compile_spec(seccomp: &oci_spec::runtime::LinuxSeccomp) -> Result<Vec<u8>, FilterError> {
    Ok(compile(&from_spec(seccomp, Architecture::NATIVE)?)?)
}
