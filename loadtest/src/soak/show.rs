//! A long load for people: a table and a picture.

use super::report::{Sample, SoakReport};
use crate::format::{count, rate, short};
use crate::plan::Agent;
use crate::profile;
use crate::svg::{BLUE, GREEN, GREY, ORANGE, OverSeconds, over_seconds, page};
use crate::table::{LATENCY_HEAD, latency_row};
use crate::timeline::Second;
use std::fmt::Write;

/// The whole table.
#[must_use]
pub fn table(report: &SoakReport) -> String {
    let mut out = format!("{}\n{}\n\n", headline(report), report.machine);
    let requests = &report.requests;
    let _ = writeln!(
        out,
        "requests   {} sent, {} answered 2xx, {} refused, {} errors",
        count(requests.sent),
        count(requests.accepted),
        count(requests.refused()),
        count(requests.errors)
    );
    let mut line = |what: &str, [early, late]: [f64; 2], unit: &str| {
        let _ = writeln!(out, "{what:<11}{}{unit} early, {}{unit} late", short(early), short(late));
    };
    line("memory", report.resident_mib(), " MiB");
    line("open files", report.open_files(), "");
    line("p99", report.p99_ms(), " ms");
    let _ = writeln!(out, "\n{:<28}{LATENCY_HEAD}", "latency, ms");
    let _ = writeln!(out, "{:<28}{}", "over all of it", latency_row(&report.latency));
    let _ = write!(out, "\n{}", profile::render(&report.goals));
    out
}

fn headline(report: &SoakReport) -> String {
    let agent = match report.agent {
        Agent::Model { iterations } => format!("loops of {iterations} model calls"),
        other => format!("tasks of {}", other.name()),
    };
    let (seconds, offered) = (report.duration_s, rate(report.rate));
    let mut line = format!("{agent} for {seconds} s at {offered}/s");
    if let Some(peak) = report.peak_per_second {
        let _ = write!(line, ", half of the peak of {}/s", rate(peak));
    }
    let _ = write!(line, ", on {} connections", report.connections);
    line
}

/// The picture: memory, open files and latency over time.
#[must_use]
pub fn svg(report: &SoakReport) -> String {
    let of = |name, colour, read: fn(&Sample) -> f64| {
        let values = report.samples.iter().map(|sample| (sample.at_s, read(sample))).collect();
        OverSeconds { name, colour, values }
    };
    let timeline = report.timeline.iter();
    // The last second of the answers that were still owing is none of the load.
    let timeline = timeline.filter(|second| (second.second as f64) < report.duration_s);
    let latency = |name, colour, read: fn(&Second) -> f64| {
        let timeline = timeline.clone();
        let values = timeline.map(|second| (second.second as f64 + 0.5, read(second))).collect();
        OverSeconds { name, colour, values }
    };
    let latencies = [
        latency("p50", GREY, |second| second.p50_ms),
        latency("p99", ORANGE, |second| second.p99_ms),
    ];
    let memory = [of("resident memory", BLUE, |sample| sample.resident_mib)];
    let files = [of("open files", GREEN, |sample| sample.open_files)];
    let met = report.goals.iter().filter(|goal| goal.is_met).count();
    let notes = [headline(report), format!("{met} of {} goals met", report.goals.len())];
    let charts = [
        over_seconds("Memory", "MiB", &memory),
        over_seconds("Open files", "files", &files),
        over_seconds("Latency, each second", "ms", &latencies),
    ];
    page("nO over a long load", &notes, &charts)
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::good;
    use super::*;
    use crate::svg::tests::assert_well_formed;

    #[test]
    fn table_and_picture_say_what_grew() {
        let mut report = good();
        assert!(!table(&report).contains("MISSED"), "{}", table(&report));
        report.samples.iter_mut().for_each(|sample| sample.resident_mib += sample.at_s);
        report.goals = report.judge();
        let table = table(&report);
        assert!(table.contains("MISSED") && table.contains("130 MiB early"), "{table}");
        let svg = svg(&report);
        assert_well_formed(&svg);
        assert!(svg.contains("3 of 4 goals"), "{svg}");
    }
}
