//! Nothing to do: what a started server costs that nobody asks.

use crate::bench::Bench;
use crate::error::Result;
use crate::figure::{Figure, Goal};
use std::time::{Duration, Instant};

/// How long it is left alone before: what start leaves behind is over by then.
const REST: Duration = Duration::from_secs(2);

pub(super) fn idle(bench: &mut Bench) -> Result<Vec<Figure>> {
    let server = bench.server()?;
    std::thread::sleep(REST);
    let (before, start) = (server.usage()?, Instant::now());
    std::thread::sleep(bench.scaled(Duration::from_secs(20)));
    let after = server.usage()?;
    let share = (after.cpu_s - before.cpu_s) / start.elapsed().as_secs_f64();
    let mib = after.resident_bytes as f64 / f64::from(1 << 20);
    Ok(vec![
        Figure::new("idle_cpu_percent", "idle, of a core", 100.0 * share, "%")
            .goal(Goal::at_most(1.0)),
        Figure::new("idle_mib", "idle, resident", mib, "MiB").goal(Goal::at_most(50.0)),
    ])
}
