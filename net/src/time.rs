//! Times at the edge: RFC 3339 in UTC with milliseconds, in and out.
//!
//! Out is by hand, as every task carries four of them: H. Hinnant, "chrono-Compatible Low-Level
//! Date Algorithms", 2014 (`civil_from_days`).

use crate::json::push_padded;
use no_engine::time::Millis;
use std::time::{SystemTime, UNIX_EPOCH};

/// The last instant that is written: the end of the year 9999.
const MILLIS_MAX: u64 = 253_402_300_799_999;

/// The wall clock, in ms since 1970; 0 on a clock that stands before.
#[must_use]
pub fn wall() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Appends `"2026-11-25T02:38:49.123Z"`, quotes included.
pub fn push_time(out: &mut Vec<u8>, at: Millis) {
    let ms = at.0.min(MILLIS_MAX);
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    out.push(b'"');
    push_padded(out, year, 4);
    out.push(b'-');
    push_padded(out, month, 2);
    out.push(b'-');
    push_padded(out, day, 2);
    out.push(b'T');
    push_padded(out, in_day / 3_600_000, 2);
    out.push(b':');
    push_padded(out, in_day / 60_000 % 60, 2);
    out.push(b':');
    push_padded(out, in_day / 1_000 % 60, 2);
    out.push(b'.');
    push_padded(out, in_day % 1_000, 3);
    out.extend_from_slice(b"Z\"");
}

/// Appends a time, or `null`.
pub fn push_opt_time(out: &mut Vec<u8>, at: Option<Millis>) {
    match at {
        Some(at) => push_time(out, at),
        None => out.extend_from_slice(b"null"),
    }
}

/// Reads an RFC 3339 time with any offset; `None` for anything else, or a time before 1970.
#[must_use]
pub fn parse_time(text: &str) -> Option<Millis> {
    // The parser knows more forms than RFC 3339 does; a time zone in brackets is not one of them.
    if text.len() < 20 || text.contains('[') || !text.is_ascii() {
        return None;
    }
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().filter(|ms| *ms <= MILLIS_MAX).map(Millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(ms: u64) -> String {
        let mut out = Vec::new();
        push_time(&mut out, Millis(ms));
        String::from_utf8(out).expect("ASCII").trim_matches('"').to_owned()
    }

    #[test]
    fn what_is_written_reads_back_and_agrees_with_the_library() {
        let days = (0..40_000).map(|day| day * 86_400_000 + 123);
        for ms in days.chain([0, 951_782_400_000, 1_764_038_329_007, 253_402_000_000_000]) {
            let text = written(ms);
            assert_eq!(parse_time(&text), Some(Millis(ms)), "{text}");
        }
        assert_eq!(written(1_764_038_329_007), "2025-11-25T02:38:49.007Z");
        assert_eq!(written(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "now",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-13-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-01-01T00:00:00+01:00[Europe/Paris]",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!(parse_time("1970-01-01T01:00:00+01:00"), Some(Millis(0)));
        assert!(parse_time("2026-01-01T00:00:00.5Z").is_some());
    }
}
