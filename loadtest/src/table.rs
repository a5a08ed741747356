//! A report as text for people.

use crate::format::{count, percent, rate, short};
use crate::plan::Agent;
use crate::report::{Latency, Load, Mode, Report, Requests, TasksReport};
use std::fmt::Write;

/// A driver that computes more than this of the time may be what limits the rate.
const BUSY_MAX: f64 = 0.9;

/// The whole table.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = headline(&report.load);
    out.push('\n');
    let _ = writeln!(out, "{}\n", report.machine);
    requests(&mut out, &report.requests);
    if let Some(tasks) = &report.tasks {
        tasks_line(&mut out, tasks);
    }
    out.push('\n');
    latencies(&mut out, report);
    server(&mut out, report);
    warnings(&mut out, report);
    out
}

/// What was asked for, in a line.
#[must_use]
pub fn headline(load: &Load) -> String {
    let pace = match (load.mode, load.rate, load.stages.as_slice()) {
        (Mode::Closed, ..) => "closed loop, as fast as possible".to_owned(),
        (Mode::Open, Some(from), [only]) if (from - only.rate).abs() < 1e-9 => {
            format!("open loop, {}/s", rate(from))
        }
        (Mode::Open, ..) => {
            let rates = load.stages.iter().map(|stage| format!("{}/s", rate(stage.rate)));
            format!("open loop, stages to {}", rates.collect::<Vec<_>>().join(", "))
        }
    };
    let mut line = format!("{pace}, {} s, {} connections", load.duration_s, load.connections);
    if 1 < load.pipeline {
        let _ = write!(line, " of {} requests", load.pipeline);
    }
    let _ = write!(line, ": {}", load.request);
    let agent = match load.agent {
        None => return line,
        Some(Agent::Echo) => "echo".to_owned(),
        Some(Agent::Sleep { sleep_ms }) => format!("sleep of {sleep_ms} ms"),
        Some(Agent::Worker { workers }) => format!("{workers} workers over HTTP"),
        Some(Agent::Model { iterations }) => format!("model of {iterations} calls"),
    };
    let _ = write!(line, ", {agent}");
    if 1 < load.batch {
        let _ = write!(line, ", {} a batch", load.batch);
    }
    if load.wait_ms.is_some() {
        line.push_str(", waiting for the end");
    }
    if 0 < load.fairness_keys {
        let _ = write!(line, ", {} fairness keys", count(load.fairness_keys as u64));
    }
    if 0 < load.payload_bytes {
        let _ = write!(line, ", inputs of {} bytes", count(load.payload_bytes as u64));
    }
    if load.idempotency {
        line.push_str(", idempotency keys");
    }
    line
}

fn requests(out: &mut String, requests: &Requests) {
    let _ = writeln!(
        out,
        "requests   {} sent ({}/s), {} answered 2xx ({}/s)",
        count(requests.sent),
        rate(requests.sent_per_second),
        count(requests.accepted),
        rate(requests.accepted_per_second),
    );
    let _ = writeln!(
        out,
        "refused    {} with 429, {} with 503, {} of them with Retry-After",
        count(requests.refused_429),
        count(requests.refused_503),
        count(requests.refused_with_retry_after),
    );
    let _ = write!(out, "errors     {}", count(requests.errors));
    if 0 < requests.errors {
        let is_other = |(status, _): &(&u16, &u64)| {
            !(200..300).contains(*status) && **status != 429 && **status != 503
        };
        let others = requests.statuses.iter().filter(is_other);
        let others = others.map(|(status, n)| format!("{} with {status}", count(*n)));
        let failures = requests.failures.iter().map(|(kind, n)| format!("{} {kind}", count(*n)));
        let unsent = format!("{} unsent", count(requests.unsent));
        let unsent = Some(unsent).filter(|_| 0 < requests.unsent);
        let parts: Vec<String> = others.chain(failures).chain(unsent).collect();
        let _ = write!(out, " ({}): {}", percent(requests.error_ratio), parts.join(", "));
    }
    out.push('\n');
}

fn tasks_line(out: &mut String, tasks: &TasksReport) {
    let _ = write!(
        out,
        "tasks      {} acknowledged ({}/s)",
        count(tasks.acknowledged),
        rate(tasks.acknowledged_per_second)
    );
    if let (Some(ended), Some(after_s)) = (tasks.ended, tasks.ended_after_s) {
        let succeeded = count(ended.succeeded);
        let per_second = rate(tasks.succeeded_per_second.unwrap_or_default());
        let _ = write!(out, ", {succeeded} succeeded ({per_second}/s over {after_s:.2} s)");
        if 0 < ended.failed + ended.cancelled {
            let (failed, cancelled) = (count(ended.failed), count(ended.cancelled));
            let _ = write!(out, ", {failed} failed, {cancelled} cancelled");
        }
    }
    if 0 < tasks.rows_refused {
        let _ = write!(out, ", {} refused in their batch", count(tasks.rows_refused));
    }
    out.push('\n');
}

/// A head for rows of latencies.
pub(crate) const LATENCY_HEAD: &str =
    "      p50      p90      p95      p99    p99.9   p99.99      max";

/// The columns of one distribution.
pub(crate) fn latency_row(latency: &Latency) -> String {
    let l = latency;
    let columns = [l.p50_ms, l.p90_ms, l.p95_ms, l.p99_ms, l.p999_ms, l.p9999_ms, l.max_ms];
    columns.iter().map(|ms| format!("{:>9}", short(*ms))).collect()
}

fn latencies(out: &mut String, report: &Report) {
    let from = match report.load.mode {
        Mode::Open => "2xx, from the intended send",
        Mode::Closed => "2xx, closed loop",
    };
    let latency = &report.latency;
    let rows = [
        (from, &latency.accepted),
        ("2xx, from the real send", &latency.accepted_from_send),
        ("429 and 503", &latency.refused),
    ];
    let _ = writeln!(out, "{:<28}{LATENCY_HEAD}", "latency, ms");
    for (i, (name, latency)) in rows.into_iter().enumerate() {
        // In a closed loop both are the same.
        let is_same = i == 1 && report.load.mode == Mode::Closed;
        if 0 < latency.count && !is_same {
            let _ = writeln!(out, "{name:<28}{}", latency_row(latency));
        }
    }
}

fn server(out: &mut String, report: &Report) {
    let Some(server) = &report.server else { return };
    out.push('\n');
    if let (Some(cpu_s), Some(us)) = (server.cpu_s, server.cpu_us_per_task) {
        let us = short(us);
        let _ = writeln!(out, "server CPU {us} µs a task ({cpu_s:.2} s in all)");
    }
    if server.layers.is_empty() {
        return;
    }
    let _ = writeln!(out, "\ncost per task by layer, sampled    mean µs      samples");
    for layer in &server.layers {
        let (mean, samples) = (short(layer.mean_us), count(layer.samples));
        let _ = writeln!(out, "  {:<30}{mean:>10}{samples:>13}", layer.layer);
    }
}

fn warnings(out: &mut String, report: &Report) {
    let driver = report.driver;
    let busy = percent(driver.busy_ratio);
    let us = short(driver.cpu_us_per_request);
    let _ = writeln!(out, "driver     busy {busy} of the time, {us} µs of CPU a request");
    let mut warn = |text: &str| {
        let _ = writeln!(out, "NOTE: {text}");
    };
    if BUSY_MAX < driver.busy_ratio {
        warn("the driver was nearly always busy: it may have been the limit, not the server");
    }
    if 0 < report.requests.unsent {
        warn("some requests were never sent: the offered rate was above what could be sent");
    }
    let Some(tasks) = &report.tasks else { return };
    match tasks.ended {
        None => warn("the server shows no counters of ended tasks; only answers were counted"),
        Some(_) if !tasks.all_ended => warn("not all acknowledged tasks ended in time"),
        Some(_) => {}
    }
}
