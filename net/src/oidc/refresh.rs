//! Fetching metadata and keys: when they are due, and when a token names an unknown key.

use super::fetch::fresh_for;
use super::issuer::{Cause, Turn};
use super::{FETCH_TIMEOUT, Metadata, ProviderError, Shared};
use no_auth::IssuerKeys;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Keys are fetched again after this time when the issuer names none.
pub(super) const FRESH: Duration = Duration::from_secs(3_600);
/// The shortest time that an issuer may name.
pub(super) const FRESH_MIN: Duration = Duration::from_secs(300);
/// The longest.
pub(super) const FRESH_MAX: Duration = Duration::from_secs(86_400);
/// The first wait after a failure; each further one is twice as long.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const RETRY_MAX: Duration = Duration::from_secs(60);

type Fetched = (Metadata, IssuerKeys);

impl Shared {
    /// See [`super::Provider::keep_fresh`].
    pub(super) async fn keep_fresh(&self) {
        let mut retry = RETRY_MIN;
        loop {
            let pause = match self.issuer.try_turn(Cause::Due, Instant::now()) {
                (Turn::Yours, _) => match self.refresh().await {
                    Some(fresh) => {
                        retry = RETRY_MIN;
                        fresh
                    }
                    None => {
                        let pause = retry;
                        retry = (retry * 2).min(RETRY_MAX);
                        pause
                    }
                },
                // Somebody fetches for a token's sake: see how it went soon.
                _ => RETRY_MIN,
            };
            sleep(pause).await;
        }
    }

    /// Fetches for the sake of a token with an unknown key, if it may; returns when that fetch, or
    /// the one under way, has ended.
    pub(super) async fn learn_keys(self: &Rc<Shared>, cause: Cause) {
        let (turn, mut end) = self.issuer.try_turn(cause, Instant::now());
        match turn {
            Turn::TooSoon => return,
            Turn::Theirs => {}
            Turn::Yours => {
                // Of its own, as others wait for it too when this request goes away.
                let shared = Rc::clone(self);
                tokio::task::spawn_local(async move { shared.refresh().await });
            }
        }
        let _ = timeout(FETCH_TIMEOUT, end.changed()).await;
    }

    /// See [`super::Provider::metadata`].
    pub(super) async fn metadata(self: &Rc<Shared>) -> Result<Arc<Metadata>, ProviderError> {
        if let Some(known) = self.issuer.metadata() {
            return Ok(known);
        }
        self.learn_keys(Cause::UnknownKey).await;
        let why = || self.issuer.fault().unwrap_or_default();
        self.issuer.metadata().ok_or_else(|| ProviderError::Unavailable {
            url: self.issuer.config().rules.issuer.clone(),
            why: why(),
        })
    }

    /// Fetches, in a turn that was given; gives how long what came is fresh.
    async fn refresh(&self) -> Option<Duration> {
        let issuer = &self.issuer.config().rules.issuer;
        let fetched = self.fetch_all().await;
        let (fetched, fresh) = match fetched {
            Ok((fetched, fresh)) => {
                let (keys, fresh_s) = (fetched.1.len(), fresh.as_secs());
                let so = "the issuer's keys are fetched";
                tracing::info!(target: "auth", %issuer, keys, fresh_s, so);
                (Ok(fetched), Some(fresh))
            }
            Err(error) => {
                self.warn(&error);
                (Err(error), None)
            }
        };
        self.issuer.end_turn(fetched);
        fresh
    }

    fn warn(&self, error: &ProviderError) {
        let issuer = &self.issuer.config().rules.issuer;
        let consequence = if self.issuer.keyring().get().is_some() {
            "tokens of the keys known so far are accepted, others are refused with 401"
        } else {
            "its tokens are refused with 401 until it answers; local tokens work"
        };
        tracing::warn!(
            target: "auth", %issuer, %error, consequence,
            "the issuer's keys cannot be fetched: see that oauth.issuer (NO_OAUTH_ISSUER) is right \
             and can be reached from here; it is tried again by itself"
        );
    }

    async fn fetch_all(&self) -> Result<(Fetched, Duration), ProviderError> {
        let issuer = &self.issuer.config().rules.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let malformed = |url: &str, why: String| {
            let url = url.to_owned();
            ProviderError::Malformed { url, why }
        };
        let document = self.get(&url).await?;
        let metadata =
            Metadata::parse(&document.body, issuer).map_err(|why| malformed(&url, why))?;
        let set = self.get(&metadata.jwks_uri).await?;
        let keys = IssuerKeys::parse(&set.body);
        let keys = keys.map_err(|why| malformed(&metadata.jwks_uri, why.to_string()))?;
        let fresh = fresh_for(&set.headers, FRESH_MIN, FRESH_MAX).unwrap_or(FRESH);
        Ok(((metadata, keys), fresh))
    }
}
