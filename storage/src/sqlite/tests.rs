//! The embedded store as a whole.

mod backup;
mod folder;
mod follower;
mod inspect;
mod journal;
mod list;
mod reshard;
mod restore;

use super::*;
use crate::contract::{Kept, Loaded, PARTITIONS_FEW, history, id};
use crate::samples;
use no_engine::event::{AgentRow, Batch, FeedbackRow, Record};
use no_engine::id::{PartitionId, TaskId};
use no_engine::port::{CommitError, Filter, Journal, Load, Page, Reader};
use no_engine::task::Task;
use no_engine::time::Millis;
use std::collections::BTreeMap;
use tempfile::TempDir;

fn options(shards: u16) -> OpenOptions {
    OpenOptions { partitions: PARTITIONS_FEW, shards, ..few() }
}

/// Small journals that are taken over at once, so that each test knows what is where.
fn few() -> OpenOptions {
    OpenOptions {
        retention_ms: 1_000,
        journal_bytes: 64 << 10,
        following: Following::ByHand { after: 1 },
        ..OpenOptions::default()
    }
}

fn open(dir: &Path, shards: u16) -> Store {
    Store::open(dir, &options(shards)).expect("a sound folder")
}

/// In memory where there is such a place: these tests sync thousands of times.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}

/// Another folder with the same files.
fn copy(dir: &Path) -> TempDir {
    let to = folder();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).expect("copied");
    }
    to
}

/// Commits one batch.
fn commit(journal: &mut SqliteJournal, batch: Batch) {
    journal.commit(&[batch]).expect("committed");
}

/// All that the store loads: open tasks by id, keys by hash.
fn loaded(store: &Store) -> Loaded {
    let (mut tasks, mut keys) = (BTreeMap::new(), BTreeMap::new());
    for shard in 0..store.shards() {
        let mut loader = store.loader(ShardId(shard)).expect("a loader");
        for partition in (0..store.partitions()).map(PartitionId) {
            let own = no_engine::control::placement(partition, store.partitions(), store.shards());
            let loaded = loader.load(partition).expect("sound rows");
            if own != ShardId(shard) {
                assert!(loaded.tasks.is_empty() && loaded.keys.is_empty(), "in the wrong file");
            }
            let task_count = tasks.len() + loaded.tasks.len();
            tasks.extend(loaded.tasks.into_iter().map(|task| (task.id, task)));
            assert_eq!(tasks.len(), task_count, "loaded twice");
            keys.extend(loaded.keys.into_iter().map(|key| (key.hash, key)));
        }
    }
    (tasks, keys)
}

/// Rows of a table in a shard's file.
fn count(dir: &Path, shard: u16, table: &str) -> i64 {
    let db = schema::open_reader(&schema::shard_path(dir, shard)).expect("a shard's file");
    let sql = format!("SELECT count(*) FROM {table}");
    db.query_row(&sql, [], |row| row.get(0)).expect("a count")
}

/// Submits the tasks `numbers` with `input` to whichever shard they belong to.
fn submit(
    store: &mut Store,
    journals: &mut [SqliteJournal],
    numbers: std::ops::Range<u64>,
    input: &no_engine::payload::Payload,
) -> BTreeMap<TaskId, Task> {
    let mut tasks = BTreeMap::new();
    for i in numbers {
        let (record, task) = samples::submitted(id(i), input);
        let own =
            no_engine::control::placement(task.id.partition(), store.partitions(), store.shards());
        let batch = samples::batch(i, vec![record], &[(&task, true)]);
        commit(&mut journals[usize::from(own.0)], batch);
        tasks.insert(task.id, task);
    }
    tasks
}

/// The journals of all shards.
fn journals(store: &mut Store) -> Vec<SqliteJournal> {
    (0..store.shards()).map(|shard| store.journal(ShardId(shard)).expect("a journal")).collect()
}

/// A store in a folder of its own, with all journals, as the contract wants it.
struct World {
    dir: TempDir,
    store: Store,
    journals: Vec<SqliteJournal>,
}

impl World {
    fn new(options: &OpenOptions) -> World {
        let dir = folder();
        let mut store = Store::open(dir.path(), options).expect("a new folder");
        let journals = journals(&mut store);
        World { dir, store, journals }
    }
}

impl Kept for World {
    fn commit(&mut self, batches: &[Batch]) -> std::result::Result<(), CommitError> {
        let (partitions, shards) = (self.store.partitions(), self.store.shards());
        let task = batches.iter().flat_map(|batch| &batch.tasks).next();
        let shard = task.map_or(ShardId(0), |image| {
            no_engine::control::placement(image.task.id.partition(), partitions, shards)
        });
        self.journals[usize::from(shard.0)].commit(batches)
    }

    fn tidy(&mut self, now: Millis) -> std::result::Result<bool, CommitError> {
        self.journals[0].tidy(now)
    }

    fn loaded(&self) -> Loaded {
        loaded(&self.store)
    }

    fn agents(&self) -> Vec<AgentRow> {
        self.store.loader(ShardId(0)).expect("a loader").agents().expect("sound rows")
    }

    fn feedback(&self, since: Millis) -> Vec<FeedbackRow> {
        let mut rows = Vec::new();
        let mut loader = self.store.loader(ShardId(0)).expect("a loader");
        let read = loader
            .feedback(&[0, 1, 2, 3, 4, 5, 6].map(PartitionId), since, &mut |row| rows.push(row));
        read.expect("sound rows");
        rows
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(self.store.reader().expect("a reader"))
    }

    fn page_within(&self, filter: &Filter, before: Option<TaskId>, rows_max: usize) -> Page {
        let reader = self.store.reader().expect("a reader");
        reader.page_within(filter, before, 10, rows_max).expect("readable")
    }

    fn rows(&self, table: &str) -> u64 {
        let all = (0..self.store.shards()).map(|shard| count(self.dir.path(), shard, table));
        all.sum::<i64>().cast_unsigned()
    }
}
