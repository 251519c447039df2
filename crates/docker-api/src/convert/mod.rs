//! Conversions between wire types and the model. Each names every field, so that a new one does
//! not compile until someone decides what it means.

pub(crate) mod create;
pub(crate) mod human;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod mounts;
