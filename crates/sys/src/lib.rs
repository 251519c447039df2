//! The kernel, typed: the only crate with `unsafe`.
//!
//! It takes and returns owned or borrowed descriptors and typed flags, and holds no policy. What
//! `rustix` offers safely is used from there directly; this crate has the rest.

pub mod process;
