//! The watch over a running node, and its end: not ready, no new work, let running steps finish,
//! stop the parts in the reverse of the order in which they were started.

use crate::agents::AgentsWatch;
use crate::boot::{Guards, Kept, NetThread, ReaderThread, ShardThreads};
use crate::cluster::ClusterThreads;
use crate::error::{EXIT_DONE, EXIT_FAILED, Error, Result};
use crate::pool::PoolKeeper;
use crate::shutdown::{self, Handler, Overseer};
use crate::systemd::Watchdog;
use crate::vitals::{Stage, Vitals};
use no_engine::command::Intake;
use no_net::NetOrders;
use no_net::core::Phase;
use no_storage::sqlite::Checkpoints;
use no_storage::writer::Ended;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

/// How often the node is looked at.
const WATCH: Duration = Duration::from_millis(250);
/// How often a draining node is asked whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// Everything that was started, in order.
pub struct Parts {
    /// What the net cores are told.
    pub orders: NetOrders,
    /// Signs of life.
    pub vitals: Arc<Vitals>,
    /// What is kept while the node runs.
    pub keepers: Keepers,
    /// The net cores.
    pub nets: Vec<NetThread>,
    /// Its place among other nodes.
    pub cluster: Option<ClusterThreads>,
    /// The shards with their journals.
    pub shards: Vec<ShardThreads>,
    /// The reader.
    pub reader: ReaderThread,
    /// The checkpoints.
    pub checkpoints: Option<Checkpoints>,
    /// The store, whose lock on the folder ends last.
    pub store: Kept,
    /// Limits, audit log, revoked tokens.
    pub guards: Guards,
}

/// What the watch keeps while the node runs; nothing of it has to be stopped.
pub struct Keepers {
    /// Scales the pool.
    pub pool: PoolKeeper,
    /// Tells of agents that are held back.
    pub agents: AgentsWatch,
}

/// Why the node stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    Signal,
    /// `POST /admin/shutdown`.
    Request,
    Halted(u16),
    NetCoreGone,
    /// It is no node of its cluster any more.
    Lost,
}

/// What listens for signals. Made before a node says that it is ready: whoever has read that may
/// send one at once, and it must drain.
pub struct Watch {
    runtime: runtime::Runtime,
    signals: Signals,
}

impl Watch {
    /// Takes SIGTERM and SIGINT from here on.
    ///
    /// # Errors
    /// What the system said.
    pub fn new() -> Result<Watch> {
        let failed = |source| Error::File { path: "the signal handler".into(), source };
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let signals = {
            let _inside = runtime.enter();
            Signals::new().map_err(failed)?
        };
        Ok(Watch { runtime, signals })
    }

    /// Watches until there is a reason to stop, then drains within `timeout`.
    ///
    /// # Errors
    /// [`Error::Disk`] when a journal failed; a net core's error.
    pub fn run(self, mut parts: Parts, timeout: Duration) -> Result<()> {
        let Watch { runtime, mut signals } = self;
        let reason = runtime.block_on(async {
            let mut watchdog = Watchdog::of_environment();
            let reason = watch(&mut parts, &mut signals, &mut watchdog).await;
            tracing::info!(target: "shutdown", ?reason, "draining");
            watchdog.stopping(timeout);
            drain(&parts, &mut signals, timeout).await;
            reason
        });
        stop(parts, reason)
    }
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        let term = signal(SignalKind::terminate())?;
        Ok(Signals { term, int: signal(SignalKind::interrupt())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Looks at disk, memory, tokens and shards until something ends the node.
async fn watch(parts: &mut Parts, signals: &mut Signals, watchdog: &mut Watchdog) -> Reason {
    let mut tick = interval(WATCH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signals.any() => return Reason::Signal,
            () = parts.vitals.stop_asked() => return Reason::Request,
            _ = tick.tick() => {}
        }
        parts.guards.look();
        let is_memory_full = parts.vitals.look_at_memory();
        let intake = match parts.vitals.look_at_disk() {
            true => Intake::DiskFull,
            false if is_memory_full => Intake::MemoryFull,
            false => Intake::Open,
        };
        parts.orders.set_intake(intake);
        if let Some(slots) = parts.keepers.pool.look(&parts.vitals) {
            parts.orders.set_slots(slots);
        }
        parts.keepers.agents.look();
        let lives = parts.vitals.shards();
        watchdog.feed(&lives, Instant::now());
        if let Some(shard) = lives.iter().position(|life| life.reading.is_halted) {
            return Reason::Halted(shard as u16);
        }
        if parts.nets.iter().any(NetThread::is_finished) {
            return Reason::NetCoreGone;
        }
        if parts.cluster.as_ref().is_some_and(|cluster| cluster.fault().is_some()) {
            return Reason::Lost;
        }
    }
}

/// No new work; what runs may finish within `timeout`, or until a second signal ends it all.
async fn drain(parts: &Parts, signals: &mut Signals, timeout: Duration) {
    parts.vitals.enter(Stage::Draining);
    let deadline = Instant::now() + timeout;
    if let Some(cluster) = &parts.cluster {
        hand_over(cluster, signals, deadline).await;
    }
    parts.orders.set_intake(Intake::Draining);
    parts.orders.set_phase(Phase::Draining);
    let mut poll = interval(DRAIN_POLL);
    // The order to the shards is under way; they are quiet only after they have taken it.
    let mut quiet = 0;
    while quiet < 3 && Instant::now() < deadline {
        tokio::select! {
            () = signals.any() => end_at_once(),
            _ = poll.tick() => {}
        }
        let lives = parts.vitals.shards();
        let is_busy = lives.iter().any(|life| {
            !life.reading.is_halted && (0 < life.reading.calls || 0 < life.reading.unsaved)
        });
        quiet = if is_busy { 0 } else { quiet + 1 };
    }
    if quiet < 3 {
        let left = "drainTimeout is over; what still runs goes on at the next start";
        tracing::warn!(target: "shutdown", left);
    }
}

/// Gives what the node has to the others, while it still answers; as far as that is done in time.
async fn hand_over(cluster: &ClusterThreads, signals: &mut Signals, deadline: Instant) {
    cluster.drain();
    let mut poll = interval(DRAIN_POLL);
    while !cluster.is_drained() && Instant::now() < deadline {
        tokio::select! {
            () = signals.any() => end_at_once(),
            _ = poll.tick() => {}
        }
    }
}

fn end_at_once() {
    tracing::warn!(target: "shutdown", "second signal: ending at once");
    std::process::exit(i32::from(EXIT_DONE));
}

/// Ends the threads in reverse, each part within its time: see [`crate::shutdown`].
fn stop(parts: Parts, reason: Reason) -> Result<()> {
    let overseer = Overseer::start(|late: Handler| {
        let timeout_s = late.timeout.as_secs();
        let so = "ended by force; what was acknowledged is on the disk";
        tracing::error!(target: "shutdown", handler = late.name, timeout_s, so, "took too long");
        std::process::exit(i32::from(EXIT_FAILED));
    });
    parts.orders.set_phase(Phase::Stopping);
    overseer.begin(shutdown::NET_CORES);
    let mut ended = Ok(());
    for net in parts.nets {
        let of_net = net.join();
        if ended.is_ok() {
            ended = of_net;
        }
    }
    overseer.begin(shutdown::SHARDS);
    let mut halted = None;
    for (number, shard) in parts.shards.into_iter().enumerate() {
        if let Ended::Failed(_) = shard.join() {
            halted = Some(number as u16);
        }
    }
    overseer.begin(shutdown::CLUSTER);
    let lost = parts.cluster.as_ref().and_then(ClusterThreads::fault);
    if let Some(cluster) = parts.cluster {
        cluster.stop(halted.is_none() && lost.is_none());
    }
    overseer.begin(shutdown::GUARDS);
    parts.guards.stop();
    overseer.begin(shutdown::READER);
    parts.reader.stop();
    overseer.begin(shutdown::STORE);
    drop(parts.checkpoints);
    drop(parts.store);
    drop(overseer);
    if let Reason::Halted(shard) = reason {
        halted = Some(shard);
    }
    if let Some(why) = lost {
        return Err(Error::Lost { why });
    }
    if let Some(shard) = halted {
        return Err(Error::Disk { shard });
    }
    tracing::info!(target: "shutdown", "stopped");
    ended
}
