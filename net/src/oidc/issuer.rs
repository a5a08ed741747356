//! What all net cores share of the issuer. Any thread may use it; nothing here waits.

use super::metadata::{Metadata, check_url};
use super::{ProviderError, UNKNOWN_KEY_PAUSE};
use no_auth::{Denied, IdClaims, IssuerKeys, IssuerRules, Keyring, Secret};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

/// What the configuration says of the issuer.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// What a token of it must say.
    pub rules: Arc<IssuerRules>,
    /// Our client's secret there.
    pub client_secret: Option<Secret>,
    /// Where the issuer sends a browser back to after a login.
    pub redirect_uri: Option<String>,
}

/// Why there can be no such issuer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SetupError {
    /// The issuer's name is no URL that we may call.
    #[error("{0}")]
    Issuer(String),
}

/// The issuer, for all net cores.
#[derive(Debug)]
pub struct Issuer {
    config: IssuerConfig,
    url: Url,
    keyring: Arc<Keyring>,
    state: Mutex<State>,
    /// Counts the fetches that have ended; who waits for one looks here.
    fetched: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    metadata: Option<Arc<Metadata>>,
    /// Why the last fetch failed; `None` when it did not.
    fault: Option<ProviderError>,
    is_fetching: bool,
    /// When keys were last fetched for a token's sake.
    asked_at: Option<Instant>,
}

/// For whose sake keys are fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// They are due.
    Due,
    /// A token that somebody brought names one that we do not have.
    UnknownKey,
    /// The ID token that the issuer itself just gave us does. It took a code that was good, so
    /// nobody can have us ask often by it.
    NewKey,
}

/// Who may fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// The caller, and it must say how it went.
    Yours,
    /// Somebody is at it.
    Theirs,
    /// Nobody: it was done just now.
    TooSoon,
}

impl Issuer {
    /// An issuer of which nothing is known yet.
    ///
    /// # Errors
    /// [`SetupError::Issuer`] when its name is not an https URL, or one on loopback.
    pub fn new(config: IssuerConfig) -> Result<Issuer, SetupError> {
        let name = &config.rules.issuer;
        let url = check_url(name).map_err(SetupError::Issuer)?;
        if name.contains(['?', '#']) {
            return Err(SetupError::Issuer("must have no query and no fragment".to_owned()));
        }
        let keyring = Arc::default();
        let (state, fetched) = (Mutex::default(), watch::Sender::new(0));
        Ok(Issuer { config, url, keyring, state, fetched })
    }

    /// What the configuration says.
    #[must_use]
    pub fn config(&self) -> &IssuerConfig {
        &self.config
    }

    /// Its keys, for those who check tokens.
    #[must_use]
    pub fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring)
    }

    /// What is wrong with it, for a health check: its keys were never fetched, or the last time
    /// went wrong. `None` when nothing is.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let fault = self.lock().fault.as_ref().map(ToString::to_string);
        if self.keyring.get().is_some() {
            return fault.map(|fault| format!("{fault}; the keys known before are used"));
        }
        Some(fault.unwrap_or_else(|| "its keys are not fetched yet".to_owned()))
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn metadata(&self) -> Option<Arc<Metadata>> {
        self.lock().metadata.clone()
    }

    /// Asks for the turn to fetch, and gives what tells of the fetch's end.
    pub(super) fn try_turn(&self, cause: Cause, now: Instant) -> (Turn, watch::Receiver<u64>) {
        let mut state = self.lock();
        // Under the lock, so that no end is missed between the answer and the wait.
        let end = self.fetched.subscribe();
        if state.is_fetching {
            return (Turn::Theirs, end);
        }
        if cause == Cause::UnknownKey {
            let is_recent = |at: Instant| now.duration_since(at) < UNKNOWN_KEY_PAUSE;
            if state.asked_at.is_some_and(is_recent) {
                return (Turn::TooSoon, end);
            }
            state.asked_at = Some(now);
        }
        state.is_fetching = true;
        (Turn::Yours, end)
    }

    /// Ends a turn with what was fetched.
    pub(super) fn end_turn(&self, fetched: Result<(Metadata, IssuerKeys), ProviderError>) {
        let mut state = self.lock();
        state.is_fetching = false;
        match fetched {
            Ok((metadata, keys)) => {
                state.metadata = Some(Arc::new(metadata));
                state.fault = None;
                self.keyring.set(keys);
            }
            Err(fault) => state.fault = Some(fault),
        }
        self.fetched.send_modify(|count| *count += 1);
    }

    pub(super) fn check_id(
        &self,
        token: &str,
        nonce: &str,
        now_s: u64,
    ) -> Result<IdClaims, Denied> {
        let keys = self.keyring.get().ok_or(Denied::IssuerUnavailable)?;
        self.config.rules.id(token, nonce, now_s, &keys)
    }

    /// A key that is unknown while the issuer does not answer may be a good one.
    pub(super) fn refine(&self, why: Denied) -> Denied {
        let is_down = why == Denied::KeyUnknown && self.lock().fault.is_some();
        if is_down { Denied::IssuerUnavailable } else { why }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
