//! The shapes that docker's clients send and read, a file per noun. They stay in this crate.

pub(crate) mod filters;
pub(crate) mod images;
pub(crate) mod networks;
