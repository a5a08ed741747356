//! Counts what proofs of identity come to, for all net cores.

use super::security::AuthCounts;
use no_auth::Denied;
use no_auth::error::DENIED;
use std::sync::atomic::{AtomicU64, Ordering};

/// Checks of all net cores together.
#[derive(Debug, Default)]
pub struct AuthTally {
    accepted: AtomicU64,
    denied: [AtomicU64; DENIED.len()],
}

impl AuthTally {
    /// Counts what one request's proof came to.
    pub fn count(&self, proof: Result<(), Denied>) {
        match proof {
            Ok(()) => add(&self.accepted),
            Err(denied) => {
                let place = DENIED.iter().position(|known| *known == denied);
                add(&self.denied[place.expect("all reasons are in the list")]);
            }
        }
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

    #[test]
    fn outcomes_are_counted_by_reason() {
        let tally = AuthTally::default();
        tally.count(Ok(()));
        for denied in [Denied::Expired, Denied::Missing, Denied::IssuerUnavailable] {
            tally.count(Err(denied));
        }
        let counts = tally.counts();
        assert_eq!(counts.accepted, 1);
        let of = |reason| counts.denied[reason];
        assert_eq!([of("expired"), of("missing"), of("issuer_unavailable")], [1; 3]);
        assert_eq!((of("issuer"), counts.denied.len()), (0, DENIED.len()));
    }
}
