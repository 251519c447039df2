//! Namespaces: which, leaving, joining.

use std::{
    io,
    ops::{BitOr, BitOrAssign},
    os::fd::{AsRawFd as _, BorrowedFd},
};

use crate::process::check;

/// A set of namespace kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Namespaces(u64);

impl Namespaces {
    /// None.
    pub const NONE: Self = Self(0);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// Host and domain name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// System V IPC and message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Users and capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// Network.
    pub const NET: Self = Self(libc::CLONE_NEWNET as u64);
    /// Cgroup paths.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "every flag fits in 31 bits"
    )]
    fn flags(self) -> libc::c_int {
        self.0 as libc::c_int
    }

    /// Whether `other` is part of this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Namespaces {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Namespaces {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Moves this thread into new namespaces (a new pid namespace takes its children only).
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: no flag that shares or separates descriptor tables can be in the set.
    check(unsafe { libc::unshare(namespaces.flags()) }.into()).map(drop)
}

/// Moves this thread into the namespaces of `fd`: a namespace file, or with several kinds a pidfd.
pub fn join(fd: BorrowedFd<'_>, namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { libc::setns(fd.as_raw_fd(), namespaces.flags()) }.into()).map(drop)
}
