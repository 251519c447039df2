//! One line of a `json-file` log. Pure.
//!
//! Written out by hand because this is the path of every byte that a container prints: no
//! allocation, and one pass over the text.

use std::io::Write as _;

/// Appends `{"log":…,"stream":…,"time":…}` and a newline.
///
/// Bytes that are no UTF-8 become U+FFFD, as docker writes them: JSON cannot hold them.
pub(super) fn write(out: &mut Vec<u8>, text: &[u8], stream: &str, unix_ns: u64) {
    out.extend_from_slice(b"{\"log\":\"");
    for chunk in text.utf8_chunks() {
        escape(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(b"\",\"time\":\"");
    write_time(out, unix_ns);
    out.extend_from_slice(b"\"}\n");
}

/// Escapes what JSON demands, and what Go's encoder escapes besides (`<`, `>`, `&`, U+2028/9).
fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            b'<' => b"\\u003c",
            b'>' => b"\\u003e",
            b'&' => b"\\u0026",
            0..0x20 => b"",
            0xe2 if matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) => b"",
            _ => continue,
        };
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        from = at + 1;
        if !short.is_empty() {
            out.extend_from_slice(short);
            continue;
        }
        let code = if byte == 0xe2 {
            from = at + 3;
            0x2000 + u32::from(bytes.get(at + 2).copied().unwrap_or(0xa8) & 0x3f)
        } else {
            u32::from(byte)
        };
        write!(out, "\\u{code:04x}").expect("a vector takes every byte");
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
}

/// Where to cut `text` so that its last character stays whole: its length, or up to 3 bytes less.
pub(super) fn character_boundary(text: &[u8]) -> usize {
    let tail_from = text.len().saturating_sub(3);
    let tail = text.get(tail_from..).unwrap_or_default();
    // Find a lead byte whose character would go beyond the end.
    for (at, &byte) in tail.iter().enumerate().rev() {
        let width = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        let cut = tail_from + at;
        return if tail.len() - at < width && cut > 0 {
            cut
        } else {
            text.len()
        };
    }
    text.len()
}

/// Writes a time as Go's `RFC3339Nano` in UTC: fraction without trailing zeros.
fn write_time(out: &mut Vec<u8>, unix_ns: u64) {
    let (seconds, nanos) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    )
    .expect("a vector takes every byte");
    if nanos > 0 {
        write!(out, ".{nanos:09}").expect("a vector takes every byte");
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counts from 1 March of year 0, so that the leap day is a year's last and months follow a fixed
/// pattern of 153 days in five.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_FROM_YEAR_0: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = days_since_1970 + DAYS_FROM_YEAR_0;
    let (era, of_era) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let (month, next_year) = if shifted_month < 10 {
        (shifted_month + 3, 0)
    } else {
        (shifted_month - 9, 1)
    };
    (era * 400 + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(unix_ns: u64) -> String {
        let mut out = Vec::new();
        write_time(&mut out, unix_ns);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_gos() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_782_400_000_000_000), "2000-02-29T00:00:00Z");
        assert_eq!(time(1_709_251_199_500_000_000), "2024-02-29T23:59:59.5Z");
        assert_eq!(
            time(1_795_523_501_000_000_120),
            "2026-11-24T12:31:41.00000012Z"
        );
        assert_eq!(time(4_107_542_399_000_000_000), "2100-02-28T23:59:59Z");
        assert_eq!(time(4_107_542_400_000_000_000), "2100-03-01T00:00:00Z");
    }

    fn line(text: &[u8]) -> String {
        let mut out = Vec::new();
        write(&mut out, text, "stdout", 0);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_as_go_does() {
        let check = |text: &[u8], expected: &str| {
            let expected = format!(
                "{{\"log\":\"{expected}\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00Z\"}}\n"
            );
            assert_eq!(line(text), expected);
        };
        check(b"a\"b\\c\n", "a\\\"b\\\\c\\n");
        check(b"\x1b[1m\x00\r\t", "\\u001b[1m\\u0000\\r\\t");
        check(b"<&>", "\\u003c\\u0026\\u003e");
        check("é\u{2028}\u{2029}…".as_bytes(), "é\\u2028\\u2029…");
        check(b"a\xffb\xc3", "a\\ufffdb\\ufffd");
    }

    proptest! {
        #[test]
        fn every_line_is_json_and_keeps_its_text(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let value: serde_json::Value = serde_json::from_str(&line(&bytes)).unwrap();
            prop_assert_eq!(value["log"].as_str().unwrap(), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn a_cut_keeps_characters_whole(text in "\\PC{1,40}", at in 4usize..100) {
            let bytes = text.as_bytes();
            let head = &bytes[..at.min(bytes.len())];
            let cut = character_boundary(head);
            prop_assert!(head.len() - cut <= 3);
            prop_assert!(std::str::from_utf8(&head[..cut]).is_ok());
        }
    }
}
