//! What a browser brings: cookies, the state of a login, the path that it wants to be sent to.

use crate::{NOW_S, chosen};
use no_auth::cookie::{Cookie, value_of};
use no_auth::login::{Logins, Mismatch, check_issuer, is_own_path};
use no_auth::session::{Lifetime, Profile, Secret, Sessions};
use no_auth::{Principal, Role};
use url::Url;

const COOKIE: &str = "no_session";

/// Reads an input: what it is, then it.
pub(crate) fn check(data: &[u8]) {
    let Some((choice, text)) = chosen(data) else { return };
    match choice % 3 {
        0 => cookies(text),
        1 => path(text),
        _ => state(text),
    }
}

/// A `Cookie` header in each line, against a table with one session.
fn cookies(text: &str) {
    let found = value_of(text.split('\n'), COOKIE);
    let all = text.split(['\n', ';']).take(64);
    let ours =
        all.filter(|pair| pair.trim().split_once('=').is_some_and(|(name, _)| name == COOKIE));
    assert_eq!(found.is_some(), ours.count() == 1, "twice, or not there");
    let Some(secret) = found.and_then(Secret::parse) else { return };
    assert_eq!(Some(secret.text().as_str()), found, "one way to write it");
    assert!(secret.is_csrf(&secret.csrf()) && !secret.is_csrf(text));
    let permissions = Role::Viewer.permissions();
    let principal = Principal { subject: "ann".into(), tenant: "acme".into(), permissions };
    let mut sessions = Sessions::new(Lifetime { idle_s: 60, absolute_s: 600 });
    let ours = Secret::new([7; 32]);
    let profile = Profile::default();
    sessions.begin(&ours, Some(&secret), principal, profile, String::new(), NOW_S);
    assert_eq!(sessions.find(&secret, NOW_S).is_some(), secret == ours, "a guess opens it");
    let cookie =
        Cookie { name: COOKIE, value: &secret.text(), path: "/", max_age_s: 1, is_secure: true };
    let header = cookie.header();
    assert_eq!(header.split(';').count(), 6, "{header}");
}

/// A path stays here, as a browser reads it.
fn path(text: &str) {
    if !is_own_path(text) {
        return;
    }
    for base in ["https://no.example/auth/callback", "http://127.0.0.1:3000/auth/callback"] {
        let base = Url::parse(base).expect("a URL");
        let to = base.join(text).expect("a path joins");
        assert_eq!(to.origin(), base.origin(), "{text:?} leads to {to}");
        assert!(to.username().is_empty() && to.password().is_none(), "{to}");
    }
}

/// A state, and an issuer's name, that come back from somewhere.
fn state(text: &str) {
    let mut logins = Logins::default();
    let mut n = 0;
    let begun = logins.begin("/", NOW_S, || {
        n += 1;
        [n; 32]
    });
    let answered = logins.answer(text, Some(&begun.browser), NOW_S);
    if text != begun.state.text() {
        assert_eq!(answered, Err(Mismatch::State), "a guess is taken");
    }
    assert_eq!(
        check_issuer(Some(text), "https://id.example", true).is_ok(),
        text == "https://id.example"
    );
}
