//! Logins of browsers that are under way: what was sent to the issuer and must come back.
//!
//! Authorization code with PKCE (RFC 6749, 7636), `state` and `nonce` (OpenID Connect Core 1.0),
//! and the issuer's name in its answer (RFC 9207), as RFC 9700 asks for. A `state` is good once,
//! for ten minutes, and for the browser alone that it was given to, which a cookie of its own
//! proves: else somebody could log a victim into an account of theirs. Only what the hash of the
//! state finds is kept. Clock and randomness are handed in.

use crate::session::Secret;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Logins under way, at most: past it the oldest is forgotten.
pub const LOGINS_MAX: usize = 10_000;
/// How long one may take, in s.
pub const LOGIN_S_MAX: u64 = 600;
/// Longest path that a browser is sent back to, in bytes.
const RETURN_BYTES_MAX: usize = 1_024;

/// What is asked of the issuer, and must fit what it answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Login {
    /// Comes back in the ID token.
    pub nonce: String,
    /// Proves that who brings the code asked for it: `code_verifier` of PKCE.
    pub verifier: String,
    /// Where the browser goes afterwards: a path here.
    pub return_to: String,
    /// What the browser's cookie must hash to, in hex.
    browser: String,
    began_s: u64,
    /// Whether other nodes can find it, so that it is for them to say that it was answered.
    #[serde(skip)]
    pub is_shared: bool,
}

impl Login {
    /// Whether the browser with that cookie may end it now.
    ///
    /// # Errors
    /// [`Mismatch::State`] when its time is over, [`Mismatch::Browser`] for another one.
    pub fn check(&self, browser: Option<&Secret>, now_s: u64) -> Result<(), Mismatch> {
        if self.began_s.saturating_add(LOGIN_S_MAX) <= now_s {
            return Err(Mismatch::State);
        }
        let expected = blake3::Hash::from_hex(&self.browser).map_err(|_| Mismatch::Browser)?;
        match browser.map(Secret::hash) {
            Some(hash) if hash == expected => Ok(()),
            _ => Err(Mismatch::Browser),
        }
    }
}

/// What a browser takes along to the issuer.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The `state`.
    pub state: Secret,
    /// Of its cookie for this login.
    pub browser: Secret,
    /// The `nonce`.
    pub nonce: String,
    /// The `code_challenge`, method S256.
    pub challenge: String,
}

/// Why an answer of the issuer is not taken. All of them are one 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mismatch {
    /// No login with this state is under way: never was, is over, or has been answered.
    #[error("the state is not known")]
    State,
    /// Another browser began it.
    #[error("another browser began the login")]
    Browser,
    /// It comes from another issuer.
    #[error("the answer comes from another issuer")]
    Issuer,
}

/// All logins under way.
#[derive(Debug, Default)]
pub struct Logins(HashMap<blake3::Hash, Login>);

impl Logins {
    /// Begins one. `random` gives 32 new random bytes at a time.
    pub fn begin(
        &mut self,
        return_to: &str,
        now_s: u64,
        mut random: impl FnMut() -> [u8; 32],
    ) -> Begun {
        let (state, browser) = (Secret::new(random()), Secret::new(random()));
        let text = |bytes: [u8; 32]| URL_SAFE_NO_PAD.encode(bytes);
        let (nonce, verifier) = (text(random()), text(random()));
        let challenge = challenge_of(&verifier);
        self.make_room(now_s);
        let login = Login {
            nonce: nonce.clone(),
            verifier,
            return_to: return_to.to_owned(),
            browser: browser.hash().to_hex().to_string(),
            began_s: now_s,
            is_shared: false,
        };
        self.0.insert(state.hash(), login);
        Begun { state, browser, nonce, challenge }
    }

    /// Takes out the login of a `state`, for the browser with that cookie. It is gone either way.
    ///
    /// # Errors
    /// [`Mismatch`].
    pub fn answer(
        &mut self,
        state: &str,
        browser: Option<&Secret>,
        now_s: u64,
    ) -> Result<Login, Mismatch> {
        let state = Secret::parse(state).ok_or(Mismatch::State)?;
        let login = self.take(&state).ok_or(Mismatch::State)?;
        login.check(browser, now_s)?;
        Ok(login)
    }

    /// The login of a `state`.
    #[must_use]
    pub fn get(&self, state: &Secret) -> Option<&Login> {
        self.0.get(&state.hash())
    }

    /// Whether one more took the place of another: then somebody may be flooding, and what holds a
    /// bounded number here would not elsewhere.
    #[must_use]
    pub fn is_full(&self) -> bool {
        LOGINS_MAX <= self.0.len()
    }

    /// Notes that other nodes can find it.
    pub fn shared(&mut self, state: &Secret) {
        if let Some(login) = self.0.get_mut(&state.hash()) {
            login.is_shared = true;
        }
    }

    /// Takes out the login of a `state`, unchecked.
    pub fn take(&mut self, state: &Secret) -> Option<Login> {
        self.0.remove(&state.hash())
    }

    fn make_room(&mut self, now_s: u64) {
        if self.0.len() < LOGINS_MAX {
            return;
        }
        self.0.retain(|_, login| now_s < login.began_s.saturating_add(LOGIN_S_MAX));
        if LOGINS_MAX <= self.0.len() {
            let oldest = self.0.iter().min_by_key(|(_, login)| login.began_s);
            if let Some(hash) = oldest.map(|(hash, _)| *hash) {
                self.0.remove(&hash);
            }
        }
    }
}

/// `code_challenge` of a verifier by S256 (RFC 7636, section 4.2).
#[must_use]
pub fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

/// Whether the issuer that answered is the one that was asked (RFC 9207). Without a name in the
/// answer it is, unless that issuer says that it always gives one.
///
/// # Errors
/// [`Mismatch::Issuer`].
pub fn check_issuer(named: Option<&str>, asked: &str, always_named: bool) -> Result<(), Mismatch> {
    match named {
        Some(named) if named == asked => Ok(()),
        None if !always_named => Ok(()),
        _ => Err(Mismatch::Issuer),
    }
}

/// Whether a browser may be sent to this path: one of our own, never of another host.
///
/// A browser takes `//host`, and `\` for `/`, for another host, and drops tabs and line ends on the
/// way (WHATWG URL), so none of them is let through.
#[must_use]
pub fn is_own_path(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '\\';
    path.len() <= RETURN_BYTES_MAX
        && path.starts_with('/')
        && !path.starts_with("//")
        && path.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> impl FnMut() -> [u8; 32] {
        let mut n = 0_u8;
        move || {
            n += 1;
            [n; 32]
        }
    }

    #[test]
    fn a_state_is_good_once_for_its_browser_and_for_a_while() {
        let mut logins = Logins::default();
        let mut random = counter();
        let begun = logins.begin("/console/", 100, &mut random);
        let state = begun.state.text();
        let login = logins.answer(&state, Some(&begun.browser), 101).expect("fits");
        assert_eq!((&*login.return_to, &login.nonce), ("/console/", &begun.nonce));
        assert_eq!(challenge_of(&login.verifier), begun.challenge);
        assert_eq!(logins.answer(&state, Some(&begun.browser), 101), Err(Mismatch::State), "twice");

        let mut refused = |take: fn(&Begun) -> Option<Secret>, now_s, expected| {
            let begun = logins.begin("/", 100, &mut random);
            let state = begun.state.text();
            let answered = logins.answer(&state, take(&begun).as_ref(), now_s);
            assert_eq!(answered, Err(expected));
            let again = logins.answer(&state, Some(&begun.browser), 101);
            assert_eq!(again, Err(Mismatch::State), "a wrong answer uses it up");
        };
        refused(|_| None, 101, Mismatch::Browser);
        refused(|begun| Some(begun.state.clone()), 101, Mismatch::Browser);
        refused(|begun| Some(begun.browser.clone()), 100 + LOGIN_S_MAX, Mismatch::State);
        for junk in ["", "x", "%", &"A".repeat(10_000)] {
            assert_eq!(logins.answer(junk, Some(&begun.browser), 101), Err(Mismatch::State));
        }
    }

    #[test]
    fn there_are_only_so_many() {
        let mut logins = Logins::default();
        let mut n = 0_u64;
        let mut random = || {
            n += 1;
            *blake3::hash(&n.to_le_bytes()).as_bytes()
        };
        let first = logins.begin("/", 0, &mut random);
        assert!(!logins.is_full());
        for _ in 0..LOGINS_MAX {
            logins.begin("/", 1, &mut random);
        }
        assert_eq!(logins.0.len(), LOGINS_MAX);
        assert!(logins.is_full());
        let answered = logins.answer(&first.state.text(), Some(&first.browser), 1);
        assert_eq!(answered, Err(Mismatch::State), "the oldest went");
    }

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge_of(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn another_issuer_is_noticed() {
        assert_eq!(check_issuer(Some("https://a"), "https://a", true), Ok(()));
        assert_eq!(check_issuer(None, "https://a", false), Ok(()));
        assert_eq!(check_issuer(None, "https://a", true), Err(Mismatch::Issuer));
        assert_eq!(check_issuer(Some("https://b"), "https://a", false), Err(Mismatch::Issuer));
    }

    #[test]
    fn nobody_is_sent_elsewhere() {
        for good in ["/", "/console/", "/console/?a=1&b=//x#y"] {
            assert!(is_own_path(good), "{good}");
        }
        let long = format!("/{}", "x".repeat(RETURN_BYTES_MAX));
        for bad in [
            "",
            "console",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/a b",
            "/\u{e9}",
            "/a\r\nset-cookie: x=y",
            &long,
        ] {
            assert!(!is_own_path(bad), "{bad:?}");
        }
    }
}
