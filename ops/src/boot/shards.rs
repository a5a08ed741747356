//! Starts each shard's two threads: the shard itself, pinned, and its journal thread.

use super::kept::Kept;
use super::links::{Door, ShardEnds};
use crate::config::Config;
use crate::cores::{self, SystemClock};
use crate::error::{Error, Result};
use crate::spans::{Tap, Traced};
use no_engine::doorbell::Bell;
use no_engine::event::Batch;
use no_engine::id::{Fence, PartitionId, ShardId};
use no_engine::machine::{LastStop, Machine};
use no_engine::port::{Ack, Clock as _, Load};
use no_engine::ring::{Receiver, Sender};
use no_engine::shard::{Links, Pulse, Shard, run};
use no_net::Registry;
use no_storage::writer::{self, Ended, Finish, WriterOptions};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

/// The threads of one shard.
pub struct ShardThreads {
    pub(super) pulse: Arc<Pulse>,
    shard: JoinHandle<()>,
    journal: JoinHandle<Ended>,
}

impl ShardThreads {
    /// Waits for both, which end once all net cores are gone; how the journal ended.
    #[must_use]
    pub fn join(self) -> Ended {
        let gone = |_| Ended::Failed("the thread is gone".into());
        let _ = self.shard.join();
        self.journal.join().unwrap_or_else(gone)
    }
}

/// What every shard is built from.
pub(super) struct Plan<'a> {
    pub(super) config: &'a Config,
    pub(super) registry: &'a Registry,
    pub(super) clock: SystemClock,
    pub(super) last_stop: LastStop,
    pub(super) seed: u64,
    pub(super) tap: Option<Tap>,
}

/// What a shard's thread takes with it.
struct ShardPart {
    machine: Machine,
    load: Box<dyn Load + Send>,
    links: Links,
    door: Door,
    journal_bell: Bell,
    pulse: Arc<Pulse>,
    core: Option<usize>,
    busy_poll_us: u64,
    last_stop: LastStop,
    own: Vec<PartitionId>,
    clock: SystemClock,
    limits: no_engine::limits::Limits,
}

/// Starts all shards, each from what its file has; returns when all are loaded.
///
/// # Errors
/// [`Error::Store`] when a partition cannot be loaded.
pub(super) fn start(
    plan: &Plan<'_>,
    store: &mut Kept,
    ends: Vec<ShardEnds>,
    cores: &[Option<usize>],
) -> Result<Vec<ShardThreads>> {
    let (loaded, is_loaded) = mpsc::channel();
    let mut threads = Vec::new();
    for (number, ends) in ends.into_iter().enumerate() {
        let shard = ShardId(number as u16);
        let journal = store.journal(shard)?;
        let load = store.loader(shard)?;
        let pulse = Arc::clone(&ends.pulse);
        let core = cores.get(number).copied().flatten();
        let (mut part, ends) = part(plan, shard, load, ends, core);
        part.machine.set_fences_from(Fence(store.fences_from()));
        part.own = store.partitions_of(shard, plan.config);
        let journal =
            start_journal(shard, Traced::new(journal, plan.tap.clone()), ends, plan.clock)?;
        let loaded = loaded.clone();
        let shard = spawn(&format!("no-shard-{number}"), move || run_shard(part, &loaded))?;
        threads.push(ShardThreads { pulse, shard, journal });
    }
    drop(loaded);
    for _ in &threads {
        let result = is_loaded.recv().unwrap_or_else(|_| Err("a shard's thread is gone".into()));
        result.map_err(|why| Error::Store { why })?;
    }
    Ok(threads)
}

/// The journal thread's ends.
struct JournalEnds {
    batches: Receiver<Batch>,
    acks: Sender<Ack>,
    door: Door,
}

fn part(
    plan: &Plan<'_>,
    shard: ShardId,
    load: Box<dyn Load + Send>,
    ends: ShardEnds,
    core: Option<usize>,
) -> (ShardPart, JournalEnds) {
    let engine = &plan.config.engine;
    let limits = engine.limits(shard.0);
    let seed = plan.seed ^ u64::from(shard.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut machine = Machine::new(shard, limits.clone(), plan.clock.now(), seed);
    machine.set_shares(engine.shards, engine.slots);
    for (name, known) in plan.registry.all() {
        machine.know_agent(&name, Some((known.agent, known.paused, known.permits)));
    }
    let part = ShardPart {
        machine,
        load,
        links: ends.links,
        door: ends.door,
        journal_bell: ends.journal_door.bell.clone(),
        pulse: ends.pulse,
        core,
        busy_poll_us: u64::try_from(engine.busy_poll.as_micros()).unwrap_or(u64::MAX),
        last_stop: plan.last_stop,
        own: Vec::new(),
        clock: plan.clock,
        limits,
    };
    (part, JournalEnds { batches: ends.batches, acks: ends.acks, door: ends.journal_door })
}

fn run_shard(part: ShardPart, loaded: &mpsc::Sender<std::result::Result<(), String>>) {
    let ShardPart { mut machine, mut load, mut links, door, clock, .. } = part;
    if let Err(error) = machine.load_all(clock.now(), &part.own, &mut load, part.last_stop) {
        let _ = loaded.send(Err(error.to_string()));
        return;
    }
    drop(load);
    let _ = loaded.send(Ok(()));
    // Not before: threads that read at the load would have been kept to the same core.
    pin(part.core);
    let mut shard = Shard::new(machine, &part.limits);
    let block = |timeout| door.eventfd.block(Some(timeout));
    run::run(&mut shard, &mut links, &clock, &door.sleeper, block, &part.pulse, part.busy_poll_us);
    // The end of the batches is what ends the journal thread; it may be asleep.
    drop(links);
    part.journal_bell.ring();
    // The process ends next: giving back a million headers one by one would only hold it up.
    std::mem::forget(shard);
}

fn start_journal(
    shard: ShardId,
    mut journal: Traced<Box<dyn Finish + Send>>,
    ends: JournalEnds,
    clock: SystemClock,
) -> Result<JoinHandle<Ended>> {
    spawn(&format!("no-journal-{}", shard.0), move || {
        let JournalEnds { mut batches, mut acks, door } = ends;
        writer::run(
            &mut journal,
            &mut batches,
            &mut acks,
            &door.sleeper,
            |timeout| door.eventfd.block(timeout),
            || clock.now().wall,
            &WriterOptions::default(),
        )
    })
}

/// Pins the calling thread, or says why not.
pub(super) fn pin(core: Option<usize>) {
    if let Some(core) = core
        && let Err(error) = cores::pin(core)
    {
        tracing::warn!(target: "pool", core, %error, "not pinned; set engine.pinCores to false");
    }
}

/// Starts a named thread.
///
/// # Errors
/// When the system has no more threads.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|source| Error::File { path: format!("thread {name}").into(), source })
}
