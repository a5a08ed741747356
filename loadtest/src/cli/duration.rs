//! Durations as people write them: `250ms`, `10s`, `5m`, `1.5s`.

use std::time::Duration;

/// Parses one.
///
/// # Errors
/// What to write instead.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("write a number and ms, s, m or h, such as 10s".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "write a number before the unit".to_owned())?;
    if !(0.0..=1e6).contains(&number) {
        return Err("must be between 0 and 1000000".to_owned());
    }
    Ok(Duration::from_secs_f64(number * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_apart() {
        for (text, ms) in [("250ms", 250), ("10s", 10_000), ("1.5s", 1_500), ("2m", 120_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["10", "s", "-1s", "1d", "", "1e9s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
