//! Our own executable, out of reach of containers (CVE-2019-5736).
//!
//! A process inside could open `/proc/<pid>/exe` of the one that joins it, wait for that to end,
//! and write to the file. So whatever of ours enters a container runs from a read-only copy of
//! the mount that holds the executable: detached, in no mount namespace, thus never to be made
//! writable again. That costs two system calls, where a copy of the file would cost its size in
//! memory. Where mounts are not allowed, a sealed copy in memory serves.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::ffi::OsStringExt as _,
    path::Path,
};

use rustix::fs::{CWD, MemfdFlags, OFlags, SealFlags, StatVfsMountFlags};
use sys::mount::{AttributeChange, set_attributes};

use crate::{init::clone_tree, options::attribute};

/// The environment variable set for a program that runs protected, so that it does not try again.
pub const MARK: &str = "BERTH_PROTECTED";

/// Returns a descriptor of the program at `path` that nobody can write through. Whoever starts our
/// program often makes one, once, and executes it with [`MARK`] set.
///
/// # Errors
/// The program cannot be opened, or the kernel allows neither way.
pub fn executable(path: &Path) -> io::Result<OwnedFd> {
    read_only_mount(path).or_else(|_| sealed_copy(path))
}

fn read_only_mount(path: &Path) -> io::Result<OwnedFd> {
    let tree = clone_tree(CWD, path, false)?;
    let change = AttributeChange {
        set: attribute::RDONLY,
        ..AttributeChange::default()
    };
    set_attributes(&tree, &change, false)?;
    Ok(tree)
}

fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create("berth", flags)?;
    let mut source = std::fs::File::open(path)?;
    let mut target = std::fs::File::from(copy);
    io::copy(&mut source, &mut target)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&target, seals)?;
    // Executing needs a descriptor that is not open for writing.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&target));
    Ok(rustix::fs::open(
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?)
}

/// Makes this process run protected, by executing itself again where it does not yet. Descriptors
/// from `first_closed` on do not survive that, nor any other execution by this process.
pub fn this_process(first_closed: u32) -> io::Result<()> {
    sys::process::close_on_exec_from(first_closed)?;
    if std::env::var_os(MARK).is_some() || is_protected()? {
        return Ok(());
    }
    let program = executable(Path::new("/proc/self/exe"))?;
    let string = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::other);
    let args = std::env::args_os()
        .map(|arg| string(arg.into_vec()))
        .collect::<io::Result<Vec<_>>>()?;
    let env = std::env::vars_os()
        .map(|(key, value)| [key.into_vec(), value.into_vec()].join(&b'='))
        .chain([format!("{MARK}=1").into_bytes()])
        .map(string)
        .collect::<io::Result<Vec<_>>>()?;
    Err(sys::process::exec_fd(program.as_fd(), &args, &env))
}

fn is_protected() -> io::Result<bool> {
    let flags = rustix::fs::statvfs("/proc/self/exe")?.f_flag;
    Ok(flags.contains(StatVfsMountFlags::RDONLY))
}
