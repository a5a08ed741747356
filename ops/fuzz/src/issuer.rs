//! What the issuer answers: its keys, its word on an opaque token, its metadata, who logged in.

use crate::token::{AUDIENCE, ISSUER, rules};
use crate::{NOW_S, chosen};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use no_auth::jwks::{Alg, KEYS_LEN_MAX, Lookup};
use no_auth::{IdClaims, IssuerKeys, json};
use no_net::oidc::Metadata;
use serde_json::Value;
use url::{Host, Url};

/// Reads an input: which answer it is, then the answer.
pub(crate) fn check(data: &[u8]) {
    let Some((choice, text)) = chosen(data) else { return };
    match choice % 4 {
        0 => keys(text),
        1 => word(text),
        2 => metadata(text),
        _ => userinfo(text),
    }
}

fn keys(text: &str) {
    let Ok(keys) = IssuerKeys::parse(text.as_bytes()) else { return };
    assert!((1..=KEYS_LEN_MAX).contains(&keys.len()));
    let set = json::object(text.as_bytes()).expect("it was read");
    let listed = set["keys"].as_array().expect("it was read");
    assert!(keys.len() <= listed.len());
    // No key has signed this, whatever it is.
    let nobodys = URL_SAFE_NO_PAD.encode([0x5a; 64]);
    for alg in ["RS256", "PS256", "ES256", "EdDSA"].into_iter().filter_map(Alg::of_name) {
        let kids = listed.iter().map(|key| key["kid"].as_str());
        for kid in kids.chain([None]) {
            if let Lookup::Key(key) = keys.find(kid, alg) {
                assert!(!key.verifies(alg, "e30.e30", &nobodys), "{alg:?} {kid:?}");
                assert!(!key.verifies(alg, "e30.e30", ""), "{alg:?} {kid:?}");
            }
        }
    }
    for name in ["none", "HS256", "ES384", "es256", ""] {
        assert!(Alg::of_name(name).is_none(), "{name}");
    }
    let is_public = |key: &Value| key.get("d").is_none() && key.get("k").is_none();
    let public = listed.iter().filter(|key| is_public(key)).count();
    assert!(keys.len() <= public, "a private key is used");
}

fn word(text: &str) {
    let Some(answer) = json::object(text.as_bytes()) else { return };
    let Ok(issued) = rules().introspected(&answer, NOW_S) else { return };
    assert_eq!(answer["active"], true);
    let aud = &answer["aud"];
    let is_listed = aud.as_array().is_some_and(|all| all.iter().any(|one| one == AUDIENCE));
    assert!(*aud == AUDIENCE || is_listed, "for another");
    assert!(answer.get("iss").is_none_or(|iss| iss == ISSUER), "of another");
    assert!(!answer.contains_key("cnf"), "bound to a key that was not shown");
    assert!(NOW_S < issued.until_s, "ended");
    assert!(!issued.principal.subject.is_empty() && !issued.principal.tenant.is_empty());
}

fn metadata(text: &str) {
    let Ok(metadata) = Metadata::parse(text.as_bytes(), ISSUER) else { return };
    assert_eq!(metadata.issuer, ISSUER);
    let always = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
    let ends = metadata.end_session_endpoint.iter();
    let tells = metadata.userinfo_endpoint.iter().chain(&metadata.introspection_endpoint);
    for endpoint in always.into_iter().chain(ends).chain(tells) {
        let url = Url::parse(endpoint).expect("a URL");
        let is_here = match url.host().expect("a host") {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        assert!(url.scheme() == "https" || url.scheme() == "http" && is_here, "{endpoint}");
        assert!(url.username().is_empty() && url.password().is_none(), "{endpoint}");
    }
}

fn userinfo(text: &str) {
    let Some(told) = json::object(text.as_bytes()) else { return };
    let (sub, exp) = ("ada".to_owned(), NOW_S + 300);
    let (name, email, sid, roles, tenant) = Default::default();
    let mut claims = IdClaims { sub, name, email, roles, tenant, exp, sid };
    let before = claims.clone();
    let completed = rules().complete(&mut claims, &told);
    assert_eq!(claims.sub, "ada");
    if told.get("sub").is_none_or(|sub| sub != "ada") {
        assert!(completed.is_err() && claims == before, "of somebody else");
    }
    if let (Ok(()), Some(tenant)) = (completed, &claims.tenant) {
        assert!(!tenant.is_empty() && !tenant.contains(char::is_control), "{tenant:?}");
    }
}
