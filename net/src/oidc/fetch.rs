//! Requests to the issuer: bounded, timed, without redirects.

use super::{ANSWER_BYTES_MAX, FETCH_TIMEOUT, ProviderError, Shared};
use crate::out::client::{Reply, Request, Sent, common_headers, read_all};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use no_auth::json;
use serde_json::{Map, Value};
use std::time::Duration;
use url::form_urlencoded::{Serializer, byte_serialize};

/// Longest error code that is taken over from an answer, in bytes.
const CODE_BYTES_MAX: usize = 64;

/// An answer that was read to its end.
pub(super) struct Fetched {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Shared {
    /// `GET` of a document; any status but 200 is an error.
    pub(super) async fn get(&self, url: &str) -> Result<Fetched, ProviderError> {
        let fetched = self.fetch(Method::GET, url, common_headers(), Bytes::new()).await?;
        if fetched.status == StatusCode::OK {
            return Ok(fetched);
        }
        Err(unavailable(url, format!("status {}", fetched.status.as_u16())))
    }

    /// See [`super::Provider::form`].
    pub(super) async fn form(
        &self,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<Value, ProviderError> {
        let config = self.issuer.config();
        let client = config.rules.client_id.as_deref().unwrap_or_default();
        let mut headers = common_headers();
        let mut form = Serializer::new(String::new());
        form.extend_pairs(fields);
        match &config.client_secret {
            Some(secret) => {
                headers.insert(header::AUTHORIZATION, basic(client, secret.reveal()));
            }
            None => {
                form.append_pair("client_id", client);
            }
        }
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, kind);
        let body = form.finish().into();
        let fetched = self.fetch(Method::POST, url, headers, body).await?;
        let is_secret = |code: &str| {
            let secret = config.client_secret.as_ref();
            secret.is_some_and(|secret| secret.redact(code) != code)
                || fields.iter().any(|(_, value)| *value == code)
        };
        object(url, &fetched, is_secret).map(Value::Object)
    }

    /// See [`super::Provider::userinfo`].
    pub(super) async fn userinfo(
        &self,
        url: &str,
        access_token: &str,
    ) -> Result<Map<String, Value>, ProviderError> {
        let mut headers = common_headers();
        let bearer = HeaderValue::from_str(&format!("Bearer {access_token}"));
        let mut bearer = bearer.map_err(|_| ProviderError::Malformed {
            url: url.to_owned(),
            why: "the access token for it cannot be sent in a header".to_owned(),
        })?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
        let fetched = self.fetch(Method::GET, url, headers, Bytes::new()).await?;
        object(url, &fetched, |code| code == access_token)
    }

    async fn fetch(
        &self,
        method: Method,
        url: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Fetched, ProviderError> {
        let failed = |error: crate::out::error::CallError| unavailable(url, error.to_string());
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let request =
            Request { method, url: self.client.check(url).map_err(failed)?, headers, body };
        let sent = Sent::default();
        let all = async {
            let Reply { status, headers, mut body } =
                self.client.send_once(&request, &sent).await.map_err(failed)?;
            let body = read_all(&mut body, ANSWER_BYTES_MAX).await.map_err(failed)?;
            Ok(Fetched { status, headers, body })
        };
        let late = |_| Err(unavailable(url, format!("no answer within {FETCH_TIMEOUT:?}")));
        tokio::time::timeout(FETCH_TIMEOUT, all).await.unwrap_or_else(late)
    }
}

/// The JSON object of an answer, or why there is none. An issuer that quotes what is secret as its
/// error code shall not put it into the log.
fn object(
    url: &str,
    fetched: &Fetched,
    is_secret: impl Fn(&str) -> bool,
) -> Result<Map<String, Value>, ProviderError> {
    let answer = json::object(&fetched.body);
    match fetched.status.as_u16() {
        200 => answer.ok_or_else(|| ProviderError::Malformed {
            url: url.to_owned(),
            why: "the answer is no JSON object".to_owned(),
        }),
        status @ 400..=499 => {
            let code = answer.as_ref().and_then(|answer| answer.get("error")?.as_str());
            let code = code
                .filter(|code| is_code(code) && !is_secret(code))
                .unwrap_or("unknown")
                .to_owned();
            Err(ProviderError::Refused { url: url.to_owned(), status, code })
        }
        status => Err(unavailable(url, format!("status {status}"))),
    }
}

fn unavailable(url: &str, why: String) -> ProviderError {
    ProviderError::Unavailable { url: url.to_owned(), why }
}

/// `client_secret_basic`: both parts are form-encoded first (RFC 6749, section 2.3.1).
fn basic(client: &str, secret: &str) -> HeaderValue {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = STANDARD.encode(format!("{}:{}", encoded(client), encoded(secret)));
    let value = HeaderValue::from_str(&format!("Basic {pair}"));
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// An error code is for logs: short, and of the characters that RFC 6749 allows.
pub(crate) fn is_code(code: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-');
    code.len() <= CODE_BYTES_MAX && code.bytes().all(is_plain)
}

/// How long an answer may be kept, by `Cache-Control` (RFC 9111), within bounds.
pub(super) fn fresh_for(headers: &HeaderMap, least: Duration, most: Duration) -> Option<Duration> {
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut age = None;
    for directive in texts.flat_map(|text| text.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(least),
            "max-age" => age = value.trim().trim_matches('"').parse().ok(),
            _ => {}
        }
    }
    age.map(|seconds| Duration::from_secs(seconds).clamp(least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded_twice() {
        let value = basic("a:b", "ü %");
        assert_eq!(value.to_str().ok(), Some("Basic YSUzQWI6JUMzJUJDKyUyNQ=="));
        assert!(value.is_sensitive());
    }

    #[test]
    fn freshness_is_bounded() {
        let (least, most) = (Duration::from_secs(300), Duration::from_secs(86_400));
        let check = |values: &[&str], expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CACHE_CONTROL, value.parse().expect("a value"));
            }
            let expected = expected.map(Duration::from_secs);
            assert_eq!(fresh_for(&headers, least, most), expected, "{values:?}");
        };
        check(&[], None);
        check(&["public"], None);
        check(&["max-age=never"], None);
        check(&["public, Max-Age=3600, must-revalidate"], Some(3_600));
        check(&["public", "max-age=\"900\""], Some(900));
        check(&["max-age=0"], Some(300));
        check(&["max-age=99999999999"], Some(86_400));
        check(&["max-age=3600, no-store"], Some(300));
    }

    #[test]
    fn only_plain_codes_reach_the_log() {
        assert!(is_code("invalid_grant"));
        assert!(!is_code("a\nb") && !is_code(&"x".repeat(65)));
    }
}
