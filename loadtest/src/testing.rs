//! A report for tests: a thousand requests that all went well.

use crate::outcome::{Outcome, Rule, Sent};
use crate::parse::Head;
use crate::plan::Plan;
use crate::report::{DriverReport, Latencies, Latency, Load, Report, Requests, TasksReport};

/// One.
pub(crate) fn report() -> Report {
    let mut outcome = Outcome::new(Rule::One, 1_000_000_000);
    outcome.sent(1_000, 1);
    let head = Head { status: 202, has_retry_after: false, closes: false };
    for i in 0..1_000 {
        let sent = Sent { number: i, intended_ns: i * 1_000_000, sent_ns: i * 1_000_000 };
        outcome.answer(head, b"", sent, sent.sent_ns + 2_000_000);
    }
    let latency = Latency::of(&outcome.accepted);
    let latency = Latencies {
        accepted: latency.clone(),
        accepted_from_send: latency,
        refused: Latency::default(),
        refused_from_send: Latency::default(),
    };
    let tasks = TasksReport {
        acknowledged: 1_000,
        rows_refused: 0,
        acknowledged_per_second: 1_000.0,
        ended: None,
        all_ended: false,
        ended_after_s: None,
        succeeded_per_second: None,
    };
    Report {
        load: Load::of(&Plan::default()),
        machine: "a test".to_owned(),
        requests: Requests::of(&outcome, 1_000, 1.0),
        tasks: Some(tasks),
        latency,
        server: None,
        driver: DriverReport { busy_ratio: 0.1, cpu_us_per_request: 5.0 },
        timeline: outcome.timeline.into_seconds(),
    }
}
