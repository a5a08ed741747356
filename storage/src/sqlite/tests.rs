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
use crate::samples;
use no_engine::event::{Batch, Record};
use no_engine::id::{PartitionId, TaskId};
use no_engine::port::{Journal, Load, Reader};
use no_engine::task::Task;
use std::collections::BTreeMap;
use tempfile::TempDir;

/// Few partitions, so that shards share them unevenly.
const PARTITIONS_FEW: u16 = 7;

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

/// The id of the `i`th task: ids grow, partitions take turns.
fn id(i: u64) -> TaskId {
    TaskId::new(1_000_000 + i * 10, i, PartitionId((i % u64::from(PARTITIONS_FEW)) as u16))
}

/// Commits one batch.
fn commit(journal: &mut SqliteJournal, batch: Batch) {
    journal.commit(&[batch]).expect("committed");
}

/// All that the store loads: open tasks by id, keys by hash.
fn loaded(store: &Store) -> (BTreeMap<TaskId, Task>, BTreeMap<u128, no_engine::event::KeyRow>) {
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

/// The whole history of a task.
fn history(reader: &mut SqliteReader, id: TaskId) -> Vec<Record> {
    reader.events(id, 0, usize::MAX).expect("readable")
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
