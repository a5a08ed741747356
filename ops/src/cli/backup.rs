//! `no backup`: make one while nO runs, check it, bring it back.

use super::Console;
use super::options::data_dir;
use super::output::bytes;
use crate::backup::{self, Manifest, Plan};
use crate::error::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// How far making a backup stands back for others.
const NICE: i32 = 10;

/// Commands of `no backup`.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Back a data folder up, also while nO runs on it
    Create(Create),
    /// Check a backup: every byte, every part, every row
    Verify(Verify),
    /// Bring a backup back into a data folder without a store
    Restore(Restore),
}

/// Options of `no backup create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no backup create --output /backup/no-$(date +%F).backup
  no backup create --output F --force --json

All that nO had acknowledged before this began is in the backup. It needs room beside the output for
the packed whole and for the largest shard. The file holds every task's input and output, and with
--with-key whoever reads it can make tokens: it is written for its owner alone (0600), keep it so.
Not in it: admin.token, and without --with-key token.key; a restored nO then makes a new key, and
local tokens that were made before stop working.

Exit code 0 done, 1 failed, 2 wrong usage, 4 no store, or a damaged one.")]
pub(crate) struct Create {
    /// File to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
    /// Also back up token.key, the secret that signs local tokens
    #[arg(long)]
    with_key: bool,
    #[command(flatten)]
    common: Common,
}

/// Options of `no backup verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no backup verify F
  no backup verify F --temporary /big/disk --json

Exit code 0: the backup is what was written, and can be restored; 1: it is damaged, or cannot be
read.")]
pub(crate) struct Verify {
    /// The backup
    file: PathBuf,
    /// Folder with room for the largest shard [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    temporary: Option<PathBuf>,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

/// Options of `no backup restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no backup restore F --data-dir /var/lib/no
  mv data data.old && no backup restore F

The backup is checked as by `no backup verify` before anything counts. Killed at any point it leaves
either no store, and the same command again does it, or the whole one. A token.key in the folder
stays. After the next start leases of before are refused (409), timers that are overdue fire, and
what ran is run again from its last journaled step.

Exit code 0 done, 1 the backup is damaged, 4 the folder holds a store or something else.")]
pub(crate) struct Restore {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Data folder [env: NO_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

impl BackupCommand {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        match self {
            BackupCommand::Create(create) => create.run(console),
            BackupCommand::Verify(verify) => verify.run(console),
            BackupCommand::Restore(restore) => restore.run(console),
        }
    }
}

impl Create {
    fn run(self, console: &mut Console) -> Result<()> {
        let begun = Instant::now();
        // The node goes first where both want a core.
        let _ = rustix::process::nice(NICE);
        let plan = Plan {
            data_dir: data_dir(self.common.data_dir.as_deref()),
            output: self.output,
            is_forced: self.force,
            with_key: self.with_key,
        };
        let created = {
            let bar = console.bar("backing up");
            backup::create(&plan, &mut |done, all| bar.set(done, all))?
        };
        let seconds = begun.elapsed().as_secs_f64();
        let (file, manifest) = (plan.output.display().to_string(), &created.manifest);
        if self.common.json {
            let mut shown = shown(manifest, seconds);
            shown["file"] = file.into();
            shown["file_bytes"] = created.bytes.into();
            return console.print_json(&shown);
        }
        let (packed, all) = (bytes(created.bytes), bytes(manifest.bytes()));
        console.print(&format!("{file}: {packed} from {all}, in {seconds:.1} s"))?;
        table(console, manifest)
    }
}

impl Verify {
    fn run(self, console: &mut Console) -> Result<()> {
        let begun = Instant::now();
        let temporary = self.temporary.unwrap_or_else(std::env::temp_dir);
        let manifest = {
            let bar = console.bar("checking");
            backup::verify(&self.file, &temporary, &mut |done, all| bar.set(done, all))?
        };
        let seconds = begun.elapsed().as_secs_f64();
        if self.json {
            return console.print_json(&shown(&manifest, seconds));
        }
        let (all, at) = (bytes(manifest.bytes()), &manifest.created_at);
        console.print(&format!("sound: {all} of {at}, checked in {seconds:.1} s"))?;
        table(console, &manifest)
    }
}

impl Restore {
    fn run(self, console: &mut Console) -> Result<()> {
        let begun = Instant::now();
        let dir = data_dir(self.common.data_dir.as_deref());
        let manifest = {
            let bar = console.bar("restoring");
            backup::restore(&self.file, &dir, &mut |done, all| bar.set(done, all))?
        };
        let seconds = begun.elapsed().as_secs_f64();
        let shown_dir = dir.display().to_string();
        if self.common.json {
            let mut shown = shown(&manifest, seconds);
            shown["data_dir"] = shown_dir.into();
            return console.print_json(&shown);
        }
        let (all, at) = (bytes(manifest.bytes()), &manifest.created_at);
        console.print(&format!("{shown_dir}: {all} of {at}, restored in {seconds:.1} s"))?;
        table(console, &manifest)?;
        if !manifest.holds_key() && !dir.join(no_auth::local::KEY_FILE).exists() {
            let line = "without token.key: the next start makes a new one, and local tokens that \
                        were made before stop working";
            console.complain(line);
        }
        Ok(())
    }
}

/// For machines.
fn shown(manifest: &Manifest, seconds: f64) -> Value {
    let contents = manifest.contents();
    json!({
        "status": "ok",
        "seconds": (seconds * 1_000.0).round() / 1_000.0,
        "bytes": manifest.bytes(),
        "holds_key": manifest.holds_key(),
        "contents": contents,
        "manifest": manifest,
    })
}

/// Tasks and events by state.
fn table(console: &mut Console, manifest: &Manifest) -> Result<()> {
    let contents = manifest.contents();
    let row = |cells: [String; 3]| cells.to_vec();
    let mut rows = vec![row(["STATE".into(), "TASKS".into(), "EVENTS".into()])];
    for (state, tasks) in &contents.tasks {
        let events = contents.events.get(state).copied().unwrap_or(0);
        rows.push(row([state.clone(), tasks.to_string(), events.to_string()]));
    }
    let (tasks, events): (u64, u64) =
        (contents.tasks.values().sum(), contents.events.values().sum());
    rows.push(row(["all".into(), tasks.to_string(), events.to_string()]));
    console.print_table(&rows)?;
    let (shards, keys, agents) = (manifest.shards, contents.keys, contents.agents);
    let payloads = contents.payloads;
    console.print(&format!(
        "{shards} shard(s), {keys} idempotency keys, {agents} agents, {payloads} large payloads"
    ))
}
