//! The simulator's world over the real store: every batch is committed to it as well, every crash
//! drops the store and opens it anew, and what is then read must be what applying the events gives,
//! partition by partition and history by history.
//!
//! How far the index is behind the journal when the crash comes differs from seed to seed: not at
//! all, a few frames, or by all that the journal has room for.

use no_engine::control::placement;
use no_engine::event::{Batch, Record};
use no_engine::id::{PartitionId, ShardId, TaskId};
use no_engine::port::{Journal as _, Load as _, Loaded, Reader as _};
use no_engine::sim::{Mirror, run_mirrored, shape};
use no_storage::sqlite::{Following, SqliteJournal};
use no_storage::{OpenOptions, Store};
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
