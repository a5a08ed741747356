//! `no journal`: what stands in the journals of a data folder.

use super::Console;
use super::options::data_dir;
use super::output::bytes;
use crate::error::{Error, Result};
use clap::{Args, Subcommand};
use no_storage::sqlite::{FrameSeen, JournalSeen, inspect};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Commands of `no journal`.
#[derive(Debug, Subcommand)]
pub(crate) enum Journal {
    /// Show frames, mark, what the index lacks, and damage
    Inspect(Inspect),
}

/// Options of `no journal inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no journal inspect
  no journal inspect --data-dir /var/lib/no --shard 0 --json | jq '.shards[0].frames'

Reads only, also beside a running nO. APPLIED is the mark: the last frame that the index has; LAST
is the last in the journal; WAITING is what lies between, which a start takes over. A newest frame
that is not whole is no damage: it is being written, or a crash came before anybody was told of it.
Exit code 4 when a journal is damaged; where is said.")]
pub(crate) struct Inspect {
    /// One shard alone
    #[arg(long, value_name = "N")]
    shard: Option<u16>,
    /// Data folder [env: NO_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON, for machines, with every frame
    #[arg(long)]
    json: bool,
}

impl Journal {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let Journal::Inspect(inspect) = self;
        inspect.run(console)
    }
}

impl Inspect {
    fn run(self, console: &mut Console) -> Result<()> {
        let dir = data_dir(self.data_dir.as_deref());
        let seen = inspect(&dir).map_err(|error| Error::Store { why: error.to_string() })?;
        let all = seen.len();
        let is_asked = |shard: usize| self.shard.is_none_or(|asked| usize::from(asked) == shard);
        let shards: Vec<(usize, JournalSeen)> =
            seen.into_iter().enumerate().filter(|(shard, _)| is_asked(*shard)).collect();
        if shards.is_empty() {
            return Err(Error::Usage(format!("--shard must be below {all}")));
        }
        let is_damaged = shards.iter().any(|(_, seen)| seen.damage.is_some());
        if self.json {
            let status = if is_damaged { "damaged" } else { "sound" };
            let rows: Vec<Value> = shards.iter().map(|(shard, seen)| row(*shard, seen)).collect();
            console.print_json(&json!({ "status": status, "shards": rows }))?;
        } else {
            show(console, &shards)?;
        }
        if is_damaged { Err(Error::JournalDamaged) } else { Ok(()) }
    }
}

/// Frames that the index lacks.
fn waiting(seen: &JournalSeen) -> impl Iterator<Item = &FrameSeen> {
    seen.frames.iter().filter(|frame| seen.applied < frame.number)
}

fn row(shard: usize, seen: &JournalSeen) -> Value {
    let frame = |frame: &FrameSeen| {
        json!({
            "number": frame.number,
            "at": frame.at,
            "bytes": frame.bytes,
            "is_waiting": seen.applied < frame.number,
            "entries": frame.entries,
        })
    };
    json!({
        "shard": shard,
        "file": seen.path.display().to_string(),
        "file_bytes": seen.file_bytes,
        "file_bytes_max": seen.bytes_max,
        "applied": seen.applied,
        "last": seen.last,
        "waiting_frames": waiting(seen).count(),
        "waiting_bytes": waiting(seen).map(|frame| frame.bytes).sum::<u64>(),
        "is_clean": seen.is_clean,
        "torn_at": seen.torn_at,
        "damage": seen.damage,
        "frames": seen.frames.iter().map(frame).collect::<Vec<_>>(),
    })
}

fn show(console: &mut Console, shards: &[(usize, JournalSeen)]) -> Result<()> {
    let head = ["SHARD", "FILE", "FRAMES", "APPLIED", "LAST", "WAITING", "STATE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (shard, seen) in shards {
        let (count, size) =
            (waiting(seen).count(), waiting(seen).map(|frame| frame.bytes).sum::<u64>());
        let state = match (&seen.damage, seen.torn_at) {
            (Some(why), _) => format!("damaged: {why}"),
            (None, Some(at)) => format!("sound, its newest frame at byte {at} is not whole"),
            (None, None) if seen.is_clean => "sound, left in good order".to_owned(),
            (None, None) => "sound".to_owned(),
        };
        rows.push(vec![
            shard.to_string(),
            bytes(seen.file_bytes),
            seen.frames.len().to_string(),
            seen.applied.to_string(),
            seen.last.to_string(),
            format!("{count} ({})", bytes(size)),
            state,
        ]);
    }
    console.print_table(&rows)
}
