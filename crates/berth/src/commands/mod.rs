//! One file per command.

pub(crate) mod completion;
pub(crate) mod create;
pub(crate) mod daemon;
pub(crate) mod man;
pub(crate) mod pull;
pub(crate) mod run;
