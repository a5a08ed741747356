//! The OIDC issuer, as one net core deals with it: where its endpoints are, which keys it signs
//! with, what it says of tokens that only it can read.
//!
//! [`Issuer`] is what all net cores share: the rules, the keys, the last word on how it went.
//! [`Provider`] is one net core's own: its connections. Net core 0 fetches keys in the background;
//! any may fetch them once more for a token of an unknown key, at most once in
//! [`UNKNOWN_KEY_PAUSE`] of all net cores together, and for an ID token that the issuer itself just
//! gave, at once. Whoever waits waits for the same fetch, and the
//! fetch goes on when they leave.
//!
//! An issuer that does not answer logs nobody out: keys that are known stay known. Endpoints are
//! those of its metadata (OpenID Connect Discovery 1.0), which must name the issuer exactly, and
//! redirects are not followed, so that nobody in between can move them.

mod fetch;
mod introspect;
mod issuer;
mod metadata;
mod refresh;

pub(crate) use fetch::is_code;
pub use issuer::{Issuer, IssuerConfig, SetupError};
pub use metadata::{Metadata, check_url};

use crate::out::OutConfig;
use crate::out::client::Client;
use issuer::Cause;
use no_auth::{Denied, IdClaims, Principal, Verifier};
use serde_json::{Map, Value};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The longest that one request to the issuer may take, its answer included.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Between two fetches for the sake of tokens with unknown keys.
pub const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);
/// After how many seconds a sender may try again while the issuer does not answer.
pub const RETRY_AFTER_S: u64 = 5;

/// Why the issuer gave no answer that can be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer, or with a failure of its own; later it may.
    #[error("{url}: {why}")]
    Unavailable {
        /// What was asked.
        url: String,
        /// What happened.
        why: String,
    },
    /// It refused the request; another try gives the same.
    #[error("{url}: refused with status {status}: {code}")]
    Refused {
        /// What was asked.
        url: String,
        /// Its status.
        status: u16,
        /// Its error code (RFC 6749, section 5.2), `unknown` when it gave none.
        code: String,
    },
    /// Its answer is not what the standard says.
    #[error("{url}: {why}")]
    Malformed {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        why: String,
    },
}

/// The issuer, for one net core. Not `Send`.
pub struct Provider {
    shared: Rc<Shared>,
}

/// What the tasks of a provider hold on to.
struct Shared {
    issuer: Arc<Issuer>,
    client: Client,
    verifier: Rc<Verifier>,
    asking: Cell<usize>,
}

impl Provider {
    /// The issuer as this net core deals with it. `verifier` is the one that checks its tokens.
    #[must_use]
    pub fn new(issuer: Arc<Issuer>, out: &OutConfig, verifier: Rc<Verifier>) -> Provider {
        let client = out.client_of(issuer.url());
        Provider { shared: Rc::new(Shared { issuer, client, verifier, asking: Cell::new(0) }) }
    }

    /// What the configuration says of it.
    #[must_use]
    pub fn config(&self) -> &IssuerConfig {
        self.shared.issuer.config()
    }

    /// Where the issuer's endpoints are: as last fetched, else fetched now.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, ProviderError> {
        self.shared.metadata().await
    }

    /// Sends a form with our client's authentication, and gives the JSON object of the answer.
    ///
    /// With a secret it goes into the `Authorization` header (`client_secret_basic`), without one
    /// `client_id` goes into the form. `url` must be one of [`Metadata`].
    ///
    /// # Errors
    /// [`ProviderError::Refused`] for an answer of 4xx, with the issuer's error code.
    pub async fn form(&self, url: &str, fields: &[(&str, &str)]) -> Result<Value, ProviderError> {
        self.shared.form(url, fields).await
    }

    /// What the issuer tells of who holds this access token (OpenID Connect Core 1.0, section 5.3).
    /// It is to be held against the ID token by [`no_auth::IssuerRules::complete`].
    ///
    /// # Errors
    /// [`ProviderError::Refused`] for an answer of 4xx, [`ProviderError::Malformed`] for one that
    /// is not plain JSON.
    pub async fn userinfo(
        &self,
        url: &str,
        access_token: &str,
    ) -> Result<Map<String, Value>, ProviderError> {
        self.shared.userinfo(url, access_token).await
    }

    /// Checks the ID token of a login that was begun with `nonce`; fetches the keys anew when it
    /// names an unknown one.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub async fn id_token(&self, token: &str, nonce: &str, now_s: u64) -> Result<IdClaims, Denied> {
        let checked = self.shared.issuer.check_id(token, nonce, now_s);
        match checked {
            Err(why) if why.asks_issuer() => {
                self.shared.learn_keys(Cause::NewKey).await;
                let checked = self.shared.issuer.check_id(token, nonce, now_s);
                checked.map_err(|why| self.shared.issuer.refine(why))
            }
            checked => checked,
        }
    }

    /// Who a session's ID token names, with what their roles allow.
    #[must_use]
    pub fn principal(&self, claims: &IdClaims) -> Principal {
        claims.principal(&self.shared.issuer.config().rules.roles)
    }

    /// What the issuer says of a token that the verifier refused for `why`, of which
    /// [`Denied::asks_issuer`] is true.
    ///
    /// # Errors
    /// Why it proves nothing after all.
    pub async fn prove(&self, bearer: &str, why: Denied, now_s: u64) -> Result<Principal, Denied> {
        if why == Denied::Opaque {
            return self.shared.introspected(bearer, now_s).await;
        }
        self.shared.learn_keys(Cause::UnknownKey).await;
        let checked = self.shared.verifier.verify(bearer, now_s);
        checked.map_err(|why| self.shared.issuer.refine(why))
    }

    /// Fetches metadata and keys, now and whenever they are due; never returns.
    ///
    /// To be run by one net core alone, in its `LocalSet`.
    pub async fn keep_fresh(&self) {
        self.shared.keep_fresh().await;
    }
}

#[cfg(test)]
mod tests;
