//! Time as values. The engine never reads a clock: each turn is handed a [`Now`].
//!
//! User schedules (`run_at`, `deadline`, `wait`) use the wall clock, which may jump; leases and
//! attempt time-outs use the monotonic one, which may not.

use serde::{Deserialize, Serialize};
use std::ops::Add;

/// Wall-clock milliseconds since 1970, UTC.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Millis(pub u64);

/// Milliseconds of the monotonic clock since some start; means nothing in another process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mono(pub u64);

/// Both clocks at the start of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// The wall clock.
    pub wall: Millis,
    /// The monotonic clock.
    pub mono: Mono,
}

impl Add<u64> for Millis {
    type Output = Millis;
    /// `ms` later, at most the end of time.
    fn add(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }
}

impl Add<u64> for Mono {
    type Output = Mono;
    /// `ms` later, at most the end of time.
    fn add(self, ms: u64) -> Mono {
        Mono(self.0.saturating_add(ms))
    }
}
