//! The runbook's k6 profiles, run by this driver: the same stages, the same thresholds.
//!
//! `basic-load-test.js` and `stress-test.js` are the same for those who have k6; a test compares
//! them with the constants here. As in k6 a refusal is a failure: these loads are to be taken.

use crate::error::Result;
use crate::plan::{Pace, Plan, Target, Tasks};
use crate::report::Report;
use crate::run::{Observer, run_observed};
use crate::schedule::Stage;
use serde::{Deserialize, Serialize};

/// A load with limits that it must stay within.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// `basic` or `stress`.
    pub name: &'static str,
    /// Connections: as many as k6 has users.
    pub users: usize,
    /// The rate at the start, requests a second.
    pub from: f64,
    /// What follows.
    pub stages: &'static [Stage],
}

const fn stage(duration_s: f64, rate: f64) -> Stage {
    Stage { duration_s, rate }
}

/// 1,500 tasks a second, 100 users.
pub const BASIC: Profile = Profile {
    name: "basic",
    users: 100,
    from: 0.0,
    stages: &[stage(10.0, 1_500.0), stage(40.0, 1_500.0), stage(10.0, 0.0)],
};

/// Up to 5,000 tasks a second, 500 users.
pub const STRESS: Profile = Profile {
    name: "stress",
    users: 500,
    from: 0.0,
    stages: &[
        stage(20.0, 2_500.0),
        stage(30.0, 2_500.0),
        stage(20.0, 5_000.0),
        stage(30.0, 5_000.0),
        stage(20.0, 0.0),
    ],
};

/// Latencies by percentile that must not be reached, in ms.
pub const LATENCIES_MS: [(u32, f64); 4] = [(50, 100.0), (90, 300.0), (95, 500.0), (99, 1_000.0)];
/// Requests a second over the whole load that must be exceeded.
pub const RATE_MIN: f64 = 1_000.0;
/// Share of requests that fail or are refused, which must not be reached.
pub const ERROR_RATIO: f64 = 0.001;

/// One threshold, held against a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What is measured, with its unit.
    pub what: String,
    /// `<`, `>`, `≤` or `≥`: how the measured must stand to the limit.
    pub relation: char,
    /// The limit.
    pub limit: f64,
    /// The measured.
    pub measured: f64,
    /// Whether it is met.
    pub is_met: bool,
}

impl Verdict {
    /// Must not be above the limit.
    pub(crate) fn at_most(what: &str, limit: f64, measured: f64) -> Verdict {
        let is_met = measured <= limit;
        Verdict { what: what.to_owned(), relation: '≤', limit, measured, is_met }
    }

    /// Must not be below the limit.
    pub(crate) fn at_least(what: &str, limit: f64, measured: f64) -> Verdict {
        let is_met = limit <= measured;
        Verdict { what: what.to_owned(), relation: '≥', limit, measured, is_met }
    }
}

/// A profile's report. As JSON: the [`Report`] with `profile` and `thresholds` beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileReport {
    /// Its name.
    pub profile: String,
    /// All thresholds.
    pub thresholds: Vec<Verdict>,
    /// The load.
    #[serde(flatten)]
    pub report: Report,
}

impl ProfileReport {
    /// Whether every threshold is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.thresholds.iter().all(|verdict| verdict.is_met)
    }
}

impl Profile {
    /// Makes a plan for the same server this profile's load.
    #[must_use]
    pub fn plan(&self, plan: &Plan) -> Plan {
        Plan {
            pace: Pace::Open { from: self.from, stages: self.stages.to_vec() },
            target: Target::Submit(Tasks::default()),
            connections: self.users,
            ..plan.clone()
        }
    }

    /// Runs it on the plan's server.
    ///
    /// # Errors
    /// As [`crate::run`].
    pub fn run(&self, plan: &Plan, observer: &mut dyn Observer) -> Result<ProfileReport> {
        let report = run_observed(&self.plan(plan), observer)?;
        let thresholds = judge(&report);
        Ok(ProfileReport { profile: self.name.to_owned(), thresholds, report })
    }
}

/// Holds a report against all thresholds.
#[must_use]
pub fn judge(report: &Report) -> Vec<Verdict> {
    let latency = &report.latency.accepted;
    let below = |what: String, limit: f64, measured: f64| Verdict {
        what,
        relation: '<',
        limit,
        measured,
        is_met: measured < limit,
    };
    let mut verdicts: Vec<Verdict> = LATENCIES_MS
        .iter()
        .map(|(percentile, limit)| {
            let measured = match percentile {
                50 => latency.p50_ms,
                90 => latency.p90_ms,
                95 => latency.p95_ms,
                _ => latency.p99_ms,
            };
            below(format!("latency p{percentile}, ms"), *limit, measured)
        })
        .collect();
    let rate = report.requests.accepted_per_second;
    verdicts.push(Verdict {
        what: "accepted requests a second".to_owned(),
        relation: '>',
        limit: RATE_MIN,
        measured: rate,
        is_met: RATE_MIN < rate,
    });
    let requests = &report.requests;
    let failed = requests.errors + requests.refused();
    let ratio = failed as f64 / requests.scheduled.max(1) as f64;
    verdicts.push(below("failed or refused, share".to_owned(), ERROR_RATIO, ratio));
    verdicts
}

/// The thresholds as a table.
#[must_use]
pub fn render(verdicts: &[Verdict]) -> String {
    let mut out = format!("{:<34}{:>10}{:>14}\n", "threshold", "limit", "measured");
    for verdict in verdicts {
        let limit = format!("{} {}", verdict.relation, verdict.limit);
        let digits = if verdict.limit <= 1.0 { 5 } else { 2 };
        let is_met = if verdict.is_met { "ok" } else { "MISSED" };
        let what = &verdict.what;
        let measured = verdict.measured;
        out.push_str(&format!("{what:<34}{limit:>10}{measured:>14.digits$}  {is_met}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::report;

    #[test]
    fn what_is_within_is_met_and_what_reaches_a_limit_is_not() {
        let mut good = report();
        good.requests.accepted_per_second = 1_000.1;
        assert!(judge(&good).iter().all(|verdict| verdict.is_met), "{}", render(&judge(&good)));
        let missed = |change: fn(&mut Report)| {
            let mut report = good.clone();
            change(&mut report);
            let verdicts = judge(&report);
            verdicts.iter().filter(|verdict| !verdict.is_met).count()
        };
        assert_eq!(missed(|report| report.latency.accepted.p50_ms = 100.0), 1);
        assert_eq!(missed(|report| report.latency.accepted.p99_ms = 1_000.0), 1);
        assert_eq!(missed(|report| report.requests.accepted_per_second = 1_000.0), 1);
        assert_eq!(missed(|report| report.requests.refused_503 = 100), 1);
        assert_eq!(missed(|report| report.requests.errors = 100), 1);
    }

    #[test]
    fn the_profiles_can_meet_their_own_rate() {
        for profile in [BASIC, STRESS] {
            let plan = profile.plan(&Plan::default());
            plan.check().expect("a plan that can be run");
            let schedule = plan.pace.schedule().expect("open");
            let mean = schedule.count() as f64 / schedule.duration().as_secs_f64();
            assert!(RATE_MIN < mean, "{}: {mean}", profile.name);
        }
    }
}
