//! Random bytes from the kernel.

use rustix::rand::GetRandomFlags;

/// Returns bytes fit for identifiers that nobody may guess or meet again.
///
/// # Panics
/// Never on a kernel that has booted: for up to 256 bytes getrandom(2) can only fail while the
/// machine has too little entropy, and then it waits.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= 256, "the kernel may return fewer of a longer request") };
    let mut bytes = [0; N];
    rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()))
        .expect("getrandom(2) waits rather than fail");
    bytes
}
