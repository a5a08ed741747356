//! Numbers as people read them.

/// A count with its thousands apart.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if 0 < i && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A rate: whole from ten on, else with one digit.
#[must_use]
pub fn rate(number: f64) -> String {
    if number < 10.0 { format!("{number:.1}") } else { count(number.round() as u64) }
}

/// A number of ms or µs with three digits that matter.
#[must_use]
pub fn short(number: f64) -> String {
    match number {
        n if n <= 0.0 => "0".to_owned(),
        n if n < 1.0 => format!("{n:.3}"),
        n if n < 10.0 => format!("{n:.2}"),
        n if n < 100.0 => format!("{n:.1}"),
        n => count(n.round() as u64),
    }
}

/// A share in percent.
#[must_use]
pub fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if 0.0 < percent && percent < 1.0 {
        return format!("{percent:.3} %");
    }
    format!("{percent:.1} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_keep_their_size() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 3.25, 999.6].map(rate), ["0.0", "3.2", "1,000"]);
        assert_eq!(
            [0.0, 0.1234, 1.234, 12.34, 1234.5].map(short),
            ["0", "0.123", "1.23", "12.3", "1,235"]
        );
        assert_eq!([0.0, 0.0005, 0.5, 1.0].map(percent), ["0.0 %", "0.050 %", "50.0 %", "100.0 %"]);
    }
}
