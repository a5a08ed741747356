//! Journaled steps: three a task by workers outside, as fast as they go; and one step late in a
//! long loop against one early.

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::figure::{Figure, Goal, short};
use crate::server::{Caller, Server};
use serde::Deserialize;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const AGENT: &str = "bench-steps";
/// Tasks of the row.
const TASKS: usize = 200_000;
const STEPS: usize = 3;
/// Workers, a connection each.
const WORKERS: usize = 6;
/// Tasks that a worker holds at once: as many as one call leases.
const LEASES: usize = 100;
/// Tasks submitted at once.
const BATCH: usize = 1_000;
/// Where the long loop's late step is.
const LATE: usize = 10_000;
const EARLY: usize = 10;
/// Steps that are timed at each end.
const TIMED: usize = 2_000;
/// Then an early loop is no longer early, and another takes its place.
const STILL_EARLY: usize = 100;
/// What the late step may take more, as a share; the noise of the run comes on top of it.
const MORE_MAX: f64 = 0.1;
/// Noise of more than this hides what is looked for.
const NOISE_MAX: f64 = 0.15;

#[derive(Deserialize)]
struct Leases {
    leases: Vec<Lease>,
}

#[derive(Deserialize)]
struct Lease {
    lease: String,
}

fn define(caller: &Caller) -> Result<()> {
    caller.put(&format!("/v1/agents/{AGENT}"), r#"{"kind":"worker"}"#).map(drop)
}

fn submit(caller: &Caller, count: usize) -> Result<()> {
    let task = format!(r#"{{"agent":"{AGENT}","input":{{}}}}"#);
    let body = format!(r#"{{"tasks":[{}]}}"#, vec![task; count].join(","));
    let answer = caller.post("/v1/tasks/batch", &body)?;
    taken(&answer, r#""status":202"#, count)
}

fn lease(caller: &Caller, count: usize) -> Result<Vec<String>> {
    let body =
        format!(r#"{{"agents":["{AGENT}"],"max_tasks":{count},"wait_ms":200,"lease_ms":600000}}"#);
    let answer: Leases = serde_json::from_str(&caller.post("/v1/worker/lease", &body)?)?;
    Ok(answer.leases.into_iter().map(|lease| lease.lease).collect())
}

/// Checks that so many rows of an answer are good.
fn taken(answer: &str, good: &str, count: usize) -> Result<()> {
    let found = answer.matches(good).count();
    if found == count {
        return Ok(());
    }
    let text = format!("{found} of {count} rows were taken: {answer:.200}");
    Err(Error::Failed(text))
}

/// An array of reports, one for each lease, with `rest` after the lease.
fn reports(leases: &[String], rest: &str) -> String {
    let mut body = String::with_capacity(leases.len() * (rest.len() + 80));
    for lease in leases {
        body.push(if body.is_empty() { '[' } else { ',' });
        let _ = write!(body, r#"{{"lease":"{lease}"{rest}}}"#);
    }
    body.push(']');
    body
}

/// Does its part, and lets nobody wait for tasks that will not come if that fails.
fn part(complete: &AtomicUsize, tasks: usize, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let done = body();
    if done.is_err() {
        complete.fetch_add(tasks, Ordering::Relaxed);
    }
    done
}

/// Plays a worker until so many tasks are complete: each step is durable before the next is told.
fn work(caller: &Caller, complete: &AtomicUsize, tasks: usize) -> Result<()> {
    // ORDER: only the count itself is shared.
    while complete.load(Ordering::Relaxed) < tasks {
        let leases = lease(caller, LEASES)?;
        if leases.is_empty() {
            continue;
        }
        for step in 1..=STEPS {
            let rest = format!(r#","name":"step-{step}","result":{{"n":{step}}}"#);
            let answer = caller.post("/v1/worker/step", &reports(&leases, &rest))?;
            taken(&answer, r#""status":200"#, leases.len())?;
        }
        let answer = caller.post("/v1/worker/complete", &reports(&leases, r#","output":null"#))?;
        taken(&answer, r#""status":200"#, leases.len())?;
        complete.fetch_add(leases.len(), Ordering::Relaxed);
    }
    Ok(())
}

pub(super) fn three_steps(bench: &mut Bench) -> Result<Vec<Figure>> {
    let server = bench.server()?;
    let caller = server.caller();
    define(&caller)?;
    let (tasks, complete) = (bench.count(TASKS), AtomicUsize::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS)
            .map(|_| {
                let caller = server.caller();
                let complete = &complete;
                scope.spawn(move || part(complete, tasks, || work(&caller, complete, tasks)))
            })
            .collect();
        let batches = || (0..tasks / BATCH).try_for_each(|_| submit(&caller, BATCH));
        part(&complete, tasks, batches)?;
        let gone = |_| Err(Error::Failed("a worker's thread is gone".to_owned()));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(gone))
    })?;
    let rate = tasks as f64 / start.elapsed().as_secs_f64();
    let what = "three journaled steps a task, tasks";
    let note = format!(
        "{} tasks from submission to success by {WORKERS} outside workers, each step of {LEASES} \
         tasks durable before the next",
        short(tasks as f64)
    );
    let figure = Figure::new("three_steps_per_second", what, rate, "/s");
    Ok(vec![figure.goal(Goal::at_least(19_000.0)).note(note)])
}

/// A task that a worker holds, at its nth step.
struct Long<'s> {
    caller: &'s Caller,
    lease: [String; 1],
    step: usize,
}

impl<'s> Long<'s> {
    fn lease(server: &Server, caller: &'s Caller) -> Result<Long<'s>> {
        submit(&server.caller(), 1)?;
        let leases = lease(caller, 1)?;
        let none = || Error::Failed("a task was submitted and none can be leased".to_owned());
        let lease = leases.into_iter().next().ok_or_else(none)?;
        Ok(Long { caller, lease: [lease], step: 0 })
    }

    /// Reports the next so many steps in one call; how long it took.
    fn steps(&mut self, count: usize) -> Result<Duration> {
        let mut body = String::from("[");
        for number in self.step + 1..=self.step + count {
            let rest = format!(r#","name":"step","result":{{"n":{number}}}"#);
            let report = reports(&self.lease, &rest);
            body.push_str(report.trim_matches(['[', ']']));
            body.push(',');
        }
        body.pop();
        body.push(']');
        let start = Instant::now();
        let answer = self.caller.post("/v1/worker/step", &body)?;
        let took = start.elapsed();
        taken(&answer, r#""status":200"#, count)?;
        self.step += count;
        Ok(took)
    }

    fn go_to(&mut self, step: usize) -> Result<()> {
        while self.step < step {
            self.steps((step - self.step).min(BATCH))?;
        }
        Ok(())
    }
}

/// The time that a quarter of them stay within: what the machine does beside moves it less than it
/// moves the median.
fn quarter_us(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 4].as_secs_f64() * 1e6
}

/// A task that a worker holds, at an early step.
fn early<'s>(server: &Server, caller: &'s Caller) -> Result<Long<'s>> {
    let mut early = Long::lease(server, caller)?;
    early.go_to(EARLY)?;
    Ok(early)
}

pub(super) fn long_loop(bench: &mut Bench) -> Result<Vec<Figure>> {
    let server = bench.server()?;
    let caller = server.caller();
    define(&caller)?;
    let mut late = Long::lease(&server, &caller)?;
    late.go_to(LATE)?;
    let (mut first, mut second) = (early(&server, &caller)?, early(&server, &caller)?);
    let mut times = [const { Vec::new() }; 3];
    let count = bench.count(TIMED);
    // By turns, so that what the machine does beside hits all of them. Two early ones: what
    // differs between those is noise.
    for number in 1..=count {
        times[0].push(first.steps(1)?);
        times[1].push(late.steps(1)?);
        times[2].push(second.steps(1)?);
        if number.is_multiple_of(STILL_EARLY) {
            (first, second) = (early(&server, &caller)?, early(&server, &caller)?);
        }
    }
    let [first_us, late_us, second_us] = times.map(|mut times| quarter_us(&mut times));
    let early_us = f64::midpoint(first_us, second_us);
    let noise = (first_us / second_us - 1.0).abs().min(NOISE_MAX);
    let figure = Figure::new("long_loop_ratio", "step 10,000 ÷ step 10", late_us / early_us, "×");
    let note = format!(
        "a worker's step over HTTP, journaled: {} µs and {} µs (first quartiles of {count}); \
         {:.0} % more allowed, and {:.1} % of noise between two early loops",
        short(late_us),
        short(early_us),
        100.0 * MORE_MAX,
        100.0 * noise
    );
    Ok(vec![figure.goal(Goal::at_most(1.0 + MORE_MAX + noise)).note(note)])
}
