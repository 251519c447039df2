//! The parts of the mount interface that `rustix` lacks.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

use crate::process::check;

/// A change of mount attributes, as `mount_setattr` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttributeChange {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`, or 0.
    pub propagation: u64,
}

impl AttributeChange {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Changes the attributes of the mount whose root (or any place in it) `fd` is; with `recursive`
/// those of every mount beneath it too.
pub fn set_attributes(fd: impl AsFd, change: &AttributeChange, recursive: bool) -> io::Result<()> {
    set(fd, change, recursive, 0)
}

/// Gives the detached mount `fd` the id mapping of a user namespace.
pub fn set_id_mapping(fd: impl AsFd, user: impl AsFd, recursive: bool) -> io::Result<()> {
    let change = AttributeChange {
        set: libc::MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
    };
    set(
        fd,
        &change,
        recursive,
        u64::from(user.as_fd().as_raw_fd().cast_unsigned()),
    )
}

fn set(fd: impl AsFd, change: &AttributeChange, recursive: bool, user: u64) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: user,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attributes` outlives the call, and its size is the one given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(done).map(drop)
}
