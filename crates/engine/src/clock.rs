//! The time of day, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns nanoseconds since 1970 (until 2262).
pub(crate) fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}
