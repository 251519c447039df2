//! The kernel, typed: the only crate with `unsafe`.
//!
//! It takes and returns owned or borrowed descriptors and typed flags, and holds no policy. What
//! `rustix` offers safely is used from there directly; this crate has the rest.

pub mod bpf;
pub mod capability;
pub mod link;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod poll;
pub mod process;
pub mod random;
pub mod seccomp;
