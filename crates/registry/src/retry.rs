//! When to try again, and after how long. Pure.

use http::{HeaderMap, StatusCode, header};
use std::time::Duration;

/// Tries without any progress before a download gives up.
pub(crate) const TRIES_WITHOUT_PROGRESS_MAX: u32 = 5;
/// Broken connections that one blob may cost in all, so that a peer that sends a byte at a time
/// and hangs up does not hold us for ever.
pub(crate) const BREAKS_MAX: u32 = 50;
/// Tries of a small request (manifest, token) that answers "not now".
pub(crate) const SMALL_TRIES_MAX: u32 = 3;
/// Longest pause, whatever the server asks for.
const PAUSE_MAX: Duration = Duration::from_secs(20);

/// Says whether the same request may succeed later.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

/// Returns the pause before try number `tries` (from 1): doubled each time.
pub(crate) fn pause(first: Duration, tries: u32) -> Duration {
    let factor = 1_u32
        .checked_shl(tries.saturating_sub(1))
        .unwrap_or(u32::MAX);
    first.saturating_mul(factor.max(1)).min(PAUSE_MAX)
}

/// Returns `Retry-After` where it is a number of seconds.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = seconds.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let first = Duration::from_millis(500);
        let pauses: Vec<_> = (1..=3)
            .map(|tries| pause(first, tries).as_millis())
            .collect();
        assert_eq!(pauses, [500, 1000, 2000]);
        assert_eq!(pause(first, 40), PAUSE_MAX);
        assert_eq!(pause(Duration::ZERO, 3), Duration::ZERO);
    }

    #[test]
    fn statuses() {
        for (status, expected) in [
            (500, true),
            (503, true),
            (429, true),
            (404, false),
            (501, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_transient(status), expected, "{status}");
        }
    }
}
