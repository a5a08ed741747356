//! What a handler takes out of a request: path, query, body, idempotency key, principal. Each
//! failure is a problem that says which part was wrong.

use crate::body::InBody;
use crate::core::Core;
use crate::problem::{Code, Problem};
use crate::tls::Proven;
use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use no_auth::Principal;
use no_engine::id::TaskId;
use no_engine::limits::{KEY_BYTES_MAX, LIST_LEN_MAX, NAME_BYTES_MAX, WAIT_MS_MAX};
use no_engine::trace::Caller;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// One request, routed and authorised.
pub struct Request {
    /// What handlers work with.
    pub core: Rc<Core>,
    /// Method, URI, headers.
    pub parts: Parts,
    /// The path's parameters in order, percent-decoded.
    pub params: Vec<String>,
    /// Who asks; `None` on an open route.
    pub principal: Option<Principal>,
    /// The body, not yet read.
    pub body: InBody,
    /// Whose address it counts for: the other end of the connection, or whom a trusted proxy named.
    pub peer: IpAddr,
}

/// The kinds of bodies that are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyKind {
    /// One JSON text.
    Json,
    /// One JSON text a line.
    Ndjson,
}

impl Request {
    /// Whose tasks they see.
    #[must_use]
    pub fn tenant(&self) -> Arc<str> {
        match &self.principal {
            Some(principal) => Arc::clone(&principal.tenant),
            None => Principal::unchecked().tenant,
        }
    }

    /// Whether who asks proved a client certificate of an authority that we trust.
    #[must_use]
    pub fn has_client_certificate(&self) -> bool {
        self.parts.extensions.get::<Proven>().is_some()
    }

    /// The first path parameter.
    #[must_use]
    pub fn param(&self) -> &str {
        self.params.first().map_or("", String::as_str)
    }

    /// The first path parameter as a task's id.
    ///
    /// # Errors
    /// 404 for what is no id: there is no such task.
    pub fn task_id(&self) -> Result<TaskId, Problem> {
        self.param().parse().map_err(|_| Problem::task_unknown())
    }

    /// The first path parameter as a name.
    ///
    /// # Errors
    /// 422 for one that no agent can have.
    pub fn name(&self) -> Result<Arc<str>, Problem> {
        check_name(self.param()).map_err(|detail| Problem::invalid("/name", detail))?;
        Ok(self.param().into())
    }

    /// The query, to be taken apart.
    ///
    /// # Errors
    /// 400 when it is not well formed.
    pub fn query(&self) -> Result<Query, Problem> {
        Query::parse(self.parts.uri.query().unwrap_or_default())
    }

    /// Refuses any query.
    ///
    /// # Errors
    /// 422 naming the first key.
    pub fn no_query(&self) -> Result<(), Problem> {
        match self.parts.uri.query() {
            None | Some("") => Ok(()),
            Some(_) => self.query()?.done(),
        }
    }

    /// What the content type says the body is; JSON when there is none.
    ///
    /// # Errors
    /// 415 for anything but JSON and NDJSON.
    pub fn body_kind(&self) -> Result<BodyKind, Problem> {
        let Some(value) = self.parts.headers.get(CONTENT_TYPE) else { return Ok(BodyKind::Json) };
        let text = value.to_str().unwrap_or_default();
        let essence = text.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            return Ok(BodyKind::Json);
        }
        if essence.eq_ignore_ascii_case("application/x-ndjson") {
            return Ok(BodyKind::Ndjson);
        }
        Err(Problem::new(Code::UnsupportedMediaType, "send application/json"))
    }

    /// The body of a route that takes JSON alone.
    ///
    /// # Errors
    /// 415 for another content type, and those of [`crate::bodies::Bodies::read`].
    pub async fn json(&mut self) -> Result<Bytes, Problem> {
        match self.body_kind()? {
            BodyKind::Json => self.whole_body().await,
            BodyKind::Ndjson => {
                Err(Problem::new(Code::UnsupportedMediaType, "send application/json"))
            }
        }
    }

    /// The body, whatever it is.
    ///
    /// # Errors
    /// Those of [`crate::bodies::Bodies::read`].
    pub async fn whole_body(&mut self) -> Result<Bytes, Problem> {
        self.core.bodies.read(&mut self.body).await
    }

    /// The span that the request is part of; one that is malformed, or sent twice, is ignored, as
    /// W3C Trace Context says.
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        caller_of(&self.parts)
    }

    /// The client's name for the submission.
    ///
    /// # Errors
    /// 400 for one that is empty, too long or sent twice.
    pub fn idempotency_key(&self) -> Result<Option<&str>, Problem> {
        let mut values = self.parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else { return Ok(None) };
        let bad = |why: &'static str| Problem::new(Code::BadRequest, why);
        if values.next().is_some() {
            return Err(bad("more than one Idempotency-Key"));
        }
        let text = value.to_str().map_err(|_| bad("the Idempotency-Key is not ASCII"))?.trim();
        key_of(text).map(Some).map_err(bad)
    }
}

/// The span in a request's `traceparent`, if it is one.
pub(crate) fn caller_of(parts: &Parts) -> Option<Caller> {
    let mut values = parts.headers.get_all("traceparent").iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()?.trim().parse().ok()
}

/// The key in a header: a structured-field string, as the draft says, or a bare token, as most
/// send.
fn key_of(text: &str) -> Result<&str, &'static str> {
    let key = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').ok_or("the Idempotency-Key has no closing quote")?,
        None => text,
    };
    if key.contains('"') || key.contains('\\') {
        return Err("the Idempotency-Key has a quote or backslash inside");
    }
    if key.is_empty() || KEY_BYTES_MAX < key.len() {
        return Err("the Idempotency-Key must have 1 to 255 bytes");
    }
    Ok(key)
}

/// Whether a name of an agent, a key or a tag is one.
///
/// # Errors
/// What it must be.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || NAME_BYTES_MAX < name.len() {
        return Err("must have 1 to 128 bytes");
    }
    if name.chars().any(char::is_control) {
        return Err("must have no control characters");
    }
    Ok(())
}

/// A query string whose every key must be known.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes it apart.
    ///
    /// # Errors
    /// 400 for bad percent-encoding, 422 for a key that comes twice.
    pub fn parse(text: &str) -> Result<Query, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| {
                percent_decoded(&text.replace('+', " "))
                    .ok_or_else(|| Problem::new(Code::BadRequest, "bad escape in the query"))
            };
            let (key, value) = (decoded(key)?, decoded(value)?);
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(Problem::invalid(format!("?{key}"), "comes twice"));
            }
            pairs.push((key, value));
        }
        Ok(Query(pairs))
    }

    /// Takes a key out.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a number out.
    ///
    /// # Errors
    /// 422 naming the key when it is no number, or above `max`.
    pub fn take_number(&mut self, key: &str, max: u64) -> Result<Option<u64>, Problem> {
        let Some(text) = self.take(key) else { return Ok(None) };
        match text.parse::<u64>() {
            Ok(number) if number <= max => Ok(Some(number)),
            Ok(_) | Err(_) => {
                Err(Problem::invalid(format!("?{key}"), format!("must be a number up to {max}")))
            }
        }
    }

    /// `wait_ms`, 0 when absent.
    ///
    /// # Errors
    /// 422.
    pub fn take_wait_ms(&mut self) -> Result<u64, Problem> {
        Ok(self.take_number("wait_ms", WAIT_MS_MAX)?.unwrap_or(0))
    }

    /// `limit`, `default` when absent.
    ///
    /// # Errors
    /// 422.
    pub fn take_limit(&mut self, default: usize) -> Result<usize, Problem> {
        match self.take_number("limit", LIST_LEN_MAX as u64)? {
            None => Ok(default),
            Some(0) => Err(Problem::invalid("?limit", "must be at least 1")),
            Some(limit) => Ok(limit as usize),
        }
    }

    /// Nothing more is taken.
    ///
    /// # Errors
    /// 422 naming a key that nobody took.
    pub fn done(self) -> Result<(), Problem> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((key, _)) => Err(Problem::invalid(format!("?{key}"), "is not known here")),
        }
    }
}

/// Undoes percent-encoding; `None` when it is broken or not UTF-8.
#[must_use]
pub fn percent_decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        out.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_keys() {
        assert_eq!(key_of("\"a b\""), Ok("a b"));
        assert_eq!(key_of("abc-1"), Ok("abc-1"));
        for bad in ["", "\"", "\"\"", "\"a", "a\"b", "\"a\\\"b\"", &"x".repeat(256)] {
            assert!(key_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn queries_are_strict() {
        let mut query = Query::parse("wait_ms=5&tag=a%20b+c&x").expect("well formed");
        assert_eq!(query.take_wait_ms(), Ok(5));
        assert_eq!(query.take("tag").as_deref(), Some("a b c"));
        assert_eq!(query.done().expect_err("unknown").pointer.as_deref(), Some("?x"));
        let pointer = |text: &str| {
            let mut query = Query::parse(text)?;
            query.take_wait_ms()?;
            query.take_limit(50)?;
            query.done()
        };
        for (text, expected) in [
            ("wait_ms=x", "?wait_ms"),
            ("wait_ms=60001", "?wait_ms"),
            ("limit=0", "?limit"),
            ("limit=501", "?limit"),
            ("limit=-1", "?limit"),
            ("limit=1&limit=2", "?limit"),
        ] {
            assert_eq!(pointer(text).expect_err(text).pointer.as_deref(), Some(expected));
        }
        assert_eq!(Query::parse("a=%zz").expect_err("escape").code, Code::BadRequest);
        assert_eq!(percent_decoded("a%2Fb"), Some("a/b".into()));
        assert_eq!(percent_decoded("%ff"), None);
        assert_eq!(percent_decoded("%4"), None);
    }
}
