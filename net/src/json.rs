//! Writing JSON by hand into one buffer, and the two checks that a payload from outside needs.
//!
//! A task's shape is fixed and its payloads are JSON already, so that a serialiser would only copy;
//! here a payload is spliced in as it came.

use std::io::Write;

/// Deepest nesting of a payload; what reads it later recurses.
pub const DEPTH_MAX: usize = 128;

/// Appends a JSON string.
pub fn push_str(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte != b'"' && byte != b'\\' && 0x20 <= byte) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    // Writing to a vector cannot fail, nor can a string be refused.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a JSON string, or `null`.
pub fn push_opt_str(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => push_str(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends a number.
pub fn push_u64(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `number` with exactly `width` digits.
pub fn push_padded(out: &mut Vec<u8>, number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut rest = number;
    for digit in digits[..width].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[..width]);
}

/// Appends millionths as a decimal number without trailing zeros: 1234567 gives `1.234567`.
pub fn push_micros(out: &mut Vec<u8>, micros: u64) {
    push_u64(out, micros / 1_000_000);
    let rest = micros % 1_000_000;
    if rest == 0 {
        return;
    }
    out.push(b'.');
    push_padded(out, rest, 6);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

/// Appends anything that serde writes.
pub fn push_value(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        let _ = out.write_all(b"null");
    }
}

/// Whether a valid JSON text nests no deeper than [`DEPTH_MAX`].
#[must_use]
pub fn is_shallow(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if DEPTH_MAX < depth {
                    return false;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl FnOnce(&mut Vec<u8>), expected: &str) {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn numbers_and_strings() {
        check(|out| push_u64(out, 0), "0");
        check(|out| push_u64(out, u64::MAX), "18446744073709551615");
        check(|out| push_padded(out, 7, 3), "007");
        check(|out| push_micros(out, 0), "0");
        check(|out| push_micros(out, 1_230_000), "1.23");
        check(|out| push_micros(out, 42), "0.000042");
        check(|out| push_micros(out, 7_000_000), "7");
        check(|out| push_str(out, "a\"b\\c\n\u{7}é"), "\"a\\\"b\\\\c\\n\\u0007é\"");
        check(|out| push_str(out, "plain"), "\"plain\"");
        check(|out| push_opt_str(out, None), "null");
    }

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_shallow(&nested(DEPTH_MAX)));
        assert!(!is_shallow(&nested(DEPTH_MAX + 1)));
        assert!(is_shallow(&format!("\"\\\"{}\"", "[".repeat(500))));
        assert!(is_shallow(&"[],".repeat(500)));
    }
}
