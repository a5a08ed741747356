//! `no db import` and `no db export`: a store of files into PostgreSQL, and back.

use super::Console;
use super::options::ConfigOptions;
use crate::config;
use crate::config::checked::Database;
use crate::error::{Error, Result};
use crate::postgres::options;
use clap::Args;
use no_engine::control::partitions_of;
use no_engine::id::{PartitionId, ShardId, TaskId};
use no_engine::port::{Load, Reader};
use no_storage::postgres::{JournalOptions, PgOptions, PgStore};
use no_storage::transfer::{self, Moved, Side, Writers};
use no_storage::writer::Finish;
use no_storage::{OpenOptions, Store};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Who has the partitions while a move writes or reads them.
const MOVER: &str = "import";
/// A node that counts within this time runs: twice the pause that a long lease has.
const LOOK: Duration = Duration::from_secs(3);
/// Nothing is removed by a move.
const KEEP_MS: u64 = u64::MAX / 2;

/// Options of `no db import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  NO_DB_HOST=db.internal no db migrate
  NO_DB_HOST=db.internal no db import --from /var/lib/no

The data folder's nO must be stopped, and the database hold no store. Everything moves: tasks with
their histories and payloads, dead letters, idempotency keys, agents, feedback; ids stay. Then both
are read and compared. Broken off at any point, the same command again goes on; until it has
ended no node serves the database. The data folder stays as it is: delete it when you are
content.

Exit code 0 done, 1 failed or not the same, 4 a store cannot be used.")]
pub(crate) struct Import {
    /// Data folder of the store to move
    #[arg(long, value_name = "DATA_DIR")]
    from: PathBuf,
    #[command(flatten)]
    options: ConfigOptions,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

/// Options of `no db export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  NO_DB_HOST=db.internal no db export --to /var/lib/no-new

No node may run on the database, and the folder must not be there: it is made under the name
DATA_DIR.partial and renamed at the end. Then both are read and compared. The database stays as it
is.

Exit code 0 done, 1 failed or not the same, 4 a store cannot be used.")]
pub(crate) struct Export {
    /// Data folder to make
    #[arg(long, value_name = "DATA_DIR")]
    to: PathBuf,
    #[command(flatten)]
    options: ConfigOptions,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

fn refused(error: no_storage::Error) -> Error {
    Error::Store { why: error.to_string() }
}

fn failed(why: String) -> Error {
    Error::Transfer { why }
}

/// The configured database, and the partitions that are configured for it.
fn database(asked: &ConfigOptions) -> Result<(PgOptions, u16)> {
    let config = config::load(&asked.options())?;
    let of: &Database = config.database.as_ref().ok_or_else(|| {
        Error::Usage("database.host is missing: name the database (NO_DB_HOST)".to_owned())
    })?;
    Ok((options(of)?, config.engine.partitions))
}

fn all(partitions: u16) -> Vec<PartitionId> {
    (0..partitions).map(PartitionId).collect()
}

fn side_of_files(store: &Store) -> Result<Side> {
    let (partitions, shards) = (store.partitions(), store.shards());
    let mut loaders: Vec<(Vec<PartitionId>, Box<dyn Load>)> = Vec::new();
    for shard in (0..shards).map(ShardId) {
        let loader = store.loader(shard).map_err(refused)?;
        loaders.push((partitions_of(shard, partitions, shards), Box::new(loader)));
    }
    Ok(Side { reader: Box::new(store.reader().map_err(refused)?), loaders })
}

fn side_of_database(store: &PgStore) -> Result<Side> {
    let loader: Box<dyn Load> = Box::new(store.loader().map_err(refused)?);
    let loaders = vec![(all(store.partitions()), loader)];
    Ok(Side { reader: Box::new(store.reader().map_err(refused)?), loaders })
}

/// The options of a store of files as a move opens it.
fn files(partitions: u16, shards: u16) -> OpenOptions {
    OpenOptions { partitions, shards, retention_ms: KEEP_MS, ..OpenOptions::default() }
}

impl Import {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let begun = Instant::now();
        let (options, asked) = database(&self.options)?;
        let (partitions, shards) = Store::shape(&self.from).map_err(refused)?;
        if partitions != asked {
            let why = format!("it has {partitions} partitions: set engine.partitions to that");
            return Err(Error::Store { why: format!("{}: {why}", self.from.display()) });
        }
        let files = Store::open(&self.from, &files(partitions, shards)).map_err(refused)?;
        let source = std::fs::canonicalize(&self.from).unwrap_or_else(|_| self.from.clone());
        let source = source.display().to_string();
        let store = PgStore::begin_import(&options, partitions, &source).map_err(refused)?;
        nobody_runs(&store)?;
        let before = resume(store.import_down_to().map_err(refused)?.as_deref());
        let owned = store.take(MOVER, &all(partitions)).map_err(refused)?;
        let journal = store.journal(&JournalOptions {
            owner: MOVER.to_owned(),
            shard: ShardId(0),
            owned,
            retention_ms: KEEP_MS,
        });
        let journal: Box<dyn Finish> = Box::new(journal.map_err(refused)?);
        let mut to = Writers::new(vec![journal], partitions);
        let mut from = side_of_files(&files)?;
        let mut there = side_of_database(&store)?;
        let tasks = files.tasks().map_err(refused)?;
        let shown = console.bar_of_tasks("moving");
        let moved = transfer::copy(
            &mut from,
            &mut to,
            before,
            &mut |id| last_event(&mut *there.reader, id),
            &mut |moved: &Moved| {
                shown.set(moved.tasks, tasks);
                let down_to = moved.down_to.map(|id| id.to_string()).unwrap_or_default();
                store.note_import(&down_to).map_err(|error| error.to_string())
            },
        );
        drop(shown);
        moved.map_err(failed)?;
        to.finish().map_err(failed)?;
        let same = compare(console, (&mut from, &mut there), tasks)?;
        store.end_import(files.fences_from()).map_err(refused)?;
        told(console, self.json, &same, begun)
    }
}

fn nobody_runs(store: &PgStore) -> Result<()> {
    match store.running(LOOK).map_err(refused)?.first() {
        None => Ok(()),
        Some(node) => {
            let why = format!("node {node} runs on the database: stop it first");
            Err(Error::Store { why })
        }
    }
}

/// The number of the last event that a store has of a task.
fn last_event(reader: &mut dyn Reader, id: TaskId) -> std::result::Result<Option<u32>, String> {
    if reader.task(id)?.is_none() {
        return Ok(None);
    }
    Ok(reader.events(id, 0, usize::MAX)?.last().map(|record| record.n))
}

/// Reads both sides whole; what they hold when it is the same.
fn compare(
    console: &Console,
    (from, to): (&mut Side, &mut Side),
    tasks: u64,
) -> Result<(Moved, [u8; 32])> {
    let read = |what: &'static str, side: &mut Side| {
        let shown = console.bar_of_tasks(what);
        let read = transfer::digest(side, &mut |moved: &Moved| {
            shown.set(moved.tasks, tasks);
            Ok(())
        });
        read.map_err(failed)
    };
    let (was, is) = (read("reading", from)?, read("comparing", to)?);
    if was == is {
        return Ok(is);
    }
    let why = format!("the two are not the same: {:?} and {:?}", was.0, is.0);
    Err(failed(why))
}

/// Says what was moved.
fn told(
    console: &mut Console,
    is_json: bool,
    (moved, digest): &(Moved, [u8; 32]),
    begun: Instant,
) -> Result<()> {
    let seconds = begun.elapsed().as_secs_f64();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let Moved { tasks, events, keys, feedback, agents, .. } = moved;
    if is_json {
        return console.print_json(&json!({
            "status": "ok", "seconds": (seconds * 1e3).round() / 1e3, "digest": digest,
            "tasks": tasks, "events": events, "keys": keys, "feedback": feedback,
            "agents": agents,
        }));
    }
    console.print(&format!(
        "{tasks} tasks, {events} events, {keys} idempotency keys, {agents} agents, {feedback} \
         scores in {seconds:.1} s; both sides hold the same ({digest})"
    ))
}

/// Where a move that was broken off goes on: at its last task, which is looked for.
fn resume(down_to: Option<&str>) -> Option<TaskId> {
    let id: TaskId = down_to?.parse().ok()?;
    // Lists are of what is below.
    TaskId::from_bytes(id.to_u128().saturating_add(1).to_be_bytes())
}

impl Export {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let begun = Instant::now();
        let (options, partitions) = database(&self.options)?;
        if self.to.exists() {
            let why = format!("{} is there already: name a new folder", self.to.display());
            return Err(Error::Store { why });
        }
        let store = PgStore::open(&options, partitions).map_err(refused)?;
        nobody_runs(&store)?;
        // Whoever still had them commits nothing from here on.
        store.take(MOVER, &all(partitions)).map_err(refused)?;
        let partial = self.to.with_extension("partial");
        let noted = self.to.with_extension("partial.at");
        let before = resume(std::fs::read_to_string(&noted).ok().as_deref());
        let mut files = Store::open(&partial, &files(partitions, 1)).map_err(refused)?;
        let journal: Box<dyn Finish> = Box::new(files.journal(ShardId(0)).map_err(refused)?);
        let mut to = Writers::new(vec![journal], partitions);
        let mut from = side_of_database(&store)?;
        let mut there = files.reader().map_err(refused)?;
        let tasks = store.tasks().map_err(refused)?;
        let shown = console.bar_of_tasks("moving");
        let moved = transfer::copy(
            &mut from,
            &mut to,
            before,
            &mut |id| last_event(&mut there, id),
            &mut |moved: &Moved| {
                shown.set(moved.tasks, tasks);
                let down_to = moved.down_to.map(|id| id.to_string()).unwrap_or_default();
                std::fs::write(&noted, down_to).map_err(|error| error.to_string())
            },
        );
        drop(shown);
        moved.map_err(failed)?;
        to.finish().map_err(failed)?;
        drop((to, there, files));
        let files = Store::open(&partial, &self::files(partitions, 1)).map_err(refused)?;
        let same = compare(console, (&mut from, &mut side_of_files(&files)?), tasks)?;
        drop(files);
        store.release(MOVER).map_err(refused)?;
        let of_file = |source| Error::File { path: self.to.clone(), source };
        std::fs::rename(&partial, &self.to).map_err(of_file)?;
        std::fs::remove_file(&noted).map_err(of_file)?;
        told(console, self.json, &same, begun)
    }
}
