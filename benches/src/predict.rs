//! What more cores would give: measures here what each layer costs, and lets `curve` predict.
//!
//! What a task costs by itself is taken from a load in batches, where a turn and a commit are
//! shared by thousands; what a turn and a commit cost whatever is in them is what a load of single
//! submissions costs beyond that.

use crate::bench::Bench;
use crate::curve::{Costs, curve, table};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::server::Caller;
use no_loadtest::Plan;
use no_loadtest::metrics::Metrics;
use no_loadtest::plan::Tasks;
use std::path::Path;
use std::time::Duration;

/// Cores that are predicted for.
const CORES: [usize; 6] = [2, 4, 8, 16, 32, 64];
/// Virtual time that is measured.
const MEASURED_US: u64 = 200_000;
/// Clients for each core.
const REQUESTS_PER_CORE: usize = 128;
/// What waking a sleeping thread costs the side that wakes, in µs: EVIDENCE section 2.
const WAKE_US: f64 = 10.0;
/// A journal's small frame, and a large one, in bytes.
const FRAMES: (usize, usize) = (4 << 10, 1 << 20);

/// Costs of one load, in µs a task, and how much of it a turn and a commit carried.
struct Load {
    metrics: (Metrics, Metrics),
    tasks: f64,
}

impl Load {
    fn run(bench: &Bench, caller: &Caller, plan: &Plan) -> Result<Load> {
        let before = caller.metrics()?;
        let report = bench.run(plan)?;
        let ended = report.tasks.and_then(|tasks| tasks.ended).map_or(0, |ended| ended.succeeded);
        let load = Load { metrics: (before, caller.metrics()?), tasks: ended as f64 };
        if ended == 0 { Err(Error::Failed("no task ended".to_owned())) } else { Ok(load) }
    }

    fn layer(&self, name: &str) -> f64 {
        let layers = self.metrics.1.layers(&self.metrics.0);
        layers.iter().find(|layer| layer.layer == name).map_or(0.0, |layer| layer.mean_us)
    }

    /// Tasks that one of what `family` counts carried, those of the warm-up included.
    fn tasks_in_each(&self, family: &str) -> f64 {
        let grown = |name: &str| self.metrics.1.sum(name) - self.metrics.0.sum(name);
        let all = grown("no_task_cost_seconds_count{layer=\"net\"}").max(self.tasks);
        all / grown(family).max(1.0)
    }
}

/// Measures the costs, predicts, and writes both as JSON.
///
/// # Errors
/// When a server, the driver or the disk fails.
pub fn predict(bench: &Bench, json: &Path) -> Result<()> {
    let costs = costs(bench)?;
    let predicted = curve(&costs, &CORES, MEASURED_US);
    println!("costs in µs a task: {}", serde_json::to_string(&costs)?);
    print!("{}", table(&predicted));
    let text = serde_json::json!({"costs": costs, "predicted": predicted});
    std::fs::write(json, format!("{text:#}\n")).map_err(Error::system(json.display().to_string()))
}

fn costs(bench: &Bench) -> Result<Costs> {
    let server = bench.server()?;
    let caller = server.caller();
    let plan = |batch| bench.plan(&server, Tasks { batch, ..Tasks::default() });
    eprintln!("[1/3] single submissions");
    let single = Plan { connections: REQUESTS_PER_CORE * 2, ..plan(1) };
    let single = Load::run(bench, &caller, &single)?;
    eprintln!("[2/3] submissions by 100");
    let batched = Plan { connections: 16, ..plan(100) };
    let batched = Load::run(bench, &caller, &batched)?;
    eprintln!("[3/3] the disk");
    let mut disk = Disk::new(&bench.place).map_err(Error::system("the disk"))?;
    let mut sync_us = |len| -> Result<f64> {
        let times = disk.sample(len, bench.scaled(Duration::from_secs(5)));
        Ok(times.map_err(Error::system("the disk"))?.value_at_quantile(0.5) as f64)
    };
    let (small_us, large_us) = (sync_us(FRAMES.0)?, sync_us(FRAMES.1)?);
    let beyond = |layer: &str, family: &str| {
        (single.layer(layer) - batched.layer(layer)).max(0.0) * single.tasks_in_each(family)
    };
    Ok(Costs {
        net_us: single.layer("net"),
        auth_us: single.layer("auth"),
        ring_us: batched.layer("ring"),
        decide_us: batched.layer("decide"),
        act_us: batched.layer("act"),
        turn_us: beyond("decide", "no_loop_iteration_duration_seconds_count"),
        commit_us: batched.layer("commit"),
        commit_fixed_us: beyond("commit", "no_journal_commit_duration_seconds_count"),
        index_us: batched.layer("index"),
        render_us: single.layer("render"),
        wake_us: WAKE_US,
        busy_poll_us: 0.0,
        journal_bytes: journal_bytes(&batched),
        sync_us: small_us,
        sync_crowd_us: small_us / 4.0,
        disk_mb_s: (FRAMES.1 - FRAMES.0) as f64 / (large_us - small_us).max(1.0),
        requests_per_core: REQUESTS_PER_CORE,
    })
}

/// Bytes of a task in the journal: both of its images and its events.
fn journal_bytes(load: &Load) -> f64 {
    1.0 / load.tasks_in_each("no_journal_bytes_total").max(f64::MIN_POSITIVE)
}
