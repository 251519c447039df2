//! Which seccomp filter a process gets, compiled once per policy and set of capabilities.

use crate::Context;
use crate::containers::StartError;
use model::settings::{SeccompSetting, SecuritySettings};
use oci_spec::runtime::Spec;
use runtime::seccomp::{Architecture, Facts, Filters};

/// Compiled filters, and what they depend on.
#[derive(Debug)]
pub(crate) struct Seccomp {
    filters: Filters,
    kernel: (u32, u32),
}

impl Seccomp {
    pub(crate) fn new() -> Self {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy();
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(|digits| digits.parse().unwrap_or(0));
        let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self {
            filters: Filters::default(),
            kernel,
        }
    }
}

/// Returns the filter's bytes; none for an unconfined or privileged process.
pub(crate) fn filter(
    context: &Context,
    security: &SecuritySettings,
    spec: &Spec,
) -> Result<Option<Vec<u8>>, StartError> {
    let profile = match &security.seccomp {
        SeccompSetting::Unconfined => return Ok(None),
        // As in docker, a profile given by the user counts even then.
        SeccompSetting::Default if security.privileged => return Ok(None),
        SeccompSetting::Default => None,
        SeccompSetting::Profile(text) => Some(text.as_str()),
    };
    let process = spec.process().as_ref();
    let capabilities = process.and_then(|process| process.capabilities().as_ref());
    let bounding = capabilities.and_then(|sets| sets.bounding().as_ref());
    let names = bounding.into_iter().flatten();
    let facts = Facts {
        architecture: Architecture::NATIVE,
        kernel: context.seccomp.kernel,
        capabilities: names
            .map(|capability| format!("CAP_{}", capability.to_string().trim_start_matches("CAP_")))
            .collect(),
    };
    let filter = context.seccomp.filters.get(profile, &facts);
    let filter = filter.map_err(|error| StartError::Seccomp(error.to_string()))?;
    Ok(Some(filter.to_vec()))
}
