//! How the client commands talk to a running nO: one blocking HTTP call at a time, with the token,
//! and refusals turned into errors that say what to do.

use crate::error::{Error, Result};
use crate::sse;
use no_auth::Secret;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::config::ConfigBuilder;
use ureq::http::{Request, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body};

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Time for connecting, and for an answer beyond what was asked to wait.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Silence after which a stream of events is taken for cut; nO says something every 15 s.
const SILENCE: Duration = Duration::from_secs(60);

/// A connection to one nO.
pub struct Client {
    agent: Agent,
    url: String,
    token: Option<Secret>,
}

/// One call.
#[derive(Clone, Debug, Default)]
pub struct Call<'c> {
    /// The method.
    pub method: &'c str,
    /// Path and query, from `/`.
    pub path: &'c str,
    /// A JSON body.
    pub body: Option<&'c Value>,
    /// More headers.
    pub headers: &'c [(&'c str, &'c str)],
    /// How long the server was asked to wait before it answers.
    pub wait: Duration,
}

impl<'c> Call<'c> {
    /// A GET.
    #[must_use]
    pub fn get(path: &'c str) -> Call<'c> {
        Call { method: "GET", path, ..Call::default() }
    }

    /// A POST without body.
    #[must_use]
    pub fn post(path: &'c str) -> Call<'c> {
        Call { method: "POST", path, ..Call::default() }
    }
}

impl Client {
    /// A client of the nO at `url`, such as `http://127.0.0.1:3000`.
    ///
    /// # Errors
    /// [`Error::Usage`] when the URL is none that we can call.
    pub fn new(url: &str, token: Option<Secret>) -> Result<Client> {
        Client::trusting(url, token, None)
    }

    /// The same, for a certificate of the authorities in `ca_file` (PEM) alone.
    ///
    /// # Errors
    /// [`Error::Usage`] likewise, and when the file holds no certificates.
    pub fn trusting(url: &str, token: Option<Secret>, ca_file: Option<&Path>) -> Result<Client> {
        let url = url.trim_end_matches('/').to_owned();
        let uri: Uri = url.parse().map_err(|_| Error::Usage(format!("{url:?} is not a URL")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            let problem = format!("{url:?} must begin with http:// or https:// and name a host");
            return Err(Error::Usage(problem));
        }
        let config = config_for(&uri, ca_file)?.timeout_connect(Some(TIMEOUT));
        Ok(Client { agent: config.build().new_agent(), url, token })
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes a call and reads its JSON; `Null` for an empty answer.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`] for a status of 400 and above, [`Error::Answer`].
    pub fn call(&self, call: &Call) -> Result<Value> {
        let (status, text) = self.text(call)?;
        if 400 <= status {
            return Err(refusal(status, &text));
        }
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|e| self.odd(call, format!("not JSON: {e}")))
    }

    /// Makes a call; status and body whatever they are.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Answer`].
    pub fn text(&self, call: &Call) -> Result<(u16, String)> {
        let response = self.send(call, TIMEOUT + call.wait)?;
        let status = response.status().as_u16();
        let mut text = String::new();
        let reader = response.into_body().into_reader().take(ANSWER_BYTES_MAX);
        BufReader::new(reader)
            .read_to_string(&mut text)
            .map_err(|e| self.unreachable(e.to_string()))?;
        Ok((status, text))
    }

    /// Follows a stream of events from behind the cursor `last_id`; `take` says whether to go on.
    ///
    /// Returns when `take` says stop, or when the stream ends, as it does when nO restarts.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when it cannot be opened, [`Error::Refused`], or what `take` returns.
    pub fn events(
        &self,
        path: &str,
        last_id: Option<&str>,
        mut take: impl FnMut(&sse::Event) -> Result<bool>,
    ) -> Result<()> {
        let mut headers = vec![("Accept", "text/event-stream")];
        headers.extend(last_id.map(|id| ("Last-Event-ID", id)));
        let call = Call { headers: &headers, ..Call::get(path) };
        let response = self.send(&call, SILENCE)?;
        let status = response.status().as_u16();
        let reader = BufReader::new(response.into_body().into_reader());
        if 400 <= status {
            let mut text = String::new();
            let _ = reader.take(1 << 20).read_to_string(&mut text);
            return Err(refusal(status, &text));
        }
        let mut events = sse::Reader::default();
        for line in reader.lines() {
            let Ok(line) = line else { return Ok(()) };
            match events.line(&line) {
                Ok(Some(event)) if !take(&event)? => return Ok(()),
                Ok(_) => {}
                Err(why) => return Err(self.odd(&call, why.to_owned())),
            }
        }
        Ok(())
    }

    fn send(&self, call: &Call, timeout: Duration) -> Result<Response<Body>> {
        let mut request =
            Request::builder().method(call.method).uri(format!("{}{}", self.url, call.path));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {}", token.reveal()));
        }
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        let sent = match call.body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json");
                let request = request.body(body.to_string()).map_err(|e| usage(&e))?;
                let request = self.agent.configure_request(request);
                self.agent.run(request.timeout_per_read(Some(timeout)).build())
            }
            None => {
                let request = request.body(()).map_err(|e| usage(&e))?;
                let request = self.agent.configure_request(request);
                self.agent.run(request.timeout_per_read(Some(timeout)).build())
            }
        };
        sent.map_err(|e| self.unreachable(e.to_string()))
    }

    fn unreachable(&self, why: String) -> Error {
        Error::Unreachable { url: self.url.clone(), why }
    }

    fn odd(&self, call: &Call, why: String) -> Error {
        Error::Answer { url: format!("{}{}", self.url, call.path), why }
    }
}

/// How to talk to the server of a URL: statuses are answers, no redirect is followed, https is
/// verified against these authorities or else the system's.
///
/// # Errors
/// [`Error::Usage`] when the file holds no certificates.
pub(crate) fn config_for(uri: &Uri, ca_file: Option<&Path>) -> Result<ConfigBuilder<AgentScope>> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("no/", env!("CARGO_PKG_VERSION")));
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here =
        host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    // A proxy cannot reach our loopback, whatever the environment says.
    let config = if is_here { config.proxy(None) } else { config };
    Ok(match uri.scheme_str() {
        Some("https") => config.tls_config(tls(ca_file)?),
        _ => config,
    })
}

/// TLS with these roots, else the system's, and the same cryptography as the rest of nO.
fn tls(ca_file: Option<&Path>) -> Result<TlsConfig> {
    let named = ca_file.map(no_net::tls::certificates).transpose();
    let named = named.map_err(|error| Error::Usage(format!("--ca-file: {error}")))?;
    let roots = named.unwrap_or_else(|| rustls_native_certs::load_native_certs().certs);
    let roots: Vec<_> = roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

fn usage(error: &ureq::http::Error) -> Error {
    Error::Usage(format!("cannot be sent: {error}"))
}

/// The error of a problem+json answer, or of any other refusal.
pub(crate) fn refusal(status: u16, text: &str) -> Error {
    let problem: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let word = |key: &str| problem[key].as_str().map(str::to_owned);
    let first = &problem["errors"][0];
    Error::Refused {
        status,
        code: word("code").unwrap_or_else(|| format!("http_{status}")),
        detail: word("detail").or_else(|| word("title")).unwrap_or_else(|| "refused".to_owned()),
        pointer: word("pointer").or_else(|| first["pointer"].as_str().map(str::to_owned)),
    }
}

/// A text as one part of a path or query.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_from_problems_and_from_anything_else() {
        let text = r#"{"code":"invalid","detail":"too long","pointer":"/tags/3"}"#;
        assert_eq!(refusal(422, text).to_string(), "invalid: too long (/tags/3)");
        assert_eq!(refusal(502, "<html>").to_string(), "http_502: refused");
    }

    #[test]
    fn urls_that_cannot_be_called_are_usage_errors() {
        for url in ["", "127.0.0.1:3000", "http://", "ftp://x"] {
            assert!(matches!(Client::new(url, None), Err(Error::Usage(_))), "{url}");
        }
        assert_eq!(
            Client::new("http://[::1]:3000/", None).expect("url").url(),
            "http://[::1]:3000"
        );
    }

    #[test]
    fn parts_of_paths_are_escaped() {
        assert_eq!(escaped("a b/ü?"), "a%20b%2F%C3%BC%3F");
    }
}
