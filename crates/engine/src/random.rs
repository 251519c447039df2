//! Random bytes from the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

/// Fills an array.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        // Small requests are only cut short by signals before the pool is ready.
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}

/// Makes 64 hex digits, docker's form of an ID.
pub(crate) fn hex_id() -> String {
    model::ContainerId::from_random(bytes()).to_string()
}
