//! What a long load showed, as data: the shape of `loadtest soak --json`.

use crate::metrics::Metrics;
use crate::plan::Agent;
use crate::profile::Verdict;
use crate::report::{Latency, Requests};
use crate::timeline::Second;
use serde::{Deserialize, Serialize};

/// Memory at the end may be so many times what it was early.
const MEMORY_MAX: f64 = 1.1;
/// Open files may be so many more: a file that is being replaced, a connection that comes and goes.
const FILES_MAX: f64 = 4.0;
/// p99 at the end may be so many times what it was early: machines are shared.
const P99_MAX: f64 = 1.5;

/// A whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoakReport {
    /// The machine's processor and cores.
    pub machine: String,
    /// Requests a second at the peak; absent when the rate was given.
    pub peak_per_second: Option<f64>,
    /// Requests a second that were offered.
    pub rate: f64,
    /// For so long, in seconds.
    pub duration_s: f64,
    /// Connections that offered them.
    pub connections: usize,
    /// What was submitted.
    pub agent: Agent,
    /// Requests and their answers.
    pub requests: Requests,
    /// 2xx from the intended send time.
    pub latency: Latency,
    /// What each second saw.
    pub timeline: Vec<Second>,
    /// What the server said of itself each second.
    pub samples: Vec<Sample>,
    /// What must hold, held against the above.
    pub goals: Vec<Verdict>,
}

/// One look at the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the load began.
    pub at_s: f64,
    /// `process_resident_memory_bytes`, in MiB.
    pub resident_mib: f64,
    /// `process_open_fds`.
    pub open_files: f64,
}

impl Sample {
    /// `None` when the server does not say both.
    pub(super) fn of(metrics: &Metrics, at_s: f64) -> Option<Sample> {
        let resident = metrics.value("process_resident_memory_bytes")?;
        let open_files = metrics.value("process_open_fds")?;
        Some(Sample { at_s, resident_mib: resident / f64::from(1 << 20), open_files })
    }
}

impl SoakReport {
    /// Whether all goals are met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.goals.iter().all(|goal| goal.is_met)
    }

    /// Medians of a value in the second fifth of the time and in the last.
    fn early_and_late(&self, values: &[(f64, f64)]) -> [f64; 2] {
        let fifth = self.duration_s / 5.0;
        let median = |from: f64| {
            let is_in = |at: &f64| from <= *at && *at < from + fifth;
            let inside = values.iter().filter(|(at, _)| is_in(at)).map(|(_, value)| *value);
            let mut inside: Vec<f64> = inside.collect();
            inside.sort_by(f64::total_cmp);
            inside.get(inside.len() / 2).copied().unwrap_or(f64::NAN)
        };
        [median(fifth), median(4.0 * fifth)]
    }

    /// Resident memory early and late, in MiB.
    #[must_use]
    pub fn resident_mib(&self) -> [f64; 2] {
        let of = |sample: &Sample| (sample.at_s, sample.resident_mib);
        self.early_and_late(&self.samples.iter().map(of).collect::<Vec<_>>())
    }

    /// Open files early and late.
    #[must_use]
    pub fn open_files(&self) -> [f64; 2] {
        let of = |sample: &Sample| (sample.at_s, sample.open_files);
        self.early_and_late(&self.samples.iter().map(of).collect::<Vec<_>>())
    }

    /// The seconds' p99 early and late, in ms.
    #[must_use]
    pub fn p99_ms(&self) -> [f64; 2] {
        let of = |second: &Second| (second.second as f64, second.p99_ms);
        self.early_and_late(&self.timeline.iter().map(of).collect::<Vec<_>>())
    }

    /// What must hold. Without samples nothing does.
    pub(super) fn judge(&self) -> Vec<Verdict> {
        let ratio = |[early, late]: [f64; 2]| late / early;
        let [early, late] = self.open_files();
        let bad = self.requests.errors + self.requests.refused();
        vec![
            Verdict::at_most("memory, late ÷ early", MEMORY_MAX, ratio(self.resident_mib())),
            Verdict::at_most("open files, late − early", FILES_MAX, late - early),
            Verdict::at_most("p99, late ÷ early", P99_MAX, ratio(self.p99_ms())),
            Verdict::at_most("errors and refusals", 0.0, bad as f64),
        ]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::report;

    /// A report in which all is flat.
    pub(in crate::soak) fn good() -> SoakReport {
        let of_load = report();
        let second = |second| Second { second, p99_ms: 4.0, accepted: 9, ..Second::default() };
        let sample = |at| Sample { at_s: f64::from(at), resident_mib: 100.0, open_files: 40.0 };
        let mut report = SoakReport {
            machine: "a test".into(),
            peak_per_second: Some(2_000.0),
            rate: 1_000.0,
            duration_s: 100.0,
            connections: 8,
            agent: Agent::Echo,
            requests: of_load.requests,
            latency: of_load.latency.accepted,
            timeline: (0..100).map(second).collect(),
            samples: (0..100).map(sample).collect(),
            goals: Vec::new(),
        };
        report.goals = report.judge();
        report
    }

    #[test]
    fn what_grows_is_seen() {
        let missed = |change: fn(&mut SoakReport)| {
            let mut report = good();
            change(&mut report);
            report.judge().iter().filter(|goal| !goal.is_met).count()
        };
        assert!(good().is_met());
        let grow = |sample: &mut Sample| sample.resident_mib += sample.at_s;
        let open = |report: &mut SoakReport| {
            report.samples.iter_mut().for_each(|sample| sample.open_files = sample.at_s);
        };
        assert_eq!(missed(open), 1);
        let mut leaking = good();
        leaking.samples.iter_mut().for_each(grow);
        assert_eq!(leaking.judge().iter().filter(|goal| !goal.is_met).count(), 1);
        let slow = |report: &mut SoakReport| {
            report.timeline[80..].iter_mut().for_each(|second| second.p99_ms = 7.0);
        };
        assert_eq!(missed(slow), 1);
        assert_eq!(missed(|report| report.requests.errors = 1), 1);
        assert_eq!(missed(|report| report.samples.clear()), 2);
    }

    #[test]
    fn a_sample_needs_both_values() {
        let text = "process_resident_memory_bytes 10485760\nprocess_open_fds 12\n";
        let sample = Sample { at_s: 1.0, resident_mib: 10.0, open_files: 12.0 };
        assert_eq!(Sample::of(&Metrics::parse(text), 1.0), Some(sample));
        assert_eq!(Sample::of(&Metrics::parse("process_open_fds 12\n"), 1.0), None);
    }
}
