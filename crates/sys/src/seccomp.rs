//! Loading a seccomp filter into this thread.

use crate::process::check;
use std::io;

/// Bytes of one `struct sock_filter`.
const INSTRUCTION_BYTES: usize = size_of::<libc::sock_filter>();

/// Flags of a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilterFlags {
    /// Log every action but "allow".
    pub log: bool,
    /// Keep the speculation mitigations off that a filter otherwise turns on.
    pub speculation_allowed: bool,
}

/// Installs a filter, given as consecutive `struct sock_filter` in this machine's byte order.
///
/// Needs `no_new_privs` or `CAP_SYS_ADMIN`.
pub fn install(filter: &[u8], flags: FilterFlags) -> io::Result<()> {
    if filter.is_empty() || !filter.len().is_multiple_of(INSTRUCTION_BYTES) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // The kernel reads the array through a pointer that must be aligned; bytes need not be.
    let instructions: Vec<libc::sock_filter> = filter
        .chunks_exact(INSTRUCTION_BYTES)
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: instructions.as_ptr().cast_mut(),
    };
    let mut bits: libc::c_ulong = 0;
    if flags.log {
        bits |= libc::SECCOMP_FILTER_FLAG_LOG;
    }
    if flags.speculation_allowed {
        bits |= libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    }
    // SAFETY: `program` and the array that it points to outlive the call, which copies them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            bits,
            &raw const program,
        )
    };
    check(done).map(drop)
}
