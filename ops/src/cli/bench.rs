//! `no bench`: what this machine can hold.

use super::Console;
use super::options::data_dir;
use crate::bench::{Measured, Times, measure, predict::Prediction, predict::predict};
use crate::error::{Error, Result};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of `no bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no bench
  no bench --data-dir /var/lib/no --seconds 30 --json

Measures on the data folder's file system and takes all cores meanwhile: not beside a node that
serves. The disk: 4 KiB written and synced, one after the other; 1 MiB likewise. The cores: the
share of each that a pinned thread gets. The engine alone. Then a nO of its own under load in a
folder that is removed. What it predicts is for clients on other machines, an upper bound, with the
reckoning.")]
pub(crate) struct Bench {
    /// How long to measure, in seconds, about
    #[arg(long, default_value_t = 8, value_name = "S", value_parser = seconds())]
    seconds: u64,
    /// Data folder, whose file system is measured [env: NO_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

fn seconds() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=600)
}

impl Bench {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let folder = folder_of(&data_dir(self.data_dir.as_deref()))?;
        let times = Times::of(Duration::from_secs(self.seconds));
        let measured = {
            let spinner = console.spinner("measuring");
            measure(&folder, &times, &mut |what| spinner.say(&format!("measuring {what}")))?
        };
        let prediction = predict(&measured);
        if self.json {
            let folder = folder.display().to_string();
            return console.print_json(&json!({
                "folder": folder, "measured": measured, "prediction": prediction,
            }));
        }
        show(console, &folder, &measured, &prediction)
    }
}

/// The data folder, or the nearest one above that is there.
fn folder_of(dir: &Path) -> Result<PathBuf> {
    let dir =
        std::path::absolute(dir).map_err(|source| Error::File { path: dir.to_owned(), source })?;
    let found = dir.ancestors().find(|folder| folder.is_dir());
    found.map(Path::to_owned).ok_or_else(|| Error::Usage(format!("{} is no folder", dir.display())))
}

fn show(
    console: &mut Console,
    folder: &Path,
    measured: &Measured,
    prediction: &Prediction,
) -> Result<()> {
    let Measured { disk, cores, engine_us, node } = measured;
    console.print(&format!(
        "disk    {}: write of 4 KiB and fdatasync p50 {} µs, p90 {} µs, p99 {} µs, longest {} µs; \
         {:.0} MB/s",
        folder.display(),
        disk.sync_p50_us,
        disk.sync_p90_us,
        disk.sync_p99_us,
        disk.sync_max_us,
        disk.write_mb_s
    ))?;
    let mhz = cores.mhz.map_or(String::new(), |mhz| format!(", {mhz:.0} MHz"));
    let limit = cores.limit.map_or(String::new(), |limit| format!(", {limit} CPUs allowed"));
    console.print(&format!("cores   {} of {}{mhz}{limit}", cores.cores.len(), cores.cpu))?;
    for core in &cores.cores {
        let (number, share, hash) = (core.number, core.share * 100.0, core.hash_mb_s);
        console.print(&format!(
            "        core {number}: {share:.0} % of it for a pinned thread, BLAKE3 {hash:.0} MB/s"
        ))?;
    }
    console.print(&format!("engine  {engine_us:.2} µs a task, alone"))?;
    console.print(&format!(
        "node    {:.0} durable submissions/s, p50 {:.1} ms, p99 {:.1} ms; {:.0} share a commit",
        node.tasks_per_second,
        node.answer_p50_us as f64 / 1e3,
        node.answer_p99_us as f64 / 1e3,
        node.tasks_per_commit
    ))?;
    let limited_by = prediction.limited_by.replace('_', " ");
    console.print(&format!(
        "\nabout {:.0} durable submissions/s with clients elsewhere, limited by {limited_by}",
        prediction.tasks_per_second
    ))?;
    prediction.arithmetic.iter().try_for_each(|line| console.print(&format!("  {line}")))
}
