//! What rolling restarts showed, as data: the shape of `loadtest restarts --json`.

use crate::profile::Verdict;
use crate::report::{Latency, Requests};
use crate::timeline::Second;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartsReport {
    /// The machine's processor and cores.
    pub machine: String,
    /// Requests a second at the peak; absent when the rate was given.
    pub peak_per_second: Option<f64>,
    /// Requests a second that were offered.
    pub rate: f64,
    /// Connections that offered them.
    pub connections: usize,
    /// From one restart to the next, in seconds.
    pub every_s: f64,
    /// Restarts made.
    pub restarts: usize,
    /// From SIGTERM to the end of the process.
    pub stop: Spread,
    /// From the start of the process until it listened.
    pub start: Spread,
    /// Requests that were sent again, as often as they were.
    pub sent_again: u64,
    /// Requests acknowledged in the end.
    pub acknowledged: u64,
    /// Tasks in the list at the end.
    pub listed: u64,
    /// Acknowledged and not listed.
    pub lost: u64,
    /// Listed and never acknowledged.
    pub doubled: u64,
    /// Listed in another state than `succeeded`.
    pub not_succeeded: u64,
    /// Requests and their answers, each as often as it was sent.
    pub requests: Requests,
    /// 2xx from the intended send time, also of requests that were sent again.
    pub latency: Latency,
    /// What each second saw.
    pub timeline: Vec<Second>,
    /// What must hold, held against the above.
    pub goals: Vec<Verdict>,
}

/// How long something took, several times; in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one.
    pub p50_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Spread {
    pub(super) fn of(times: impl Iterator<Item = Duration>) -> Spread {
        let mut ms: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let at = |place: usize| ms.get(place).copied().unwrap_or_default();
        Spread { p50_ms: at(ms.len() / 2), max_ms: at(ms.len().saturating_sub(1)) }
    }
}

impl RestartsReport {
    /// Whether all goals are met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.goals.iter().all(|goal| goal.is_met)
    }

    /// What must hold after so many restarts.
    pub(super) fn judge(&self, restarts: usize) -> Vec<Verdict> {
        let open = self.requests.scheduled.saturating_sub(self.acknowledged);
        vec![
            Verdict::at_least("restarts under load", restarts as f64, self.restarts as f64),
            Verdict::at_most("never acknowledged", 0.0, open as f64),
            Verdict::at_most("lost", 0.0, self.lost as f64),
            Verdict::at_most("doubled", 0.0, self.doubled as f64),
            Verdict::at_most("not succeeded", 0.0, self.not_succeeded as f64),
        ]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::report;

    /// A report in which all is well.
    pub(in crate::restarts) fn good() -> RestartsReport {
        let of_load = report();
        let mut report = RestartsReport {
            machine: "a test".into(),
            peak_per_second: Some(2_000.0),
            rate: 1_000.0,
            connections: 8,
            every_s: 2.0,
            restarts: 3,
            stop: Spread::default(),
            start: Spread::of([3, 1, 2].into_iter().map(Duration::from_millis)),
            sent_again: 4,
            acknowledged: of_load.requests.scheduled,
            listed: of_load.requests.scheduled,
            lost: 0,
            doubled: 0,
            not_succeeded: 0,
            requests: of_load.requests,
            latency: of_load.latency.accepted,
            timeline: of_load.timeline,
            goals: Vec::new(),
        };
        report.goals = report.judge(3);
        report
    }

    #[test]
    fn one_of_anything_is_too_many() {
        let missed = |change: fn(&mut RestartsReport)| {
            let mut report = good();
            change(&mut report);
            report.judge(3).iter().filter(|goal| !goal.is_met).count()
        };
        assert!(good().is_met());
        assert_eq!((good().start.p50_ms, good().start.max_ms), (2.0, 3.0));
        assert_eq!(missed(|report| report.restarts = 2), 1);
        assert_eq!(missed(|report| report.acknowledged -= 1), 1);
        assert_eq!(missed(|report| report.lost = 1), 1);
        assert_eq!(missed(|report| report.doubled = 1), 1);
        assert_eq!(missed(|report| report.not_succeeded = 1), 1);
    }
}
