//! How soon: from the intended send time of a submission to its success, at a rate that leaves the
//! server idle most of the time. What is left then is the disk's syncs and the wake-ups between
//! threads.

use crate::bench::Bench;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::figure::{Figure, Goal};
use hdrhistogram::Histogram;
use no_loadtest::Plan;
use no_loadtest::plan::{Pace, Tasks};
use std::time::Duration;

const RATE: f64 = 1_000.0;
/// What a small commit writes, in bytes: a page.
const WRITE_BYTES: usize = 4_096;
/// A disk that syncs within this, in ms, is held to the fixed goals.
const FAST_SYNC_MS: f64 = 0.2;

pub(super) fn latency(bench: &mut Bench) -> Result<Vec<Figure>> {
    let of_disk = || Error::system(format!("the disk of {}", bench.place.display()));
    let server = bench.server()?;
    let mut disk = Disk::new(&bench.place).map_err(of_disk())?;
    let part = bench.scaled(Duration::from_secs(3));
    let mut syncs = disk.sample(WRITE_BYTES, part).map_err(of_disk())?;
    let wait = Some(Duration::from_secs(10));
    let plan = bench.plan(&server, Tasks { wait, ..Tasks::default() });
    let pace = Pace::constant(RATE, bench.load());
    let report = bench.run(&Plan { pace, ..plan })?;
    // Before and after the load: a shared disk has good and bad times.
    let after = disk.sample(WRITE_BYTES, part).map_err(of_disk())?;
    syncs.add(&after).expect("the same bounds");
    let (p50, p99) = (ms(&syncs, 0.5), ms(&syncs, 0.99));
    let is_fast = p50 <= FAST_SYNC_MS;
    let limit = |fixed: f64, sync: f64| if is_fast { fixed } else { 2.0 * sync + 1.0 };
    let accepted = &report.latency.accepted;
    let errors = report.requests.errors + report.requests.refused();
    let note = match (is_fast, errors) {
        (true, 0) => String::new(),
        (false, 0) => "goal: two syncs of this disk + 1 ms".to_owned(),
        (_, errors) => format!("{errors} of {} failed", report.requests.scheduled),
    };
    let figure = |name: &str, percentile: &str, value: f64, goal: f64, sync: f64| {
        let what = format!("submit → succeeded at 1,000/s, {percentile}");
        let beside = format!("write + fdatasync of 4 KiB, {percentile}");
        let figure = Figure::new(name, &what, value, "ms").goal(Goal::at_most(goal));
        figure.beside(&beside, sync).note(note.clone())
    };
    Ok(vec![
        figure("latency_p50_ms", "p50", accepted.p50_ms, limit(1.0, p50), p50),
        figure("latency_p99_ms", "p99", accepted.p99_ms, limit(5.0, p99), p99),
    ])
}

fn ms(times_us: &Histogram<u64>, quantile: f64) -> f64 {
    times_us.value_at_quantile(quantile) as f64 / 1_000.0
}
