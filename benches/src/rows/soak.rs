//! Half the peak for ten minutes: what the load driver's soak found.

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::figure::{Figure, Goal, short};
use crate::server::Server;
use no_loadtest::Plan;
use no_loadtest::plan::{Agent, Tasks};
use no_loadtest::soak::{SoakPlan, svg};
use serde_json::json;
use std::fs;
use std::time::Duration;

/// How long.
const DURATION: Duration = Duration::from_secs(600);
/// Model calls of a loop.
const ITERATIONS: u32 = 3;
const CONNECTIONS: usize = 256;
/// The picture, beside the page.
const PICTURE: &str = "soak.svg";

pub(super) fn soak(bench: &mut Bench) -> Result<Vec<Figure>> {
    let agent = Agent::Model { iterations: ITERATIONS };
    // A day's keys of this load would be a billion.
    let config = json!({"engine": {"keyKept": "30s"}, "models": {agent.name(): agent.model()}});
    let server = Server::start(&bench.binary, &bench.place, &config)?;
    let tasks = Tasks { agent, idempotency: true, ..Tasks::default() };
    let plan = Plan { connections: CONNECTIONS, ..bench.plan(&server, tasks.clone()) };
    let plan = SoakPlan { plan, tasks, rate: None, duration: bench.scaled(DURATION) };
    let report = plan.run(&mut *bench.observer())?;
    let picture = bench.pictures.join(PICTURE);
    fs::write(&picture, svg(&report)).map_err(Error::system(picture.display().to_string()))?;
    let names = ["soak_memory", "soak_files", "soak_p99", "soak_bad"];
    let [memory, files, p99] = [report.resident_mib(), report.open_files(), report.p99_ms()];
    let early_late =
        |[early, late]: [f64; 2], unit| format!("{}{unit}, {}{unit}", short(early), short(late));
    let notes = [
        early_late(memory, " MiB"),
        early_late(files, ""),
        early_late(p99, " ms"),
        format!(
            "{} loops of {ITERATIONS} model calls in {} s, {}/s",
            report.requests.accepted,
            report.duration_s,
            short(report.rate)
        ),
    ];
    let rows = report.goals.iter().zip(names).zip(notes);
    let figures = rows.map(|((goal, name), note)| {
        let what = format!("a long load: {}", goal.what);
        Figure::new(name, &what, goal.measured, "").goal(Goal::at_most(goal.limit)).note(note)
    });
    Ok(figures.collect())
}
