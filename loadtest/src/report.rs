//! What a load showed, as data: this is the shape of `--json`. Times are milliseconds in `_ms`,
//! microseconds in `_us`, seconds in `_s`; rates are per second; shares in `_ratio` are 0 to 1.

use crate::metrics::{Ended, Layer};
use crate::outcome::Outcome;
use crate::plan::{Agent, Pace, Plan, Target};
use crate::schedule::Stage;
use crate::timeline::Second;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was asked for.
    pub load: Load,
    /// The machine's processor and how many cores of it may be used.
    pub machine: String,
    /// Requests and their answers.
    pub requests: Requests,
    /// Tasks; absent when none were submitted.
    pub tasks: Option<TasksReport>,
    /// Latencies.
    pub latency: Latencies,
    /// What the server says of itself; absent when it has no `/metrics`.
    pub server: Option<ServerReport>,
    /// The driver itself.
    pub driver: DriverReport,
    /// What each second saw, from the start of the measured load.
    pub timeline: Vec<Second>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// `open`: by a schedule. `closed`: as fast as answers come.
    pub mode: Mode,
    /// Where to.
    pub url: String,
    /// What: `POST /v1/tasks`, `POST /v1/tasks/batch` or `GET …`.
    pub request: String,
    /// Rate at the start of an open loop, requests a second.
    pub rate: Option<f64>,
    /// Stages of an open loop.
    pub stages: Vec<Stage>,
    /// How long, without warm-up.
    pub duration_s: f64,
    /// The warm-up before.
    pub warmup_s: f64,
    /// Connections.
    pub connections: usize,
    /// Requests under way on one connection, at most.
    pub pipeline: usize,
    /// The agent; absent for GET.
    pub agent: Option<Agent>,
    /// Tasks in a request.
    pub batch: usize,
    /// Waits for the task's end in the request, at most so long.
    pub wait_ms: Option<u64>,
    /// Fairness keys.
    pub fairness_keys: usize,
    /// Bytes of an input, when asked for.
    pub payload_bytes: usize,
    /// Whether each request has an idempotency key.
    pub idempotency: bool,
}

/// Which loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By a schedule.
    Open,
    /// As fast as answers come.
    Closed,
}

/// Requests and their answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    /// In the schedule; those sent, in a closed loop.
    pub scheduled: u64,
    /// Written to a socket.
    pub sent: u64,
    /// Never sent, as no connection was free for too long.
    pub unsent: u64,
    /// Sent while the load was on, in a second.
    pub sent_per_second: f64,
    /// Answered 2xx.
    pub accepted: u64,
    /// Answered 2xx while the load was on, in a second.
    pub accepted_per_second: f64,
    /// Answered 429.
    pub refused_429: u64,
    /// Answered 503.
    pub refused_503: u64,
    /// Of 429 and 503, those with `Retry-After`.
    pub refused_with_retry_after: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Without an answer, by why: `connect`, `closed`, `reset`, `timeout`, `malformed`.
    pub failures: BTreeMap<String, u64>,
    /// Answers other than 2xx, 429 and 503, failures and unsent, of all scheduled.
    pub errors: u64,
    /// `errors` as a share.
    pub error_ratio: f64,
}

/// Tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TasksReport {
    /// Answered 2xx, or with such a row of a batch.
    pub acknowledged: u64,
    /// Rows of batches that were refused.
    pub rows_refused: u64,
    /// Acknowledged while the load was on, in a second.
    pub acknowledged_per_second: f64,
    /// How those that ended did, from the server's counters; absent without them.
    pub ended: Option<Ended>,
    /// Whether all acknowledged tasks ended in time.
    pub all_ended: bool,
    /// From the first request to the end of the last task, or to when waiting for it was given up.
    pub ended_after_s: Option<f64>,
    /// Succeeded in a second, over `ended_after_s`.
    pub succeeded_per_second: Option<f64>,
}

/// All latencies. Those of 2xx also end with tasks when the load waits for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// 2xx from the intended send time.
    pub accepted: Latency,
    /// 2xx from the real send time: hides what the driver waited; for comparison.
    pub accepted_from_send: Latency,
    /// 429 and 503 from the intended send time.
    pub refused: Latency,
    /// 429 and 503 from the real send time.
    pub refused_from_send: Latency,
}

/// A distribution, in milliseconds; zeros when it is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names say it
pub struct Latency {
    /// Values in it.
    pub count: u64,
    pub min_ms: f64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p75_ms: f64,
    pub p90_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub p9999_ms: f64,
    pub max_ms: f64,
    /// Points for a plot.
    pub curve: Vec<Point>,
}

/// A point of a latency curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Share of the values that are not above, 0 to below 1.
    pub quantile: f64,
    /// The latency.
    pub ms: f64,
}

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerReport {
    /// Its CPU time from the first request to the end of the last task.
    pub cpu_s: Option<f64>,
    /// That for each task that ended.
    pub cpu_us_per_task: Option<f64>,
    /// What each layer cost, by sampled clocks; empty when it does not say.
    pub layers: Vec<Layer>,
}

/// The driver itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriverReport {
    /// How much of the time its thread computed; near 1 the driver was the limit.
    pub busy_ratio: f64,
    /// CPU time for each request sent.
    pub cpu_us_per_request: f64,
}

impl Latency {
    /// A histogram of nanoseconds, summed up.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        if histogram.is_empty() {
            return Latency::default();
        }
        let ms = |ns: u64| ns as f64 / 1e6;
        let quantile = |q: f64| ms(histogram.value_at_quantile(q));
        Latency {
            count: histogram.len(),
            min_ms: ms(histogram.min()),
            mean_ms: histogram.mean() / 1e6,
            p50_ms: quantile(0.5),
            p75_ms: quantile(0.75),
            p90_ms: quantile(0.9),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            p9999_ms: quantile(0.9999),
            max_ms: ms(histogram.max()),
            curve: curve(histogram),
        }
    }
}

/// Points evenly spaced on the axis log(1 / (1 − q)), as far as there are values to tell apart.
fn curve(histogram: &Histogram<u64>) -> Vec<Point> {
    const PER_DECADE: i32 = 12;
    let decades_max = (histogram.len() as f64).log10().min(6.0);
    let mut points = Vec::new();
    for i in 0.. {
        let decades = f64::from(i) / f64::from(PER_DECADE);
        if decades_max < decades {
            break;
        }
        let quantile = 1.0 - 10_f64.powf(-decades);
        let ms = histogram.value_at_quantile(quantile) as f64 / 1e6;
        points.push(Point { quantile, ms });
    }
    points
}

impl Load {
    /// What the plan asks for.
    #[must_use]
    pub fn of(plan: &Plan) -> Load {
        let (mode, rate, stages) = match &plan.pace {
            Pace::Open { from, stages } => (Mode::Open, Some(*from), stages.clone()),
            Pace::Max { .. } => (Mode::Closed, None, Vec::new()),
        };
        let request = match &plan.target {
            Target::Get(path) => format!("GET {path}"),
            Target::Submit(tasks) if 1 < tasks.batch => "POST /v1/tasks/batch".to_owned(),
            Target::Submit(_) => "POST /v1/tasks".to_owned(),
        };
        let tasks = plan.tasks();
        Load {
            mode,
            url: plan.url.clone(),
            request,
            rate,
            stages,
            duration_s: plan.pace.duration().as_secs_f64(),
            warmup_s: plan.warmup.as_secs_f64(),
            connections: plan.connections,
            pipeline: plan.pipeline,
            agent: tasks.map(|tasks| tasks.agent),
            batch: tasks.map_or(1, |tasks| tasks.batch),
            wait_ms: tasks.and_then(|tasks| tasks.wait).map(|wait| wait.as_millis() as u64),
            fairness_keys: tasks.map_or(0, |tasks| tasks.fairness_keys),
            payload_bytes: tasks.map_or(0, |tasks| tasks.payload_bytes),
            idempotency: tasks.is_some_and(|tasks| tasks.idempotency),
        }
    }
}

impl Requests {
    /// The counts of a load of so many requests in so many seconds.
    #[must_use]
    pub fn of(outcome: &Outcome, scheduled: u64, duration_s: f64) -> Requests {
        let accepted = outcome.answers(200..=299);
        let (refused_429, refused_503) = (outcome.answers(429..=429), outcome.answers(503..=503));
        let other = outcome.answers(100..=999) - accepted - refused_429 - refused_503;
        let failed: u64 = outcome.failures.values().sum();
        let errors = other + failed + outcome.unsent;
        let failures = outcome.failures.iter().map(|(kind, n)| (kind.name().to_owned(), *n));
        Requests {
            scheduled,
            sent: outcome.sent,
            unsent: outcome.unsent,
            sent_per_second: outcome.sent_in_time as f64 / duration_s,
            accepted,
            accepted_per_second: outcome.accepted_in_time as f64 / duration_s,
            refused_429,
            refused_503,
            refused_with_retry_after: outcome.retry_after,
            statuses: outcome.statuses.clone(),
            failures: failures.collect(),
            errors,
            error_ratio: if scheduled == 0 { 0.0 } else { errors as f64 / scheduled as f64 },
        }
    }

    /// Answers 429 and 503.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused_429 + self.refused_503
    }
}

/// The processor's name and how many of its cores this process may use.
#[must_use]
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores", name.map_or("unknown processor", str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Failure, Rule, Sent, histogram};
    use crate::parse::Head;

    #[test]
    fn percentiles_are_the_histograms_and_the_curve_rises() {
        let mut values = histogram();
        for ms in 1..=1_000_u64 {
            values.saturating_record(ms * 1_000_000);
        }
        let latency = Latency::of(&values);
        let close = |is: f64, should: f64| (is - should).abs() <= should / 500.0;
        assert_eq!(latency.count, 1_000);
        assert!(close(latency.p50_ms, 500.0) && close(latency.p99_ms, 990.0), "{latency:?}");
        assert!(close(latency.p9999_ms, 1_000.0) && close(latency.max_ms, 1_000.0));
        assert!(latency.curve.windows(2).all(|two| two[0].quantile < two[1].quantile));
        assert!(latency.curve.windows(2).all(|two| two[0].ms <= two[1].ms));
        // A thousand values tell three decades apart, no more.
        assert!((latency.curve[latency.curve.len() - 1].quantile - 0.999).abs() < 1e-9);
        assert_eq!(Latency::of(&histogram()), Latency::default());
    }

    #[test]
    fn errors_are_what_is_neither_taken_nor_refused() {
        let mut outcome = Outcome::new(Rule::One, 1_000_000_000);
        let sent = Sent::default();
        for status in [202, 200, 429, 503, 404, 500] {
            outcome.answer(Head { status, has_retry_after: false, closes: false }, b"", sent, 1);
        }
        outcome.sent(8, 1);
        outcome.failed(Failure::Reset, 2, 1);
        outcome.unsent = 2;
        let requests = Requests::of(&outcome, 10, 2.0);
        assert_eq!((requests.accepted, requests.refused(), requests.errors), (2, 2, 6));
        assert!((requests.error_ratio - 0.6).abs() < 1e-9);
        assert!((requests.sent_per_second - 4.0).abs() < 1e-9);
        assert_eq!(requests.failures.get("reset"), Some(&2));
    }

    #[test]
    fn a_report_survives_json() {
        let load = Load::of(&Plan::default());
        let text = serde_json::to_string(&load).expect("JSON");
        assert_eq!(serde_json::from_str::<Load>(&text).expect("a load"), load);
        assert!(text.contains(r#""mode":"closed""#), "{text}");
    }
}
