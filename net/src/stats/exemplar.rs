//! Exemplars: for each bucket of a route's latency the last request whose sender traces it, so that
//! a slow bucket on a dashboard leads to a trace of what was slow.

use super::{LATENCY_BUCKETS, bucket_of};
use no_engine::time::Millis;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One traced request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exemplar {
    /// The trace's id as in `traceparent`; never 0.
    pub trace_id: u128,
    /// How long it took, in µs.
    pub took_us: u64,
    /// When it was answered.
    pub at: Millis,
}

/// The exemplars of a route by bucket.
pub type ByBucket = [Option<Exemplar>; LATENCY_BUCKETS];

/// One route's exemplars; without memory before the first traced request.
#[derive(Debug, Default)]
pub(super) struct Exemplars(Mutex<Option<Box<ByBucket>>>);

impl Exemplars {
    fn lock(&self) -> MutexGuard<'_, Option<Box<ByBucket>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a request in place of the one before in its bucket.
    pub(super) fn keep(&self, trace_id: u128, took: Duration, at: Millis) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut kept = self.lock();
        kept.get_or_insert_default()[bucket_of(took_us)] = Some(Exemplar { trace_id, took_us, at });
    }

    /// A copy.
    pub(super) fn read(&self) -> ByBucket {
        self.lock().as_deref().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_bucket_is_kept() {
        let kept = Exemplars::default();
        assert_eq!(kept.read(), ByBucket::default());
        kept.keep(1, Duration::from_micros(10), Millis(1));
        kept.keep(2, Duration::from_micros(20), Millis(2));
        kept.keep(3, Duration::from_secs(3_600), Millis(3));
        let read = kept.read();
        assert_eq!(read[0], Some(Exemplar { trace_id: 2, took_us: 20, at: Millis(2) }));
        assert_eq!(read[LATENCY_BUCKETS - 1].map(|exemplar| exemplar.trace_id), Some(3));
        assert_eq!(read.iter().flatten().count(), 2);
    }
}
