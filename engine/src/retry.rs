//! The wait before another attempt: exponential backoff with full jitter.
//!
//! M. Brooker, "Exponential Backoff and Jitter", 2015. Full, not equal: an outage fails every task
//! in one turn, and we want them spread out.

use crate::limits::TIMER_MS_MAX;
use crate::rng::Rng;
use serde::{Deserialize, Serialize};

/// How long to wait between attempts.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Bound of the wait before the second attempt, in ms.
    pub base_ms: u64,
    /// What that bound is multiplied by for each attempt after it; at least 1.
    pub factor: f64,
    /// The bound never exceeds this, in ms.
    pub cap_ms: u64,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { base_ms: 200, factor: 2.0, cap_ms: 60_000 }
    }
}

impl Retry {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// What to do about them.
    pub fn check(&self) -> Result<(), &'static str> {
        if !(self.factor.is_finite() && (1.0..=100.0).contains(&self.factor)) {
            return Err("factor must be between 1 and 100");
        }
        if TIMER_MS_MAX < self.cap_ms || self.cap_ms < self.base_ms {
            return Err("cap_ms must be at least base_ms and at most ten years");
        }
        Ok(())
    }

    /// The wait after `failures` failed attempts in a row, in ms: uniform in
    /// `0..=min(base * factor^(failures - 1), cap)`.
    ///
    /// `failures` is at least 1, as the first attempt never waits (asserted). Draws once.
    #[must_use]
    pub fn backoff_ms(&self, failures: u32, rng: &mut Rng) -> u64 {
        rng.up_to(self.bound_ms(failures))
    }

    /// The longest that [`Retry::backoff_ms`] gives.
    #[must_use]
    pub fn bound_ms(&self, failures: u32) -> u64 {
        assert!(0 < failures, "the first attempt never waits");
        let exponent = i32::try_from(failures - 1).unwrap_or(i32::MAX);
        let bound = self.base_ms as f64 * self.factor.powi(exponent);
        if bound < self.cap_ms as f64 { bound as u64 } else { self.cap_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failures: u32, expected: u64) {
        let retry = Retry { base_ms: 100, factor: 2.0, cap_ms: 1_000 };
        assert_eq!(retry.bound_ms(failures), expected);
        let mut rng = Rng::new(u64::from(failures));
        assert!((0..100).all(|_| retry.backoff_ms(failures, &mut rng) <= expected));
    }

    #[test]
    fn the_bound_grows_to_its_cap() {
        check(1, 100);
        check(2, 200);
        check(4, 800);
        check(5, 1_000);
        check(u32::MAX, 1_000);
    }
}
