//! Many at once: 500 clients offer 80 % of the peak by the clock.

use crate::bench::{Bench, Round, median};
use crate::error::Result;
use crate::figure::{Figure, Goal, short};
use no_loadtest::Plan;
use no_loadtest::plan::{Pace, Tasks};

const CLIENTS: usize = 500;
const SHARE: f64 = 0.8;

pub(super) fn clients(bench: &mut Bench) -> Result<Vec<Figure>> {
    let rate = |round: &Round| round.report.requests.accepted_per_second;
    let rate = SHARE * median(bench.singles()?.iter().map(rate));
    let server = bench.server()?;
    let plan = bench.plan(&server, Tasks::default());
    let pace = Pace::constant(rate, bench.load());
    let report = bench.run(&Plan { pace, connections: CLIENTS, ..plan })?;
    let failed = (report.requests.errors + report.requests.refused()) as f64;
    let note = format!("{}/s, 80 % of the peak, by the clock", short(rate));
    let p99 = report.latency.accepted.p99_ms;
    Ok(vec![
        Figure::new("clients_p99_ms", "500 clients, p99", p99, "ms")
            .goal(Goal::at_most(50.0))
            .note(note),
        Figure::new("clients_errors", "500 clients, errors and refusals", failed, "")
            .goal(Goal::at_most(0.0))
            .note(format!("of {} requests", report.requests.scheduled)),
    ])
}
