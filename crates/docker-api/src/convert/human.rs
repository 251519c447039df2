//! Docker's words for times.

use time::OffsetDateTime;

/// Writes a time as Go does; none is Go's zero time.
pub(crate) fn rfc3339(unix_ns: Option<i64>) -> String {
    let Some(unix_ns) = unix_ns else {
        return "0001-01-01T00:00:00Z".to_owned();
    };
    let Ok(time) = OffsetDateTime::from_unix_timestamp_nanos(unix_ns.into()) else {
        return "0001-01-01T00:00:00Z".to_owned();
    };
    let (date, clock) = (time.date(), time.time());
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    );
    let fraction = format!("{:09}", clock.nanosecond());
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        text.push('.');
        text.push_str(fraction);
    }
    text.push('Z');
    text
}

/// `5 seconds`, `About a minute`, `3 weeks`.
pub(crate) fn duration(nanoseconds: i64) -> String {
    let seconds = nanoseconds.max(0) / 1_000_000_000;
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(rfc3339(None), "0001-01-01T00:00:00Z");
        assert_eq!(rfc3339(Some(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(Some(1_500_000_000)), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn durations() {
        let check = |seconds: i64, expected| {
            assert_eq!(duration(seconds * 1_000_000_000), expected);
        };
        check(0, "Less than a second");
        check(59, "59 seconds");
        check(60, "About a minute");
        check(3599, "59 minutes");
        check(3600, "About an hour");
        check(2 * 86400, "2 days");
        check(14 * 86400, "2 weeks");
        check(61 * 86400, "2 months");
        check(730 * 86400, "2 years");
    }
}
