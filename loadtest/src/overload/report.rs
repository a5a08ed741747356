//! What an overload showed, as data: the shape of `loadtest overload --json`.

use super::RECOVERY_MAX;
use crate::prober::Probed;
use crate::profile::Verdict;
use crate::report::{Latency, Report, Requests};
use crate::timeline::Second;
use serde::{Deserialize, Serialize};

/// Refusals must come within this, by DESIGN §12, in ms.
const REFUSED_MS_MAX: f64 = 20.0;
/// 99 of 100 answers of an operator's endpoint must come within this, in ms.
const ENDPOINT_MS_MAX: f64 = 50.0;
/// Things must be as before within this, in seconds.
const RECOVERY_S_MAX: f64 = 5.0;

/// A whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverloadReport {
    /// The machine's processor and cores.
    pub machine: String,
    /// Connections that offered the load.
    pub connections: usize,
    /// Requests under way on each, at most.
    pub pipeline: usize,
    /// Tasks in a request.
    pub batch: usize,
    /// The most that it does when nobody pushes.
    pub peak: Peak,
    /// What a lone client sees: 100 submissions a second.
    pub unloaded: Latency,
    /// One for each multiple of the peak.
    pub phases: Vec<Phase>,
    /// DESIGN §12, held against the phases.
    pub goals: Vec<Verdict>,
}

/// The peak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// Requests accepted in a second.
    pub requests_per_second: f64,
    /// Tasks acknowledged in a second.
    pub acknowledged_per_second: f64,
    /// Tasks succeeded in a second of the second half; absent when the server counts none.
    pub succeeded_per_second: Option<f64>,
    /// Latency of what was accepted, in a closed loop.
    pub accepted: Latency,
}

/// A multiple of the peak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Of the peak.
    pub factor: f64,
    /// Requests a second that the schedule held. What was really sent is in `requests`.
    pub offered_per_second: f64,
    /// Requests and their answers.
    pub requests: Requests,
    /// Tasks acknowledged in a second.
    pub acknowledged_per_second: f64,
    /// That as a share of the peak's.
    pub acknowledged_ratio: f64,
    /// Tasks succeeded in a second of the second half.
    pub succeeded_per_second: Option<f64>,
    /// That as a share of the peak's.
    pub succeeded_ratio: Option<f64>,
    /// 2xx from the real send time: what the server made of a request that it was given.
    pub accepted: Latency,
    /// 2xx from the intended send time: with the wait for a free connection.
    pub accepted_from_intended: Latency,
    /// 429 and 503 from the real send time.
    pub refused: Latency,
    /// 429 and 503 from the intended send time.
    pub refused_from_intended: Latency,
    /// Operators' endpoints meanwhile.
    pub endpoints: Vec<Endpoint>,
    /// How it ended.
    pub recovery: Recovery,
    /// How much of the time the driver computed.
    pub driver_busy_ratio: f64,
    /// What each second saw.
    pub timeline: Vec<Second>,
}

/// An endpoint, asked ten times a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its path.
    pub path: String,
    /// From when it should have been asked.
    pub latency: Latency,
    /// Other answers than 200, and none within 5 s.
    pub failures: u64,
}

/// After the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// From the end of the load to the first second in which a lone client was served as before;
    /// absent when that did not come in 12 s.
    pub after_s: Option<f64>,
    /// As before: all accepted, and p99 below this, twice that without load.
    pub limit_ms: f64,
    /// What each second saw.
    pub timeline: Vec<Second>,
}

impl Endpoint {
    pub(super) fn of(probed: &Probed) -> Endpoint {
        Endpoint {
            path: probed.path.to_owned(),
            latency: Latency::of(&probed.latency),
            failures: probed.failures,
        }
    }
}

impl Peak {
    pub(super) fn of(report: &Report) -> Peak {
        let tasks = report.tasks.as_ref();
        Peak {
            requests_per_second: report.requests.accepted_per_second,
            acknowledged_per_second: tasks.map_or(0.0, |tasks| tasks.acknowledged_per_second),
            succeeded_per_second: tasks.and_then(|tasks| tasks.succeeded_per_second),
            accepted: report.latency.accepted.clone(),
        }
    }
}

/// The share of the peak that must still be done at that multiple of it.
fn goodput_min(factor: f64) -> f64 {
    if factor <= 2.0 {
        0.95
    } else if factor <= 5.0 {
        0.90
    } else {
        0.80
    }
}

/// DESIGN §12, held against a report.
#[must_use]
pub fn goals(report: &OverloadReport) -> Vec<Verdict> {
    let mut goals = Vec::new();
    let mut goal = |what: String, relation: char, limit: f64, measured: f64| {
        let judge = if relation == '≤' { Verdict::at_most } else { Verdict::at_least };
        goals.push(judge(&what, limit, measured));
    };
    for phase in &report.phases {
        let at = format!("{} ×", phase.factor);
        let goodput = phase.succeeded_ratio.unwrap_or(phase.acknowledged_ratio);
        goal(format!("{at}: goodput, of the peak"), '≥', goodput_min(phase.factor), goodput);
        let refused = phase.requests.refused();
        if 0 < refused {
            let with = phase.requests.refused_with_retry_after as f64 / refused as f64;
            goal(format!("{at}: refusals with Retry-After"), '≥', 1.0, with);
            goal(format!("{at}: refusals p99, ms"), '≤', REFUSED_MS_MAX, phase.refused.p99_ms);
        }
        for endpoint in &phase.endpoints {
            let what = format!("{at}: {} p99, ms", endpoint.path);
            goal(what, '≤', ENDPOINT_MS_MAX, endpoint.latency.p99_ms);
            if 0 < endpoint.failures {
                let what = format!("{at}: {} failures", endpoint.path);
                goal(what, '≤', 0.0, endpoint.failures as f64);
            }
        }
        // Given up is later than the longest that was waited.
        let gave_up_s = RECOVERY_MAX.as_secs_f64();
        let after_s = phase.recovery.after_s.unwrap_or(gave_up_s);
        goal(format!("{at}: as before again, s"), '≤', RECOVERY_S_MAX, after_s);
    }
    goals
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::report;

    /// A report in which all is well.
    pub(in crate::overload) fn good() -> OverloadReport {
        let report = report();
        let latency = report.latency.accepted.clone();
        let endpoint = Endpoint { path: "/x".into(), latency: latency.clone(), failures: 0 };
        let phase = |factor: f64| Phase {
            factor,
            offered_per_second: 2_000.0,
            requests: Requests {
                refused_429: 5,
                refused_with_retry_after: 5,
                ..report.requests.clone()
            },
            acknowledged_per_second: 960.0,
            acknowledged_ratio: 0.96,
            succeeded_per_second: Some(950.0),
            succeeded_ratio: Some(0.95),
            accepted: latency.clone(),
            accepted_from_intended: latency.clone(),
            refused: latency.clone(),
            refused_from_intended: latency.clone(),
            endpoints: vec![endpoint.clone()],
            recovery: Recovery {
                after_s: Some(1.5),
                limit_ms: 4.0,
                timeline: report.timeline.clone(),
            },
            driver_busy_ratio: 0.5,
            timeline: report.timeline.clone(),
        };
        OverloadReport {
            machine: "a test".into(),
            connections: 10,
            pipeline: 1,
            batch: 1,
            peak: Peak::of(&report),
            unloaded: latency.clone(),
            phases: vec![phase(2.0), phase(10.0)],
            goals: Vec::new(),
        }
    }

    #[test]
    fn goals_are_met_up_to_their_limit_and_missed_past_it() {
        let missed = |change: fn(&mut Phase)| {
            let mut report = good();
            change(&mut report.phases[0]);
            goals(&report).iter().filter(|goal| !goal.is_met).count()
        };
        assert_eq!(goals(&good()).len(), 10);
        assert_eq!(missed(|_| {}), 0);
        assert_eq!(missed(|phase| phase.succeeded_ratio = Some(0.94)), 1);
        assert_eq!(missed(|phase| phase.succeeded_ratio = None), 0);
        assert_eq!(missed(|phase| phase.requests.refused_with_retry_after = 4), 1);
        assert_eq!(missed(|phase| phase.refused.p99_ms = 20.1), 1);
        assert_eq!(missed(|phase| phase.endpoints[0].latency.p99_ms = 50.1), 1);
        assert_eq!(missed(|phase| phase.endpoints[0].failures = 1), 1);
        assert_eq!(missed(|phase| phase.recovery.after_s = Some(5.1)), 1);
        assert_eq!(missed(|phase| phase.recovery.after_s = None), 1);
    }
}
