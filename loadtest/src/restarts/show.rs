//! Rolling restarts for people: a table and a picture.

use super::report::{RestartsReport, Spread};
use crate::format::{count, rate, short};
use crate::profile;
use crate::svg::{BLUE, latency_chart, page, rates};
use crate::table::{LATENCY_HEAD, latency_row};
use std::fmt::Write;

/// The whole table.
#[must_use]
pub fn table(report: &RestartsReport) -> String {
    let mut out = format!("{}\n{}\n\n", headline(report), report.machine);
    let spread =
        |of: Spread| format!("p50 {} ms, longest {} ms", short(of.p50_ms), short(of.max_ms));
    let _ = writeln!(out, "stop       {}", spread(report.stop));
    let _ = writeln!(out, "start      {}", spread(report.start));
    let _ = writeln!(
        out,
        "requests   {} in the schedule, {} acknowledged, {} sent again",
        count(report.requests.scheduled),
        count(report.acknowledged),
        count(report.sent_again)
    );
    let failures = report.requests.failures.iter();
    let failures: Vec<String> = failures.map(|(kind, n)| format!("{} {kind}", count(*n))).collect();
    let refused = count(report.requests.refused());
    let _ = writeln!(out, "meanwhile  {refused} refused; lost on the way: {}", listed(&failures));
    let _ = writeln!(out, "tasks      {} listed in the end", count(report.listed));
    let _ = writeln!(out, "\n{:<28}{LATENCY_HEAD}", "latency, ms");
    let _ = writeln!(out, "{:<28}{}", "with the restarts", latency_row(&report.latency));
    let _ = write!(out, "\n{}", profile::render(&report.goals));
    out
}

fn listed(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn headline(report: &RestartsReport) -> String {
    let (restarts, offered) = (report.restarts, rate(report.rate));
    let mut line = format!("{restarts} restarts, one each {} s, at {offered}/s", report.every_s);
    if let Some(peak) = report.peak_per_second {
        let _ = write!(line, ", half of the peak of {}/s", rate(peak));
    }
    let _ = write!(line, ", on {} connections", report.connections);
    line
}

/// The picture: what each second saw, and the latencies.
#[must_use]
pub fn svg(report: &RestartsReport) -> String {
    let met = report.goals.iter().filter(|goal| goal.is_met).count();
    let goals = format!("{met} of {} goals met", report.goals.len());
    let (lost, doubled) = (report.lost, report.doubled);
    let notes = [headline(report), format!("{lost} lost, {doubled} doubled · {goals}")];
    let over_time = rates(&report.timeline, Vec::new(), Some(("offered", report.rate)));
    let curves = [("2xx, from the intended send", BLUE, false, &report.latency)];
    page("nO while it is restarted", &notes, &[over_time, latency_chart(&curves)])
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::good;
    use super::*;
    use crate::svg::tests::assert_well_formed;

    #[test]
    fn table_and_picture_say_what_was_lost() {
        let mut report = good();
        assert!(!table(&report).contains("MISSED"), "{}", table(&report));
        report.lost = 7;
        report.goals = report.judge(3);
        let table = table(&report);
        assert!(table.contains("MISSED") && table.contains("4 sent again"), "{table}");
        let svg = svg(&report);
        assert_well_formed(&svg);
        assert!(svg.contains("7 lost") && svg.contains("4 of 5 goals"), "{svg}");
    }
}
