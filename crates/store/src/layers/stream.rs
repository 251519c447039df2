//! (follows)
use super::{Sizes, UnpackError, UnpackLimits};
use model::DiffId;
use std::io::Read;
use std::os::fd::AsFd;
pub(super) fn unpack_stream(
    _compressed: &mut dyn Read,
    _root: &impl AsFd,
    _limits: &UnpackLimits,
) -> Result<(DiffId, Sizes), UnpackError> {
    Err(UnpackError::UnsupportedCompression("(extraction follows)"))
}
