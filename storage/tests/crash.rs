//! The simulator's world over the real stores: every batch is committed to one as well, every crash
//! drops the store and opens it anew, and what is then read must be what applying the events gives,
//! partition by partition and history by history.
//!
//! How far the embedded store's index is behind the journal when the crash comes differs from seed
//! to seed: not at all, a few frames, or by all that the journal has room for. The crash of a node on
//! PostgreSQL takes the server with it every other time.

#[path = "../src/postgres/tests/server.rs"]
#[allow(dead_code)] // the store's own tests use the rest of it
mod server;

use no_engine::control::placement;
use no_engine::event::{Batch, Record};
use no_engine::id::{PartitionId, ShardId, TaskId};
use no_engine::port::{Journal as _, Load as _, Loaded, Reader as _};
use no_engine::sim::{Mirror, run_mirrored, shape};
use no_storage::postgres::{self, JournalOptions, PgJournal, PgLoad, PgReader};
use no_storage::sqlite::{Following, SqliteJournal};
use no_storage::{OpenOptions, PgOptions, PgStore, Store};
use server::Server;
use std::sync::Arc;
use tempfile::TempDir;

const STEPS: usize = 1_500;
const EVENTS_MAX: usize = 100_000;

struct Real {
    dir: TempDir,
    options: OpenOptions,
    open: Option<(Store, Vec<SqliteJournal>)>,
}

impl Real {
    fn new(partitions: u16, shards: u16, after: usize) -> Real {
        // In memory where there is such a place: what is not synced is a matter of other tests.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a folder");
        let following = Following::ByHand { after };
        let journal_bytes = 256 << 10;
        let options =
            OpenOptions { partitions, shards, following, journal_bytes, ..OpenOptions::default() };
        let mut real = Real { dir, options, open: None };
        real.reopen().expect("a new store opens");
        real
    }

    fn store(&self) -> &Store {
        &self.open.as_ref().expect("it is open").0
    }
}

impl Mirror for Real {
    fn commit(&mut self, shard: ShardId, batch: &Batch) -> Result<(), String> {
        let (_, journals) = self.open.as_mut().expect("it is open");
        let journal = &mut journals[usize::from(shard.0)];
        journal.commit(std::slice::from_ref(batch)).map_err(|error| error.to_string())
    }

    fn reopen(&mut self) -> Result<(), String> {
        // The journals first, then the store with its lock; nothing is finished or checkpointed.
        if let Some((store, journals)) = self.open.take() {
            drop(journals);
            drop(store);
        }
        let mut store =
            Store::open(self.dir.path(), &self.options).map_err(|error| error.to_string())?;
        let journals = (0..self.options.shards).map(|shard| store.journal(ShardId(shard)));
        let journals =
            journals.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        self.open = Some((store, journals));
        Ok(())
    }

    fn load(&mut self, partition: PartitionId) -> Result<Loaded, String> {
        let shard = placement(partition, self.options.partitions, self.options.shards);
        let mut load = self.store().loader(shard).map_err(|error| error.to_string())?;
        load.load(partition).map_err(|error| error.to_string())
    }

    fn history(&mut self, task: TaskId) -> Result<Vec<Record>, String> {
        let mut reader = self.store().reader().map_err(|error| error.to_string())?;
        reader.events(task, 0, EVENTS_MAX)
    }
}

/// A node on a database of its own.
struct Shared {
    server: Arc<Server>,
    options: PgOptions,
    partitions: u16,
    shards: u16,
    crashes: usize,
    open: Option<(PgLoad, PgReader, Vec<PgJournal>)>,
}

impl Shared {
    fn new(server: Arc<Server>, partitions: u16, shards: u16) -> Shared {
        let options = PgOptions {
            host: server.folder().to_str().expect("plain").to_owned(),
            port: server.port(),
            name: server.database(),
            user: server::USER.to_owned(),
            ..PgOptions::default()
        };
        postgres::migrate(&options).expect("migrated");
        let mut shared = Shared { server, options, partitions, shards, crashes: 0, open: None };
        shared.open().expect("a new store opens");
        shared
    }

    fn open(&mut self) -> no_storage::Result<()> {
        let store = PgStore::open(&self.options, self.partitions)?;
        let mut journals = Vec::new();
        for shard in (0..self.shards).map(ShardId) {
            let all = (0..self.partitions).map(PartitionId);
            let own = all.filter(|id| placement(*id, self.partitions, self.shards) == shard);
            let owned = store.take("node", &own.collect::<Vec<_>>())?;
            let (owner, retention_ms) = ("node".to_owned(), u64::MAX);
            let journal = JournalOptions { owner, shard, owned, retention_ms };
            journals.push(store.journal(&journal)?);
        }
        self.open = Some((store.loader()?, store.reader()?, journals));
        Ok(())
    }
}

impl Mirror for Shared {
    fn commit(&mut self, shard: ShardId, batch: &Batch) -> Result<(), String> {
        let (_, _, journals) = self.open.as_mut().expect("it is open");
        let journal = &mut journals[usize::from(shard.0)];
        journal.commit(std::slice::from_ref(batch)).map_err(|error| error.to_string())
    }

    fn reopen(&mut self) -> Result<(), String> {
        self.crashes += 1;
        if self.crashes.is_multiple_of(2) {
            self.server.kill();
            self.server.start(&[]);
        }
        self.open = None;
        self.open().map_err(|error| error.to_string())
    }

    fn load(&mut self, partition: PartitionId) -> Result<Loaded, String> {
        let (load, _, _) = self.open.as_mut().expect("it is open");
        load.load(partition).map_err(|error| error.to_string())
    }

    fn history(&mut self, task: TaskId) -> Result<Vec<Record>, String> {
        let (_, reader, _) = self.open.as_mut().expect("it is open");
        reader.events(task, 0, EVENTS_MAX)
    }
}

#[test]
fn what_postgresql_gives_back_after_each_crash_is_what_the_events_give() {
    let Some(server) = Server::started() else { return };
    let server = Arc::new(server);
    for seed in 1..4 {
        let (partitions, shards) = shape(seed);
        let shared = Shared::new(Arc::clone(&server), partitions.max(shards), shards);
        if let Err(broken) = run_mirrored(seed, STEPS, Box::new(shared)) {
            panic!("seed {seed}: {broken}");
        }
    }
}

fn check(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let (partitions, shards) = shape(seed);
        // A store has no more shards than partitions.
        let after = [1, 5, usize::MAX][(seed % 3) as usize];
        let real = Real::new(partitions.max(shards), shards, after);
        if let Err(broken) = run_mirrored(seed, STEPS, Box::new(real)) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn what_sqlite_gives_back_after_each_crash_is_what_the_events_give() {
    check(1..5);
}

#[test]
fn and_for_other_seeds() {
    check(5..9);
}
