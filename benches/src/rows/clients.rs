//! Many at once: 500 clients offer 80 % of the peak by the clock, three times, as so close to the
//! peak one hiccup of a shared machine is most of a run's tail.

use crate::bench::{Bench, Round, median};
use crate::error::Result;
use crate::figure::{Figure, Goal, short};
use no_loadtest::Plan;
use no_loadtest::plan::{Pace, Tasks};

const CLIENTS: usize = 500;
const SHARE: f64 = 0.8;
const ROUNDS: usize = 3;

pub(super) fn clients(bench: &mut Bench) -> Result<Vec<Figure>> {
    let rate = |round: &Round| round.report.requests.accepted_per_second;
    let rate = SHARE * median(bench.singles()?.iter().map(rate));
    let server = bench.server()?;
    let plan = bench.plan(&server, Tasks::default());
    let pace = Pace::constant(rate, bench.load());
    let plan = Plan { pace, connections: CLIENTS, ..plan };
    let (mut p99s, mut failed, mut all) = (Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        let report = bench.run(&plan)?;
        p99s.push(report.latency.accepted.p99_ms);
        failed += report.requests.errors + report.requests.refused();
        all += report.requests.scheduled;
    }
    let turns: Vec<String> = p99s.iter().map(|p99| format!("{} ms", short(*p99))).collect();
    let turns = turns.join(", ");
    let note = format!("{}/s, 80 % of the peak, by the clock; in turn: {turns}", short(rate));
    Ok(vec![
        Figure::new("clients_p99_ms", "500 clients, p99", median(p99s), "ms")
            .goal(Goal::at_most(50.0))
            .note(note),
        Figure::new("clients_errors", "500 clients, errors and refusals", failed as f64, "")
            .goal(Goal::at_most(0.0))
            .note(format!("of {all} requests")),
    ])
}
