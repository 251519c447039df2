//! Which capabilities a container's root has.

use crate::settings::SecuritySettings;
use oci_spec::runtime::{Capabilities, Capability};

/// What docker leaves an unprivileged root.
const DEFAULT: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// A name that is no capability. The wording is docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {list}: unknown capability: {name:?}")]
pub struct UnknownCapability {
    /// `CapAdd` or `CapDrop`.
    pub list: &'static str,
    /// The name as given.
    pub name: String,
}

/// Adds and drops by docker's rules; never more than the host's engine itself has.
pub(super) fn effective(
    security: &SecuritySettings,
    available: &[String],
) -> Result<Capabilities, UnknownCapability> {
    let every: Capabilities = available.iter().filter_map(|name| parse(name)).collect();
    let add = list("CapAdd", &security.cap_add, &every)?;
    let drop = list("CapDrop", &security.cap_drop, &every)?;
    if security.privileged {
        return Ok(every);
    }
    let drops_all = security.cap_drop.iter().any(|name| is_all(name));
    let adds_all = security.cap_add.iter().any(|name| is_all(name));
    let mut chosen: Capabilities = match (adds_all, drops_all) {
        // `ALL` on both sides: what was added by name is what stays.
        (true, true) => security
            .cap_add
            .iter()
            .filter_map(|name| parse(name))
            .collect(),
        (true, false) => every.clone(),
        (false, true) => add.clone(),
        (false, false) => DEFAULT.into_iter().chain(add.iter().copied()).collect(),
    };
    if !drops_all {
        chosen.retain(|capability| !drop.contains(capability));
    }
    chosen.retain(|capability| every.contains(capability));
    Ok(chosen)
}

fn list(
    list: &'static str,
    names: &[String],
    every: &Capabilities,
) -> Result<Capabilities, UnknownCapability> {
    let mut capabilities = Capabilities::new();
    for name in names {
        if is_all(name) {
            capabilities.extend(every);
        } else {
            let unknown = || UnknownCapability {
                list,
                name: name.chars().take(64).collect(),
            };
            capabilities.insert(parse(name).ok_or_else(unknown)?);
        }
    }
    Ok(capabilities)
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL")
}

fn parse(name: &str) -> Option<Capability> {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).parse().ok()
}
