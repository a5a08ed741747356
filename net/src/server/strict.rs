//! What a request of HTTP/1 must have before it is routed, where the parser is lenient.
//!
//! Whatever is doubtful about where a request ends, or whom it is for, is refused with 400 and the
//! connection closes: two programs that read a request differently are how one smuggles another
//! (RFC 9112, sections 3.2, 6.1 and 11.2; J. Kettle, "HTTP Desync Attacks", 2019).

use crate::conn::ConnState;
use crate::problem::{Code, Problem};
use hyper::header::{EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, Uri, Version};

/// Whether a request may be routed.
///
/// # Errors
/// 400, or 417 for an expectation that we do not know; the connection must close after it.
pub(super) fn check(parts: &Parts, state: &ConnState) -> Result<(), Problem> {
    let headers = &parts.headers;
    if Version::HTTP_11 < parts.version {
        return Ok(());
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        check_coding(headers, state)?;
    }
    check_host(headers, parts.version)?;
    check_target(&parts.method, &parts.uri)?;
    match headers.contains_key(EXPECT) && parts.version == Version::HTTP_11 {
        true => check_expectation(headers),
        false => Ok(()),
    }
}

fn bad(why: &'static str) -> Problem {
    Problem::new(Code::BadRequest, why)
}

fn check_coding(headers: &HeaderMap, state: &ConnState) -> Result<(), Problem> {
    if state.take_doubt() {
        return Err(bad("the request has both Content-Length and Transfer-Encoding"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = codings.next().is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !is_chunked || codings.next().is_some() {
        return Err(bad("the only Transfer-Encoding that is taken is chunked, once"));
    }
    Ok(())
}

fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Problem> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return match version {
            Version::HTTP_11 => Err(bad("the request has no Host")),
            _ => Ok(()),
        };
    };
    if hosts.next().is_some() {
        return Err(bad("the request has more than one Host"));
    }
    if is_host(host) { Ok(()) } else { Err(bad("the Host is malformed")) }
}

/// Whether it may be a host and port. Empty is one: that of a target without authority.
fn is_host(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let (name, port) = match bytes.iter().rposition(|byte| *byte == b':') {
        Some(at) if !bytes[at..].contains(&b']') => (&bytes[..at], &bytes[at + 1..]),
        _ => (bytes, &[][..]),
    };
    let inside = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]"));
    let is_name = match inside {
        Some(ip) => ip.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)),
        None => name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte)),
    };
    is_name && port.iter().all(u8::is_ascii_digit)
}

/// The four forms of a target (RFC 9112, 3.2), each for its methods.
fn check_target(method: &Method, uri: &Uri) -> Result<(), Problem> {
    if method == Method::CONNECT {
        return Err(Problem::new(Code::MethodNotAllowed, "this is no proxy"));
    }
    let Some(authority) = uri.authority() else {
        return match (uri.path(), method) {
            ("*", &Method::OPTIONS) => Ok(()),
            (path, _) if path.starts_with('/') => Ok(()),
            _ => Err(bad("the target is malformed")),
        };
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.as_str().contains('@') {
        return Err(bad("the target is malformed"));
    }
    Ok(())
}

fn check_expectation(headers: &HeaderMap) -> Result<(), Problem> {
    let is_known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(EXPECT).iter().all(is_known) {
        return Ok(());
    }
    Err(Problem::new(Code::ExpectationFailed, "the only expectation that is met is 100-continue"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["", "a", "a.b:80", "A-b.c_d", "127.0.0.1:3000", "[::1]", "[::1]:80", "x:"] {
            assert!(is_host(&HeaderValue::from_static(good)), "{good}");
        }
        for bad in
            ["a b", "a,b", "a@b", "a/b", "a:b", "a:1:2", "[::1", "[a]b", "[x]", "a\\b", "\"a\""]
        {
            assert!(!is_host(&HeaderValue::from_static(bad)), "{bad}");
        }
    }
}
