//! Past the peak: what the load driver's overload found, goal by goal.

use crate::bench::{Bench, CLIENTS};
use crate::error::Result;
use crate::figure::{Figure, Goal, short};
use crate::server::Server;
use no_loadtest::overload::{OverloadPlan, OverloadReport};
use no_loadtest::plan::{Agent, Tasks};
use no_loadtest::profile::Verdict;
use serde_json::json;
use std::time::Duration;

/// What is overloaded, and by how many.
struct Case {
    /// As in the figures' names.
    name: &'static str,
    /// As in the table.
    about: &'static str,
    agent: Agent,
    /// Clients that find the peak.
    clients: usize,
    /// Requests under way on each of [`CONNECTIONS`].
    pipeline: usize,
}

const CONNECTIONS: usize = 500;
/// Model calls of a loop: so many that 10 times its peak can be sent from the same two cores.
const ITERATIONS: u32 = 50;
/// Loops that may live at once: what comes on top is refused.
const LOOPS_MAX: usize = 500;

/// Long enough that loops which began together end apart.
const PHASE: Duration = Duration::from_secs(15);
/// Phases of less tell load from start and end no more.
const PHASE_MIN: Duration = Duration::from_secs(2);

/// Loops of model calls: the work is the loop, and what is past the bound is refused.
pub(super) fn loops(bench: &mut Bench) -> Result<Vec<Figure>> {
    let agent = Agent::Model { iterations: ITERATIONS };
    let config = json!({
        "engine": {"liveTasksMax": LOOPS_MAX},
        "performance": {"autoscaling": {"maxAgents": LOOPS_MAX}},
        "models": {agent.name(): agent.model()},
    });
    let server = Server::start(&bench.binary, &bench.place, &config)?;
    let (name, about) = ("loops", "loops at");
    // Fewer than may live, so that none is refused while the peak is looked for.
    let case = Case { name, about, agent, clients: LOOPS_MAX * 4 / 5, pipeline: 1 };
    case.measure(bench, &server)
}

/// `echo`: the work is the request.
pub(super) fn echo(bench: &mut Bench) -> Result<Vec<Figure>> {
    let server = bench.server()?;
    let (name, about) = ("overload", "overload");
    // One request on each connection would wait for its answer, and less would be offered.
    let case = Case { name, about, agent: Agent::Echo, clients: CLIENTS, pipeline: 16 };
    case.measure(bench, &server)
}

impl Case {
    fn measure(&self, bench: &Bench, server: &Server) -> Result<Vec<Figure>> {
        let tasks = Tasks { agent: self.agent, ..Tasks::default() };
        let plan = OverloadPlan {
            plan: bench.plan(server, tasks.clone()),
            tasks,
            peak_connections: self.clients,
            connections: CONNECTIONS,
            pipeline: self.pipeline,
            peak_duration: bench.scaled(PHASE).max(PHASE_MIN),
            phase_duration: bench.scaled(PHASE).max(PHASE_MIN),
            ..OverloadPlan::default()
        };
        let report = plan.run(&mut *bench.observer())?;
        let kept = worst_endpoints(&report.goals).into_iter();
        Ok(kept.map(|(verdict, note)| self.figure(&verdict, note, &report)).collect())
    }
}

/// The verdicts, with that of the slowest of each phase's endpoints for all of them, and its path
/// as a note.
fn worst_endpoints(goals: &[Verdict]) -> Vec<(Verdict, String)> {
    let mut kept: Vec<(Verdict, String)> = Vec::new();
    for goal in goals {
        let Some((phase, path)) = endpoint(&goal.what) else {
            kept.push((goal.clone(), String::new()));
            continue;
        };
        let what = format!("{phase}: slowest endpoint p99, ms");
        let found = kept.iter_mut().find(|(verdict, _)| verdict.what == what);
        let this = (Verdict { what, ..goal.clone() }, path.to_owned());
        match found {
            Some((verdict, _)) if goal.measured <= verdict.measured => {}
            Some(place) => *place = this,
            None => kept.push(this),
        }
    }
    kept
}

/// Phase and path of a verdict such as `2 ×: /health/live p99, ms`.
fn endpoint(what: &str) -> Option<(&str, &str)> {
    let (phase, rest) = what.split_once(": ")?;
    Some((phase, rest.strip_suffix(" p99, ms").filter(|path| path.starts_with('/'))?))
}

impl Case {
    /// A verdict says `2 ×: goodput, of the peak` or `2 ×: refusals p99, ms`.
    fn figure(&self, verdict: &Verdict, note: String, report: &OverloadReport) -> Figure {
        let (text, unit) = match verdict.what.rsplit_once(", ") {
            Some((text, unit @ ("ms" | "s"))) => (text, unit),
            _ => (&*verdict.what, ""),
        };
        let named = text.split(", ").next().unwrap_or(text);
        let is_word = |c: char| c.is_ascii_alphanumeric();
        let words: Vec<&str> =
            named.split(|c| !is_word(c)).filter(|word| !word.is_empty()).collect();
        let name = format!("{}_{}", self.name, words.join("_").to_lowercase());
        let goal = match verdict.relation {
            '≤' => Goal::at_most(verdict.limit),
            _ => Goal::at_least(verdict.limit),
        };
        let is_phase = |factor: f64| text.starts_with(&format!("{factor} ×"));
        let phase = report.phases.iter().find(|phase| is_phase(phase.factor));
        let of_goodput = phase.filter(|_| text.contains("goodput")).map(|phase| {
            let sent = phase.requests.sent_per_second / report.peak.requests_per_second;
            format!(
                "peak {}/s; {} × were really sent, {} requests under way, {} refused",
                short(report.peak.requests_per_second),
                short(sent),
                report.connections * report.pipeline,
                phase.requests.refused()
            )
        });
        let what = format!("{} {text}", self.about);
        Figure::new(&name, &what, verdict.measured, unit)
            .goal(goal)
            .note(of_goodput.unwrap_or(note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_endpoints_the_slowest_is_kept() {
        let goal = |what: &str, measured: f64| Verdict {
            what: what.to_owned(),
            relation: '≤',
            limit: 50.0,
            measured,
            is_met: true,
        };
        let goals = [
            goal("2 ×: refusals p99, ms", 9.0),
            goal("2 ×: /health/live p99, ms", 3.0),
            goal("2 ×: /metrics p99, ms", 7.0),
            goal("2 ×: /health/ready p99, ms", 4.0),
            goal("5 ×: /metrics p99, ms", 1.0),
            goal("5 ×: /metrics failures", 1.0),
        ];
        let kept = worst_endpoints(&goals);
        let kept: Vec<_> =
            kept.iter().map(|(goal, path)| (&*goal.what, goal.measured, &**path)).collect();
        let expected = [
            ("2 ×: refusals p99, ms", 9.0, ""),
            ("2 ×: slowest endpoint p99, ms", 7.0, "/metrics"),
            ("5 ×: slowest endpoint p99, ms", 1.0, "/metrics"),
            ("5 ×: /metrics failures", 1.0, ""),
        ];
        assert_eq!(kept, expected);
    }
}
