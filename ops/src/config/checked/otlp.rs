//! What `monitoring.otlp` says: where traces go.

use super::text;
use crate::config::raw::{Raw, parts};
use crate::spans::Otlp;
use no_auth::Secret;
use no_engine::trace::Sampling;
use ureq::http::{HeaderName, HeaderValue, Uri};

/// The path of traces below the endpoint (OTLP/HTTP).
const PATH: &str = "/v1/traces";

/// Reads it; `None` without an endpoint, whatever else is said.
pub(super) fn otlp(raw: &mut Raw) -> Option<Otlp> {
    let ratio = raw.get("monitoring.otlp.sampleRatio").and_then(|found| found.value.as_f64());
    let ratio = ratio.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&ratio) {
        raw.fault(&parts("monitoring.otlp.sampleRatio"), "must be from 0 to 1", None);
    }
    let endpoint = text(raw, "monitoring.otlp.endpoint");
    if endpoint.is_empty() {
        return None;
    }
    let Some(url) = url_of(&endpoint) else {
        // It is not shown: a user in it may have a password.
        let problem = "must be a URL of http or https without user, query or fragment";
        let hint = "such as http://127.0.0.1:4318; headers go into OTEL_EXPORTER_OTLP_HEADERS";
        raw.fault(&parts("monitoring.otlp.endpoint"), problem, Some(hint.to_owned()));
        return None;
    };
    let headers = match raw.secret("monitoring.otlp.headers").map(|secret| headers_of(&secret)) {
        None => Vec::new(),
        Some(Some(headers)) => headers,
        Some(None) => {
            // Nothing of it is shown: it is a secret.
            let problem = "must be name=value,name=value, values percent-encoded";
            raw.fault(&parts("monitoring.otlp.headers"), problem, None);
            return None;
        }
    };
    let service_name = text(raw, "monitoring.otlp.serviceName");
    Some(Otlp { url, headers, service_name, sampling: Sampling::of_ratio(ratio) })
}

fn url_of(endpoint: &str) -> Option<String> {
    let uri: Uri = endpoint.parse().ok()?;
    let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && !uri.host().unwrap_or_default().is_empty()
        && uri.query().is_none()
        && !endpoint.contains('#');
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let base = endpoint.trim_end_matches('/');
    let base = base.strip_suffix(PATH).unwrap_or(base);
    (is_plain && is_web).then(|| format!("{base}{PATH}"))
}

fn headers_of(secret: &Secret) -> Option<Vec<(String, Secret)>> {
    let pairs = secret.reveal().split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let (name, value) = (name.trim(), no_net::extract::percent_decoded(value.trim())?);
            HeaderName::from_bytes(name.as_bytes()).ok()?;
            HeaderValue::from_str(&value).ok()?;
            Some((name.to_owned(), Secret::new(value).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_base_or_the_whole_url() {
        let whole = "http://c:4318/v1/traces";
        for text in ["http://c:4318", "http://c:4318/", whole] {
            assert_eq!(url_of(text).as_deref(), Some(whole));
        }
        assert_eq!(url_of("https://c/otlp").as_deref(), Some("https://c/otlp/v1/traces"));
        for text in ["c:4318", "grpc://c:4317", "http://", "http://u:p@c", "http://c/?x=1", "/x"] {
            assert_eq!(url_of(text), None, "{text}");
        }
    }

    #[test]
    fn headers_are_pairs_of_which_values_are_decoded() {
        let read = |text: &str| {
            let headers = headers_of(&Secret::new(text.to_owned()).expect("a secret"))?;
            Some(headers.iter().map(|(name, value)| format!("{name}:{}", value.reveal())).collect())
        };
        let expected: Vec<String> = vec!["api-key:a b".into(), "x:1=2".into()];
        assert_eq!(read("api-key=a%20b, x=1=2"), Some(expected));
        for text in ["api-key", "a b=c", "a=%0a", "=x"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
