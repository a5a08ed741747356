//! Counts what token checks come to, on the way from a verifier to a net core.

use super::security::AuthCounts;
use no_auth::error::DENIED;
use no_auth::{Denied, Principal, Verifier};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Checks of all net cores together.
#[derive(Debug, Default)]
pub struct AuthTally {
    accepted: AtomicU64,
    denied: [AtomicU64; DENIED.len()],
}

impl AuthTally {
    /// The verifier as a net core takes it: a function of the bearer token and the time in s, whose
    /// outcomes are counted here.
    pub fn counted(
        self: &Arc<AuthTally>,
        verifier: Rc<Verifier>,
    ) -> impl Fn(&str, u64) -> Result<Principal, Denied> + use<> {
        let tally = Arc::clone(self);
        move |bearer, now_s| {
            let checked = verifier.verify(bearer, now_s);
            match &checked {
                Ok(_) => add(&tally.accepted),
                Err(denied) => tally.denied(*denied),
            }
            checked
        }
    }

    /// Counts a refusal that no verifier saw, such as a missing token.
    pub fn denied(&self, denied: Denied) {
        let place = DENIED.iter().position(|known| *known == denied);
        add(&self.denied[place.expect("all reasons are in the list")]);
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> AuthCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let denied = DENIED.iter().zip(&self.denied).map(|(why, n)| (why.reason(), load(n)));
        AuthCounts {
            accepted: load(&self.accepted),
            denied: denied.collect(),
            ..AuthCounts::default()
        }
    }
}

fn add(count: &AtomicU64) {
    // ORDER: a count that nothing else depends on.
    count.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use no_auth::{Grant, LocalKey, Role};

    #[test]
    fn outcomes_are_counted_by_reason() {
        let key = LocalKey::from_seed(&[3; 32]).expect("key");
        let token = key.create(&Grant::new(Role::Viewer), 1_000).expect("signed");
        let tally = Arc::new(AuthTally::default());
        let verify = tally.counted(Rc::new(Verifier::new(key.key_set())));
        assert!(verify(&token, 1_000).is_ok());
        assert_eq!(verify(&token, 9_999), Err(Denied::Expired));
        assert_eq!(verify("junk", 1_000), Err(Denied::Malformed));
        tally.denied(Denied::Missing);
        let counts = tally.counts();
        assert_eq!(counts.accepted, 1);
        let of = |reason| counts.denied[reason];
        assert_eq!([of("expired"), of("malformed"), of("missing"), of("issuer")], [1, 1, 1, 0]);
    }
}
