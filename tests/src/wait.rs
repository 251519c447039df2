//! Waiting for something that has no event to wait on, with a deadline.

use std::time::{Duration, Instant};

/// How long a test waits for what should take milliseconds, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `ready` answers; panics with `what` when [`PATIENCE`] runs out.
pub fn wait_until<T>(what: &str, ready: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, ready).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Polls until `ready` answers or `limit` has passed.
pub fn wait_within<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if Instant::now() > deadline {
            return None;
        }
        pause(Duration::from_millis(10));
    }
}

/// Lets time pass, for tests about time itself (a slow reader, a stalled network).
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the harness that may sleep"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
