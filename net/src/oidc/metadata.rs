//! The issuer's metadata (OpenID Connect Discovery 1.0, section 3; RFC 8414).

use no_auth::json;
use serde_json::{Map, Value};
use url::Url;

/// Where the issuer's endpoints are. All are https, or on loopback as the issuer is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// Its name, as configured.
    pub issuer: String,
    /// Where a browser is sent to log in.
    pub authorization_endpoint: String,
    /// Where a code is exchanged for tokens.
    pub token_endpoint: String,
    /// Where a browser is sent to log out there too.
    pub end_session_endpoint: Option<String>,
    /// Where it tells of who logged in.
    pub userinfo_endpoint: Option<String>,
    /// Where it tells of opaque tokens.
    pub introspection_endpoint: Option<String>,
    /// Where its keys are.
    pub jwks_uri: String,
    /// Whether it always says who it is when it sends a browser back (RFC 9207).
    pub names_itself: bool,
}

impl Metadata {
    /// Reads the document of this issuer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8], issuer: &str) -> Result<Metadata, String> {
        let document = json::object(text).ok_or("not a JSON object")?;
        let named = document.get("issuer").and_then(Value::as_str).unwrap_or_default();
        if named != issuer {
            // Otherwise one issuer could speak for another (RFC 9207, section 4).
            return Err(format!("it is of the issuer {named:?}, not of {issuer:?} as configured"));
        }
        let required = |name: &str| endpoint(&document, name)?.ok_or(format!("it has no {name}"));
        Ok(Metadata {
            issuer: issuer.to_owned(),
            authorization_endpoint: required("authorization_endpoint")?,
            token_endpoint: required("token_endpoint")?,
            end_session_endpoint: endpoint(&document, "end_session_endpoint")?,
            userinfo_endpoint: endpoint(&document, "userinfo_endpoint")?,
            introspection_endpoint: endpoint(&document, "introspection_endpoint")?,
            jwks_uri: required("jwks_uri")?,
            names_itself: document.get("authorization_response_iss_parameter_supported")
                == Some(&Value::Bool(true)),
        })
    }
}

fn endpoint(document: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    let Some(value) = document.get(name) else { return Ok(None) };
    let text = value.as_str().ok_or(format!("its {name} is no text"))?;
    check_url(text).map_err(|why| format!("its {name} {why}"))?;
    Ok(Some(text.to_owned()))
}

/// A URL at which secrets may be exchanged: https, or plain HTTP that stays on this machine.
///
/// # Errors
/// What it must be.
pub fn check_url(text: &str) -> Result<Url, String> {
    let url = crate::out::guard::parse_url(text).map_err(|why| format!("is refused: {why}"))?;
    let is_loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || is_loopback {
        Ok(url)
    } else {
        Err("must begin with https:// unless its host is loopback".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const GOOD: &str = r#"{"issuer":"https://id.example/a",
        "authorization_endpoint":"https://id.example/a/auth",
        "token_endpoint":"https://id.example/a/token",
        "jwks_uri":"https://keys.example/a","other":[1]}"#;

    fn parse(text: &str) -> Result<Metadata, String> {
        Metadata::parse(text.as_bytes(), "https://id.example/a")
    }

    #[test]
    fn endpoints_are_read() {
        let read = parse(GOOD).expect("accepted");
        assert_eq!(read.jwks_uri, "https://keys.example/a");
        assert_eq!((read.end_session_endpoint, read.introspection_endpoint), (None, None));
        let more = GOOD.replace("other\":[1]", "introspection_endpoint\":\"http://[::1]:1/i\"");
        let read = parse(&more).expect("accepted");
        assert_eq!(read.introspection_endpoint.as_deref(), Some("http://[::1]:1/i"));
    }

    #[test]
    fn another_issuers_document_and_open_endpoints_are_refused() {
        let check = |from: &str, to: &str, expected: Expect| {
            expected.assert_eq(&parse(&GOOD.replace(from, to)).expect_err("refused"));
        };
        check(
            "example/a\",\n",
            "example/a/\",\n",
            expect![[
                r#"it is of the issuer "https://id.example/a/", not of "https://id.example/a" as configured"#
            ]],
        );
        check("\"jwks_uri\"", "\"jwksUri\"", expect!["it has no jwks_uri"]);
        check(
            "https://keys",
            "http://keys",
            expect!["its jwks_uri must begin with https:// unless its host is loopback"],
        );
        check("\"https://keys.example/a\"", "7", expect!["its jwks_uri is no text"]);
        check(
            "https://keys.example",
            "file://keys.example",
            expect!["its jwks_uri is refused: the url must start with http:// or https://"],
        );
        check(
            "{\"issuer\"",
            "{\"jwks_uri\":\"https://evil.example\",\"issuer\"",
            expect!["not a JSON object"],
        );
    }
}
