//! Sizes, durations, numbers of processors, limits and restart policies as docker writes them.

use super::FlagError;
use client::wire::{RestartPolicy, Ulimit};

/// Parses `512`, `64m`, `1.5g`, `2GiB` into bytes.
pub(crate) fn bytes(text: &str) -> Result<i64, FlagError> {
    let bad = || FlagError::new(format!("invalid size: '{text}'"));
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(bad()),
    };
    let factor = 1_i64 << shift;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i64 = whole.parse().map_err(|_| bad())?;
    let mut bytes = whole.checked_mul(factor).ok_or_else(bad)?;
    if !fraction.is_empty() {
        let fraction: f64 = format!("0.{fraction}").parse().map_err(|_| bad())?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "a fraction of at most 2^50"
        )]
        let part = (fraction * factor as f64) as i64;
        bytes = bytes.checked_add(part).ok_or_else(bad)?;
    }
    Ok(bytes)
}

/// Parses a size, or -1 for no limit.
pub(crate) fn bytes_or_unlimited(text: &str) -> Result<i64, FlagError> {
    if text.trim() == "-1" {
        return Ok(-1);
    }
    bytes(text)
}

/// Parses `1.5` processors into billionths.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, FlagError> {
    let bad = || FlagError::new(format!("failed to parse {text} as a rational number"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 {
        return Err(FlagError::new("value is too precise"));
    }
    if !fraction.bytes().all(|byte| byte.is_ascii_digit())
        || (whole.is_empty() && fraction.is_empty())
    {
        return Err(bad());
    }
    let whole: u32 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| bad())?,
    };
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
    Ok(i64::from(whole) * 1_000_000_000 + nanos)
}

/// Parses Go's durations, `1m30s`, into nanoseconds.
pub(crate) fn duration_ns(text: &str) -> Result<i64, FlagError> {
    let bad = || FlagError::new(format!("invalid duration \"{text}\""));
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut total = 0_f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(bad()),
        };
        total += number * unit;
        rest = &rest[end..];
    }
    if text.is_empty() || !total.is_finite() || total >= 9e18 {
        return Err(bad());
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    Ok(total as i64)
}

/// Parses `nofile=1024:2048`.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, FlagError> {
    const KNOWN: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| FlagError::new(format!("invalid ulimit argument: {text}")))?;
    if !KNOWN.contains(&name) {
        return Err(FlagError::new(format!("invalid ulimit type: {name}")));
    }
    let number = |text: &str| {
        let parsed: Option<i64> = text.parse().ok().filter(|n| *n >= -1);
        parsed.ok_or_else(|| FlagError::new(format!("invalid ulimit value: {text}")))
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(FlagError::new(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {hard}",
            if soft == -1 {
                "-1".to_owned()
            } else {
                soft.to_string()
            }
        )));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// Parses `on-failure:3`.
pub(crate) fn restart(text: &str) -> Result<RestartPolicy, FlagError> {
    let (name, retries) = match text.split_once(':') {
        Some((name, retries)) => (name, Some(retries)),
        None => (text, None),
    };
    if !matches!(name, "no" | "always" | "unless-stopped" | "on-failure") {
        return Err(FlagError::new(format!(
            "invalid restart policy {name:?}: use no, always, unless-stopped or on-failure[:N]"
        )));
    }
    let maximum_retry_count = match retries {
        None => 0,
        Some(retries) if name == "on-failure" => retries
            .parse()
            .ok()
            .filter(|n: &i64| *n >= 0)
            .ok_or_else(|| FlagError::new("maximum retry count must be a positive integer"))?,
        Some(_) => {
            return Err(FlagError::new(
                "maximum retry count can only be used with 'on-failure'",
            ));
        }
    };
    Ok(RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        };
        check("0", Some(0));
        check("512", Some(512));
        check("64m", Some(64 << 20));
        check("64MB", Some(64 << 20));
        check("1.5GiB", Some(3 << 29));
        check("2 g", Some(2 << 30));
        for bad in ["", "m", "-1", "1x", "1.2.3", "9999999999p"] {
            check(bad, None);
        }
        assert_eq!(bytes_or_unlimited("-1"), Ok(-1));
    }

    #[test]
    fn processors() {
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(nano_cpus(".25"), Ok(250_000_000));
        assert_eq!(nano_cpus("2"), Ok(2_000_000_000));
        for bad in ["", ".", "-1", "x", "1.0000000001", "1.x"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration_ns("1m30s"), Ok(90_000_000_000));
        assert_eq!(duration_ns("1.5s"), Ok(1_500_000_000));
        assert_eq!(duration_ns("0"), Ok(0));
        for bad in ["", "5", "s", "1x", "-1s"] {
            assert!(duration_ns(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits() {
        let limit = ulimit("nofile=1024:2048").unwrap();
        assert_eq!((limit.soft, limit.hard), (1024, 2048));
        assert_eq!(ulimit("core=-1").unwrap().hard, -1);
        for bad in ["nofile", "foo=1", "nofile=2:1", "nofile=-1:5", "nofile=x"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn restart_policies() {
        assert_eq!(restart("on-failure:3").unwrap().maximum_retry_count, 3);
        assert_eq!(restart("always").unwrap().name, "always");
        for bad in ["", "sometimes", "always:3", "on-failure:x", "on-failure:-1"] {
            assert!(restart(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panic(text in ".{0,24}") {
            bytes(&text).ok();
            nano_cpus(&text).ok();
            duration_ns(&text).ok();
            ulimit(&text).ok();
            restart(&text).ok();
        }
    }
}
