//! What requests and answers of calls out have in common: keys and trace headers, JSON of any body,
//! `Retry-After`.

use super::client::{self, Reply, common_headers};
use super::error::{CallError, QUOTE_BYTES_MAX, quote};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use no_engine::effect::Call;
use no_engine::limits::OUTPUT_BYTES_MAX;
use no_engine::payload::{Payload, hash};
use serde_json::value::RawValue;
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest wait that another side may ask for, in ms: a day.
pub const RETRY_AFTER_MS_MAX: u64 = 24 * 3_600_000;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The headers of a call: who we are, the key that lets the other side make it once, the trace.
#[must_use]
pub fn call_headers(call: &Call) -> HeaderMap {
    let mut headers = common_headers();
    let key = format!("{}-{}", call.task, call.step.0);
    let trace = call.trace.traceparent(call.attempt, call.step);
    for (name, value) in [(IDEMPOTENCY_KEY, key), (TRACEPARENT, trace)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// Adds what says that the body is JSON.
pub fn json_body(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

/// Wraps JSON bytes that were checked, naming large ones by their BLAKE3 hash.
///
/// # Errors
/// [`CallError::TooLarge`] past [`OUTPUT_BYTES_MAX`].
pub fn payload(json: &[u8]) -> Result<Payload, CallError> {
    if OUTPUT_BYTES_MAX < json.len() {
        return Err(CallError::TooLarge { bytes_max: OUTPUT_BYTES_MAX });
    }
    Ok(Payload::new(json, hash))
}

/// The body as JSON: itself if it is, `null` if it is empty, else a JSON string of the text.
#[must_use]
pub fn as_json(body: &[u8]) -> Vec<u8> {
    let blank = body.iter().all(u8::is_ascii_whitespace);
    if blank {
        return b"null".to_vec();
    }
    match serde_json::from_slice::<&RawValue>(body) {
        Ok(raw) => raw.get().as_bytes().to_vec(),
        Err(_) => serde_json::Value::from(String::from_utf8_lossy(body)).to_string().into_bytes(),
    }
}

/// A successful answer's body as a payload; any other status as an error.
///
/// # Errors
/// [`CallError::Status`] for anything but 2xx, and what reading brings.
pub async fn output(mut reply: Reply) -> Result<Payload, CallError> {
    if !reply.status.is_success() {
        return Err(status_error(reply).await);
    }
    let body = client::read_all(&mut reply.body, OUTPUT_BYTES_MAX).await?;
    payload(&as_json(&body))
}

/// The error that an answer's status is, with the start of its body.
pub async fn status_error(mut reply: Reply) -> CallError {
    let start = client::read_start(&mut reply.body, QUOTE_BYTES_MAX).await;
    CallError::Status {
        status: reply.status.as_u16(),
        quote: quote(&start),
        retry_after_ms: retry_after_ms(&reply.headers, SystemTime::now()),
    }
}

/// How long `Retry-After` asks to wait, in ms, in either of its forms; at most a day.
#[must_use]
pub fn retry_after_ms(headers: &HeaderMap, now: SystemTime) -> Option<u64> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if text.bytes().all(|c| c.is_ascii_digit()) && !text.is_empty() {
        let ms = text.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1_000);
        return Some(ms.min(RETRY_AFTER_MS_MAX));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let now_ms = now.duration_since(UNIX_EPOCH).ok()?.as_millis();
    let at_ms = u128::try_from(at.as_millisecond()).unwrap_or(0);
    let ms = u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(u64::MAX);
    Some(ms.min(RETRY_AFTER_MS_MAX))
}

/// A JSON text without blanks between its parts; inside strings nothing changes.
///
/// Bytes are moved, not parsed: numbers keep all their digits and objects their order.
#[must_use]
pub fn compact(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_string = byte == b'"';
        }
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn any_body_becomes_json() {
        for (body, json) in [
            ("", "null"),
            (" \r\n", "null"),
            (" {\"a\": 1}\n", "{\"a\": 1}"),
            ("12", "12"),
            ("{\"a\":", "\"{\\\"a\\\":\""),
            ("plain \"text\"", "\"plain \\\"text\\\"\""),
        ] {
            assert_eq!(as_json(body.as_bytes()), json.as_bytes(), "{body}");
        }
        assert_eq!(as_json(b"\xff"), "\"\u{fffd}\"".as_bytes());
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = UNIX_EPOCH + Duration::from_millis(784_111_777_000 - 1_500);
        let check = |text: &str, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(text).expect("a value"));
            assert_eq!(retry_after_ms(&headers, now), expected, "{text}");
        };
        check("0", Some(0));
        check("7", Some(7_000));
        check("99999999999999999999999", Some(RETRY_AFTER_MS_MAX));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(1_500));
        check("Sun, 06 Nov 1994 08:49:00 GMT", Some(0));
        check("soon", None);
        check("", None);
        check("-1", None);
        assert_eq!(retry_after_ms(&HeaderMap::new(), now), None);
    }

    #[test]
    fn blanks_go_only_between_parts() {
        let text = br#" { "a b" : [ 1.50 , "x \" y\\" , true ] } "#;
        assert_eq!(compact(text), br#"{"a b":[1.50,"x \" y\\",true]}"#);
    }
}
