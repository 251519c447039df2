//! Capabilities of this process, as bit masks by capability number.

use std::io;

use crate::process::check;

/// The three sets that a thread holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// In force now.
    pub effective: u64,
    /// May be put in force.
    pub permitted: u64,
    /// Kept across the execution of a file that inherits them.
    pub inheritable: u64,
}

/// `CAP_SYS_ADMIN` by number.
pub const SYS_ADMIN: u32 = 21;
/// `CAP_SYS_RESOURCE` by number.
pub const SYS_RESOURCE: u32 = 24;

const VERSION_3: u32 = 0x2008_0522;
/// The kernel has 41; the interface has room for 64.
const LAST: u32 = 63;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The sets of this thread.
pub fn get() -> io::Result<Capabilities> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 writes two elements, which `data` has.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |part: fn(&Data) -> u32| u64::from(part(&data[0])) | u64::from(part(&data[1])) << 32;
    Ok(Capabilities {
        effective: join(|data| data.effective),
        permitted: join(|data| data.permitted),
        inheritable: join(|data| data.inheritable),
    })
}

/// Sets the sets of this thread.
pub fn set(wanted: Capabilities) -> io::Result<()> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "takes one half of 64 bits")]
    let half = |shift: u32| Data {
        effective: (wanted.effective >> shift) as u32,
        permitted: (wanted.permitted >> shift) as u32,
        inheritable: (wanted.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two elements, which `data` has.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// The bounding set.
pub fn bounding() -> u64 {
    (0..=LAST)
        .filter(|&capability| prctl(libc::PR_CAPBSET_READ, capability.into(), 0) == 1)
        .fold(0, |mask, capability| mask | 1 << capability)
}

/// Drops everything outside `keep` from the bounding set. What is not there cannot be kept.
pub fn limit_bounding(keep: u64) -> io::Result<()> {
    for capability in 0..=LAST {
        if keep & (1 << capability) == 0 && prctl(libc::PR_CAPBSET_DROP, capability.into(), 0) == -1
        {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::EINVAL) {
                return Ok(()); // past the kernel's last capability
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Makes the ambient set exactly `wanted`.
pub fn set_ambient(wanted: u64) -> io::Result<()> {
    const CLEAR_ALL: libc::c_ulong = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    const RAISE: libc::c_ulong = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
    check(prctl(libc::PR_CAP_AMBIENT, CLEAR_ALL, 0).into())?;
    for capability in (0..=LAST).filter(|capability| wanted & (1 << capability) != 0) {
        check(prctl(libc::PR_CAP_AMBIENT, RAISE, capability.into()).into())?;
    }
    Ok(())
}

/// Keeps the permitted set across a change of user id.
pub fn keep_across_setuid(keep: bool) -> io::Result<()> {
    check(prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0).into()).map(drop)
}

/// Promises that no execution grants privileges from now on.
pub fn set_no_new_privileges() -> io::Result<()> {
    check(prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).into()).map(drop)
}

fn prctl(option: i32, second: libc::c_ulong, third: libc::c_ulong) -> i32 {
    let zero: libc::c_ulong = 0;
    // SAFETY: every option used here takes integers only.
    unsafe { libc::prctl(option, second, third, zero, zero) }
}

/// The number of a capability by its name, with or without `CAP_`.
pub fn by_name(name: &str) -> Option<u32> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    let at = NAMES.iter().position(|&known| known == name)?;
    u32::try_from(at).ok()
}

/// All names, at the place of their numbers.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_at_their_numbers() {
        assert_eq!(by_name("CAP_SYS_ADMIN"), Some(SYS_ADMIN));
        assert_eq!(by_name("sys_resource"), Some(SYS_RESOURCE));
        assert_eq!(by_name("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(by_name("CAP_MAGIC"), None);
    }

    #[test]
    fn own_sets_are_readable() {
        let sets = get().unwrap();
        assert_eq!(sets.effective & !sets.permitted, 0);
    }
}
