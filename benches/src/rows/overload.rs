//! Past the peak: what the load driver's overload found, goal by goal.

use crate::bench::Bench;
use crate::error::Result;
use crate::figure::{Figure, Goal, short};
use no_loadtest::overload::{OverloadPlan, OverloadReport};
use no_loadtest::plan::Tasks;
use no_loadtest::profile::Verdict;
use no_loadtest::progress::Progress;
use no_loadtest::{Observer, Silent};
use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

/// Phases of less tell load from start and end no more.
const PHASE_MIN: Duration = Duration::from_secs(2);

pub(super) fn overload(bench: &mut Bench) -> Result<Vec<Figure>> {
    let server = bench.server()?;
    let plan = OverloadPlan {
        plan: bench.plan(&server, Tasks::default()),
        peak_duration: bench.load().max(PHASE_MIN),
        phase_duration: bench.load().max(PHASE_MIN),
        ..OverloadPlan::default()
    };
    let mut observer: Box<dyn Observer> =
        if stderr().is_terminal() { Box::new(Progress::new()) } else { Box::new(Silent) };
    let report = plan.run(&mut *observer)?;
    Ok(report.goals.iter().map(|verdict| figure(verdict, &report)).collect())
}

/// A verdict says `2 ×: goodput, of the peak` or `2 ×: refusals p99, ms`.
fn figure(verdict: &Verdict, report: &OverloadReport) -> Figure {
    let (text, unit) = match verdict.what.rsplit_once(", ") {
        Some((text, unit @ ("ms" | "s"))) => (text, unit),
        _ => (&*verdict.what, ""),
    };
    let is_word = |c: char| c.is_ascii_alphanumeric();
    let words: Vec<&str> = text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).collect();
    let name = format!("overload_{}", words.join("_").to_lowercase());
    let goal = match verdict.relation {
        '≤' => Goal::at_most(verdict.limit),
        _ => Goal::at_least(verdict.limit),
    };
    let is_phase = |factor: f64| text.starts_with(&format!("{factor} ×"));
    let phase = report.phases.iter().find(|phase| is_phase(phase.factor));
    let note = phase.filter(|_| text.contains("goodput")).map(|phase| {
        let sent = phase.requests.sent_per_second / report.peak.requests_per_second;
        format!(
            "peak {}/s; {} × were really sent over {} connections",
            short(report.peak.requests_per_second),
            short(sent),
            report.connections
        )
    });
    let what = format!("overload {text}");
    Figure::new(&name, &what, verdict.measured, unit).goal(goal).note(note.unwrap_or_default())
}
