//! Opaque tokens: what the issuer says of them (RFC 7662).

use super::{ProviderError, Shared};
use no_auth::{Denied, Principal};
use serde_json::Value;
use std::cell::Cell;
use std::rc::Rc;

/// How long the issuer's word on a token is good, in s: a token that it revokes ends so soon.
pub(super) const WORD_S_MAX: u64 = 60;
/// Questions under way, at most: who sends junk shall not bury the issuer under questions.
pub(super) const ASKING_MAX: usize = 64;
/// Longest token that is asked about, in bytes: one that is remembered.
const OPAQUE_BYTES_MAX: usize = no_auth::verifier::CACHE_TOKEN_BYTES_MAX;

/// A place among the questions under way.
struct Asking<'p>(&'p Cell<usize>);

impl Asking<'_> {
    fn begin(count: &Cell<usize>) -> Option<Asking<'_>> {
        let is_free = count.get() < ASKING_MAX;
        is_free.then(|| {
            count.set(count.get() + 1);
            Asking(count)
        })
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Shared {
    /// Who sent this opaque token; remembered for [`WORD_S_MAX`] when it is good.
    pub(super) async fn introspected(
        self: &Rc<Shared>,
        bearer: &str,
        now_s: u64,
    ) -> Result<Principal, Denied> {
        let config = self.issuer.config();
        if config.client_secret.is_none() || !is_token(bearer) {
            return Err(Denied::Malformed);
        }
        let metadata = self.metadata().await.map_err(|_| Denied::IssuerUnavailable)?;
        let Some(url) = &metadata.introspection_endpoint else { return Err(Denied::Malformed) };
        let _asking = Asking::begin(&self.asking).ok_or(Denied::IssuerUnavailable)?;
        let fields = [("token", bearer), ("token_type_hint", "access_token")];
        let answer = match self.form(url, &fields).await {
            Ok(Value::Object(answer)) => answer,
            Ok(_) => return Err(Denied::IssuerUnavailable),
            Err(error) => {
                log(&error);
                return Err(Denied::IssuerUnavailable);
            }
        };
        let issued = config.rules.introspected(&answer, now_s)?;
        self.verifier.remember_issued(bearer, &issued, now_s, WORD_S_MAX);
        Ok(issued.principal)
    }
}

fn log(error: &ProviderError) {
    let hint = match error {
        ProviderError::Refused { .. } => {
            "see that oauth.clientId and oauth.clientSecret are right and may introspect tokens"
        }
        _ => "opaque tokens are refused with 401 until it answers",
    };
    tracing::warn!(target: "auth", %error, hint, "the issuer did not say what a token is");
}

/// The characters of a bearer token (RFC 6750, section 2.1).
fn is_token(bearer: &str) -> bool {
    let text = bearer.trim_end_matches('=');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !text.is_empty() && bearer.len() <= OPAQUE_BYTES_MAX && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_token_is_asked_about() {
        assert!(is_token("abc-._~+/09=="));
        for bad in ["", "=", "a b", "a\"b", "ä", "a=b", &"x".repeat(OPAQUE_BYTES_MAX + 1)] {
            assert!(!is_token(bad), "{bad}");
        }
    }

    #[test]
    fn questions_are_bounded() {
        let count = Cell::new(ASKING_MAX - 1);
        let last = Asking::begin(&count).expect("a place");
        assert!(Asking::begin(&count).is_none());
        drop(last);
        assert!(Asking::begin(&count).is_some());
    }
}
