//! How much: single and batched submissions run to success, and what is left of the rate of a
//! responder that does nothing.

use crate::bench::{Bench, Round, median};
use crate::error::{Error, Result};
use crate::figure::{Figure, Goal, short};
use no_loadtest::plan::Tasks;
use no_loadtest::{Plan, Report};

/// Tasks in a batched request.
const BATCH: usize = 100;
/// Connections that send batches.
const BATCH_CONNECTIONS: usize = 16;

/// Tasks that succeeded in a second, from the first request to the end of the last task.
fn succeeded(report: &Report) -> Result<f64> {
    let tasks = report.tasks.as_ref();
    let rate = tasks.and_then(|tasks| tasks.succeeded_per_second);
    rate.ok_or_else(|| Error::Failed("the server does not count its tasks".to_owned()))
}

/// What one must know of a load to read its figure.
fn remarks(report: &Report) -> String {
    let mut parts = vec![format!("{} clients", report.load.connections)];
    if let Some(us) = report.server.as_ref().and_then(|server| server.cpu_us_per_task) {
        parts.push(format!("{} µs of CPU a task", short(us)));
    }
    let (errors, refused) = (report.requests.errors, report.requests.refused());
    if 0 < errors + refused {
        parts.push(format!("{errors} errors, {refused} refused"));
    }
    if let Some(tasks) = &report.tasks
        && !tasks.all_ended
    {
        parts.push("not all tasks ended in time".to_owned());
    }
    parts.join(", ")
}

fn all(shares: &[f64]) -> String {
    let texts: Vec<String> = shares.iter().map(|share| format!("{} %", short(*share))).collect();
    texts.join(", ")
}

/// The round whose rate is the middle one.
fn middle(rounds: &[Round]) -> Result<&Round> {
    let mut sorted: Vec<&Round> = rounds.iter().collect();
    sorted.sort_by(|a, b| {
        let rate = |round: &Round| round.report.requests.accepted_per_second;
        rate(a).total_cmp(&rate(b))
    });
    let none = || Error::Failed("there was no round".to_owned());
    sorted.get(sorted.len() / 2).copied().ok_or_else(none)
}

pub(super) fn single(bench: &mut Bench) -> Result<Vec<Figure>> {
    let round = middle(bench.singles()?)?;
    let (report, bare) = (&round.report, round.bare_per_second);
    let what = "single submissions, run to success";
    let figure = Figure::new("single_per_second", what, succeeded(report)?, "/s");
    let figure = figure.goal(Goal::at_least(40_000.0)).beside("bare hyper", bare);
    Ok(vec![figure.note(remarks(report))])
}

pub(super) fn batched(bench: &mut Bench) -> Result<Vec<Figure>> {
    let server = bench.server()?;
    let plan = bench.plan(&server, Tasks { batch: BATCH, ..Tasks::default() });
    let report = bench.run(&Plan { connections: BATCH_CONNECTIONS, ..plan })?;
    let what = "submissions by 100, run to success";
    let figure = Figure::new("batched_per_second", what, succeeded(&report)?, "/s");
    Ok(vec![figure.goal(Goal::at_least(150_000.0)).note(remarks(&report))])
}

pub(super) fn share(bench: &mut Bench) -> Result<Vec<Figure>> {
    let mut shares = Vec::new();
    for round in bench.singles()? {
        shares.push(100.0 * succeeded(&round.report)? / round.bare_per_second);
    }
    let what = "share of a bare hyper responder's rate";
    let note = format!("by turns: {}", all(&shares));
    let figure = Figure::new("share_of_hyper", what, median(shares), "%");
    Ok(vec![figure.goal(Goal::at_least(20.0)).note(note)])
}

pub(super) fn live(bench: &mut Bench) -> Result<Vec<Figure>> {
    let server = bench.server()?;
    let rounds = bench.beside_bare(&bench.get(server.url(), None))?;
    let rate = |round: &Round| round.report.requests.accepted_per_second;
    let shares: Vec<f64> =
        rounds.iter().map(|round| 100.0 * rate(round) / round.bare_per_second).collect();
    let rates: Vec<f64> = rounds.iter().map(rate).collect();
    let note = format!("{}/s; by turns: {}", short(median(rates)), all(&shares));
    let what = "GET /health/live, of bare hyper's rate";
    let figure = Figure::new("live_of_hyper", what, median(shares), "%");
    Ok(vec![figure.goal(Goal::at_least(80.0)).note(note)])
}
