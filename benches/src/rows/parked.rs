//! A million tasks that sleep for an hour: what one of them keeps in memory, and how soon a server
//! that was killed with them is ready again.

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::figure::{Figure, Goal, short};
use crate::server::Server;
use std::time::{Duration, Instant};

/// Parked tasks: as many as one shard takes.
const TASKS: usize = 1_000_000;
const BATCH: usize = 1_000;
/// The input of each.
const INPUT: &str = r#"{"ms":3600000}"#;
/// After the last answer, until what was freed has been given back.
const REST: Duration = Duration::from_secs(3);

/// Fills a server with sleeping tasks.
fn park(server: &Server, count: usize) -> Result<()> {
    let task = format!(r#"{{"agent":"sleep","input":{INPUT}}}"#);
    let body = format!(r#"{{"tasks":[{}]}}"#, vec![task; BATCH].join(","));
    let caller = server.caller();
    for done in (0..count).step_by(BATCH) {
        let answer = caller.post("/v1/tasks/batch", &body)?;
        let accepted = answer.matches(r#""status":202"#).count();
        if accepted != BATCH {
            let text = format!("after {done} parked tasks {accepted} of {BATCH} were taken");
            return Err(Error::Failed(text));
        }
    }
    Ok(())
}

/// A server with so many parked tasks, and what its memory was before.
fn filled(bench: &Bench) -> Result<(Server, f64)> {
    let server = bench.server()?;
    std::thread::sleep(REST);
    let before = server.usage()?.resident_bytes as f64;
    park(&server, bench.count(TASKS))?;
    std::thread::sleep(REST);
    Ok((server, before))
}

pub(super) fn parked(bench: &mut Bench) -> Result<Vec<Figure>> {
    let start = Instant::now();
    let (server, before) = filled(bench)?;
    let rate = bench.count(TASKS) as f64 / (start.elapsed() - 2 * REST).as_secs_f64();
    let after = server.usage()?.resident_bytes as f64;
    bench.parked = Some(server);
    let count = bench.count(TASKS) as f64;
    let each = (after - before) / count - INPUT.len() as f64;
    let note = format!("{} tasks sleep for an hour, parked at {}/s", short(count), short(rate));
    let note_all = "resident bytes for each, without its payload";
    Ok(vec![
        Figure::new("parked_bytes", "a parked task's memory", each, "B")
            .goal(Goal::at_most(512.0))
            .note(note_all),
        Figure::new("parked_mib", "all of them, resident", after / f64::from(1 << 20), "MiB")
            .goal(Goal::at_most(1_024.0 * count / TASKS as f64))
            .note(note),
    ])
}

pub(super) fn restart(bench: &mut Bench) -> Result<Vec<Figure>> {
    let server = match bench.parked.take() {
        Some(server) => server,
        None => filled(bench)?.0,
    };
    let server = server.crash_and_start()?;
    let seconds = server.ready_after.as_secs_f64();
    let mib = server.usage()?.resident_bytes as f64 / f64::from(1 << 20);
    let count = bench.count(TASKS) as f64;
    let what = "start after kill -9 with live tasks, to ready";
    let note = format!("{} tasks; {} MiB resident then", short(count), short(mib));
    Ok(vec![Figure::new("restart_s", what, seconds, "s").goal(Goal::at_most(3.0)).note(note)])
}
