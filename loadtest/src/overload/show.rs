//! An overload for people: a table and a picture.

use super::report::{OverloadReport, Phase};
use crate::format::{count, percent, rate, short};
use crate::profile;
use crate::svg::{PALETTE, latency_chart, page, rates};
use crate::table::{LATENCY_HEAD, latency_row};
use crate::timeline::Second;
use std::fmt::Write;

/// The whole table.
#[must_use]
pub fn table(report: &OverloadReport) -> String {
    let mut out = format!("{}\n{}\n\n", headline(report), report.machine);
    let peak = &report.peak;
    let succeeded = peak.succeeded_per_second.map_or("–".to_owned(), rate);
    let acknowledged = rate(peak.acknowledged_per_second);
    let _ = writeln!(out, "peak: {acknowledged} tasks/s acknowledged, {succeeded}/s succeeded");
    let _ = writeln!(out, "\n{:<28}{LATENCY_HEAD}", "latency, ms");
    let _ = writeln!(out, "{:<28}{}", "unloaded, 100/s", latency_row(&report.unloaded));
    let _ = writeln!(out, "{:<28}{}", "at the peak, closed loop", latency_row(&peak.accepted));
    for phase in &report.phases {
        phase_table(&mut out, phase);
    }
    let _ = write!(out, "\n{}", profile::render(&report.goals));
    out
}

fn headline(report: &OverloadReport) -> String {
    let mut line = format!("overload on {} connections", count(report.connections as u64));
    if 1 < report.pipeline {
        let _ = write!(line, " of {} requests", report.pipeline);
    }
    if 1 < report.batch {
        let _ = write!(line, ", {} tasks a request", report.batch);
    }
    line
}

fn phase_table(out: &mut String, phase: &Phase) {
    let requests = &phase.requests;
    let _ = writeln!(
        out,
        "\n{} × the peak: {}/s in the schedule, {}/s really sent ({} of it)",
        phase.factor,
        rate(phase.offered_per_second),
        rate(requests.sent_per_second),
        percent(requests.sent_per_second / phase.offered_per_second.max(1.0)),
    );
    let succeeded = phase.succeeded_per_second.map_or("–".to_owned(), rate);
    let share = phase.succeeded_ratio.map_or("–".to_owned(), percent);
    let _ = writeln!(
        out,
        "  goodput       {}/s acknowledged ({} of the peak), {succeeded}/s succeeded ({share})",
        rate(phase.acknowledged_per_second),
        percent(phase.acknowledged_ratio),
    );
    let refused = requests.refused();
    let with = requests.refused_with_retry_after as f64 / refused.max(1) as f64;
    let _ = write!(out, "  refused       {} with 429 or 503", count(refused));
    if 0 < refused {
        let _ = write!(out, ", {} of them with Retry-After", percent(with));
    }
    let other = requests.errors - requests.unsent;
    let _ = writeln!(out, "; other errors {}", count(other));
    let mut rows = vec![
        ("accepted, from the send".to_owned(), &phase.accepted),
        ("refused, from the send".to_owned(), &phase.refused),
        ("accepted, from the schedule".to_owned(), &phase.accepted_from_intended),
        ("refused, from the schedule".to_owned(), &phase.refused_from_intended),
    ];
    for endpoint in &phase.endpoints {
        let failures = endpoint.failures;
        let failures = if failures == 0 { String::new() } else { format!(" ({failures} failed)") };
        rows.push((format!("GET {}{failures}", endpoint.path), &endpoint.latency));
    }
    for (name, latency) in rows {
        if 0 < latency.count {
            let _ = writeln!(out, "  {name:<28}{}", latency_row(latency));
        }
    }
    let limit = short(phase.recovery.limit_ms);
    let _ = match phase.recovery.after_s {
        Some(s) => writeln!(out, "  as before (p99 below {limit} ms) after {s:.2} s"),
        None => writeln!(out, "  not as before (p99 below {limit} ms) in 12 s"),
    };
    let busy = percent(phase.driver_busy_ratio);
    let _ = writeln!(out, "  driver busy {busy} of the time");
    if requests.sent_per_second < 0.9 * phase.offered_per_second {
        let _ = writeln!(out, "  NOTE: all connections waited for answers, so less could be sent");
    }
}

/// The picture: all phases and what followed each, over time; then the latencies.
#[must_use]
pub fn svg(report: &OverloadReport) -> String {
    let mut timeline: Vec<Second> = Vec::new();
    let mut marks = Vec::new();
    for phase in &report.phases {
        let mut part = |name: String, seconds: &[Second]| {
            marks.push((timeline.len() as f64, name));
            for second in seconds {
                let number = timeline.len();
                timeline.push(Second { second: number, ..second.clone() });
            }
        };
        part(format!("{} ×", phase.factor), &phase.timeline);
        part("after".to_owned(), &phase.recovery.timeline);
    }
    let names: Vec<(String, String)> = report
        .phases
        .iter()
        .map(|phase| {
            let factor = phase.factor;
            (format!("{factor} × accepted"), format!("{factor} × refused"))
        })
        .collect();
    let mut curves = vec![("unloaded", crate::svg::GREY, false, &report.unloaded)];
    for (i, (phase, (accepted, refused))) in report.phases.iter().zip(&names).enumerate() {
        let colour = PALETTE[i % PALETTE.len()];
        curves.push((accepted, colour, false, &phase.accepted));
        curves.push((refused, colour, true, &phase.refused));
    }
    let peak = rate(report.peak.acknowledged_per_second);
    let met = report.goals.iter().filter(|goal| goal.is_met).count();
    let goals = format!("{met} of {} goals met", report.goals.len());
    let notes = [
        format!("{}, peak {peak} tasks/s acknowledged · {goals}", headline(report)),
        format!("latency from the real send · {}", report.machine),
    ];
    let peak = ("the peak", report.peak.requests_per_second);
    let over_time = rates(&timeline, marks, Some(peak));
    page("nO past its peak", &notes, &[over_time, latency_chart(&curves)])
}

#[cfg(test)]
mod tests {
    use super::super::report::{goals, tests::good};
    use super::*;
    use crate::svg::tests::assert_well_formed;

    #[test]
    fn table_and_picture_show_every_phase() {
        let mut report = good();
        report.goals = goals(&report);
        let table = table(&report);
        for part in ["2 × the peak", "10 × the peak", "GET /x", "as before", "Retry-After"] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
        assert!(!table.contains("MISSED"), "{table}");
        let svg = svg(&report);
        assert_well_formed(&svg);
        assert!(svg.contains("10 × refused"), "{svg}");
    }
}
