//! What each second of a load saw.

use crate::outcome::histogram;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Seconds that a timeline tells apart; what comes later counts into the last: a day.
const SECONDS_MAX: usize = 86_400;
const SECOND_NS: u64 = 1_000_000_000;

/// One second. Answers count where they arrive, requests where they leave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Its number, from 0.
    pub second: usize,
    /// Requests written.
    pub sent: u64,
    /// Answers 2xx.
    pub accepted: u64,
    /// Answers 429 and 503.
    pub refused: u64,
    /// Other answers, and requests without one.
    pub failed: u64,
    /// Tasks acknowledged.
    pub tasks: u64,
    /// Median latency of the 2xx, from the intended send time, in ms.
    pub p50_ms: f64,
    /// 99 of 100 of them were not slower, in ms.
    pub p99_ms: f64,
}

/// The seconds so far.
#[derive(Debug)]
pub struct Timeline {
    /// Whether answers acknowledge tasks.
    pub(crate) has_tasks: bool,
    seconds: Vec<Second>,
    /// Latencies of the last second only.
    latencies: Histogram<u64>,
    given: usize,
}

impl Timeline {
    pub(crate) fn new(has_tasks: bool) -> Timeline {
        Timeline { has_tasks, seconds: Vec::new(), latencies: histogram(), given: 0 }
    }

    /// The second of that time; times never go back by a whole second.
    pub(crate) fn at(&mut self, now_ns: u64) -> &mut Second {
        let place = usize::try_from(now_ns / SECOND_NS).unwrap_or(SECONDS_MAX);
        let place = place.min(SECONDS_MAX - 1);
        while self.seconds.len() <= place {
            self.close();
            self.seconds.push(Second { second: self.seconds.len(), ..Second::default() });
        }
        &mut self.seconds[place]
    }

    /// Adds a latency to the last second.
    pub(crate) fn latency(&mut self, latency_ns: u64) {
        self.latencies.saturating_record(latency_ns);
    }

    fn close(&mut self) {
        let Some(last) = self.seconds.last_mut() else { return };
        if !self.latencies.is_empty() {
            last.p50_ms = self.latencies.value_at_quantile(0.5) as f64 / 1e6;
            last.p99_ms = self.latencies.value_at_quantile(0.99) as f64 / 1e6;
            self.latencies.reset();
        }
    }

    /// The seconds that are over by then and were not given before.
    pub(crate) fn over(&mut self, now_ns: u64) -> &[Second] {
        self.at(now_ns);
        let from = self.given;
        self.given = self.seconds.len() - 1;
        &self.seconds[from..self.given]
    }

    /// All of them.
    #[must_use]
    pub fn into_seconds(mut self) -> Vec<Second> {
        self.close();
        self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_told_apart_and_given_once() {
        let mut timeline = Timeline::new(true);
        timeline.at(10).sent += 1;
        timeline.latency(2_000_000);
        assert!(timeline.over(999_999_999).is_empty());
        timeline.at(3 * SECOND_NS).accepted += 2;
        let over = timeline.over(3 * SECOND_NS + 5);
        assert_eq!(over.iter().map(|second| second.sent).collect::<Vec<_>>(), [1, 0, 0]);
        assert!((over[0].p50_ms - 2.0).abs() < 0.01, "{over:?}");
        assert!(timeline.over(3 * SECOND_NS + 6).is_empty());
        let seconds = timeline.into_seconds();
        assert_eq!(seconds.len(), 4);
        assert_eq!((seconds[3].second, seconds[3].accepted), (3, 2));
    }
}
