//! The shared store on a real server.

mod broken;
mod journal;
mod list;
mod proxy;
mod refused;
mod server;

use super::*;
use crate::samples;
use no_engine::event::{Batch, KeyRow, Record};
use no_engine::id::{ShardId, TaskId};
use no_engine::port::{Journal, Load, Reader};
use no_engine::task::Task;
use server::Server;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Few partitions, so that they are shared unevenly.
const PARTITIONS_FEW: u16 = 7;

/// A database of a test's own, with tables.
struct Database {
    server: Arc<Server>,
    name: String,
}

impl Database {
    /// Made on the shared server; `None` when PostgreSQL is not installed.
    fn made() -> Option<Database> {
        Some(Database::on(Server::shared()?))
    }

    /// Made on that server.
    fn on(server: Arc<Server>) -> Database {
        let database = Database { name: server.database(), server };
        let migrated = migrate(&database.options()).expect("migrated");
        assert_eq!(migrated, Migrated { from: None, to: known() });
        database
    }

    fn options(&self) -> PgOptions {
        options(&self.server, &self.name)
    }

    fn open(&self) -> PgStore {
        PgStore::open(&self.options(), PARTITIONS_FEW).expect("a sound database")
    }

    /// Rows of a table.
    fn count(&self, table: &str) -> u64 {
        let sql = format!("SELECT count(*) FROM {table}");
        self.server.says(&self.name, &sql).parse().expect("a count")
    }
}

fn options(server: &Server, name: &str) -> PgOptions {
    PgOptions {
        host: server.folder().to_str().expect("plain").to_owned(),
        port: server.port(),
        name: name.to_owned(),
        user: server::USER.to_owned(),
        retry: Duration::from_secs(60),
        ..PgOptions::default()
    }
}

fn all(partitions: u16) -> Vec<PartitionId> {
    (0..partitions).map(PartitionId).collect()
}

/// Takes all partitions for the node `owner` and opens its journal.
fn journal_of(store: &PgStore, owner: &str) -> PgJournal {
    let owned = store.take(owner, &all(store.partitions())).expect("taken");
    let journal =
        JournalOptions { owner: owner.to_owned(), shard: ShardId(0), owned, retention_ms: 1_000 };
    store.journal(&journal).expect("a journal")
}

/// The id of the `i`th task: ids grow, partitions take turns.
fn id(i: u64) -> TaskId {
    TaskId::new(1_000_000 + i * 10, i, PartitionId((i % u64::from(PARTITIONS_FEW)) as u16))
}

/// Commits one batch.
fn commit(journal: &mut PgJournal, batch: Batch) {
    journal.commit(&[batch]).expect("committed");
}

/// All that the store loads: open tasks by id, keys by hash.
fn loaded(store: &PgStore) -> (BTreeMap<TaskId, Task>, BTreeMap<u128, KeyRow>) {
    let (mut tasks, mut keys) = (BTreeMap::new(), BTreeMap::new());
    let mut loader = store.loader().expect("a loader");
    let all = all(store.partitions());
    let take = &mut |task: Task| assert!(tasks.insert(task.id, task).is_none(), "loaded twice");
    loader.tasks(&all, take).expect("sound rows");
    let take = &mut |key: KeyRow| assert!(keys.insert(key.hash, key).is_none(), "loaded twice");
    loader.keys(&all, take).expect("sound rows");
    (tasks, keys)
}

/// The whole history of a task.
fn history(reader: &mut PgReader, id: TaskId) -> Vec<Record> {
    reader.events(id, 0, usize::MAX).expect("readable")
}
