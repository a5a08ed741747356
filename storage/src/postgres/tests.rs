//! The shared store on a real server.

mod broken;
mod journal;
mod nodes;
mod proxy;
mod refused;
mod server;

use super::*;
use crate::contract::{Kept, Loaded, PARTITIONS_FEW, history, id};
use crate::samples;
use no_engine::event::{AgentRow, Batch, FeedbackRow, KeyRow, Record};
use no_engine::id::{ShardId, TaskId};
use no_engine::port::{CommitError, Filter, Journal, Load, Page, Reader};
use no_engine::task::Task;
use no_engine::time::Millis;
use server::Server;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A database of a test's own, with tables.
#[derive(Clone)]
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

/// Commits one batch.
fn commit(journal: &mut PgJournal, batch: Batch) {
    journal.commit(&[batch]).expect("committed");
}

/// All that the store loads: open tasks by id, keys by hash.
fn loaded(store: &PgStore) -> Loaded {
    let (mut tasks, mut keys) = (BTreeMap::new(), BTreeMap::new());
    let mut loader = store.loader().expect("a loader");
    let all = all(store.partitions());
    let take = &mut |task: Task| assert!(tasks.insert(task.id, task).is_none(), "loaded twice");
    loader.tasks(&all, take).expect("sound rows");
    let take = &mut |key: KeyRow| assert!(keys.insert(key.hash, key).is_none(), "loaded twice");
    loader.keys(&all, take).expect("sound rows");
    (tasks, keys)
}

/// A database of its own with one journal, as the contract wants it.
struct World {
    database: Database,
    store: PgStore,
    journal: PgJournal,
}

impl World {
    /// `None` when PostgreSQL is not installed.
    fn made() -> Option<World> {
        let database = Database::made()?;
        let store = database.open();
        let journal = journal_of(&store, "a");
        Some(World { database, store, journal })
    }
}

impl Kept for World {
    fn commit(&mut self, batches: &[Batch]) -> std::result::Result<(), CommitError> {
        self.journal.commit(batches)
    }

    fn tidy(&mut self, now: Millis) -> std::result::Result<bool, CommitError> {
        self.journal.tidy(now)
    }

    fn loaded(&self) -> Loaded {
        loaded(&self.store)
    }

    fn agents(&self) -> Vec<AgentRow> {
        self.store.loader().expect("a loader").agents().expect("sound rows")
    }

    fn feedback(&self, since: Millis) -> Vec<FeedbackRow> {
        let mut rows = Vec::new();
        let mut loader = self.store.loader().expect("a loader");
        let read = loader.feedback(&all(PARTITIONS_FEW), since, &mut |row| rows.push(row));
        read.expect("sound rows");
        rows
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(self.store.reader().expect("a reader"))
    }

    fn page_within(&self, filter: &Filter, before: Option<TaskId>, rows_max: usize) -> Page {
        let mut reader = self.store.reader().expect("a reader");
        reader.page_within(filter, before, 10, rows_max).expect("readable")
    }

    fn rows(&self, table: &str) -> u64 {
        self.database.count(table)
    }
}
