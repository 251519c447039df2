//! The shapes that docker's clients send and read, a file per noun. They stay in this crate.
//!
//! Go writes absent lists and maps as `null`, so fields of requests are `Option`s; what each
//! means is decided in `convert`.

pub(crate) mod containers;
pub(crate) mod execs;
pub(crate) mod filters;
pub(crate) mod images;
pub(crate) mod networks;
