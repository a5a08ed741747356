//! Refusal before work: what a submission or a lease must pass before its body is read.
//!
//! A queue has a bound, and past it new work is refused, so that accepted work keeps its latency
//! (DESIGN §6). There are two queues. Requests that came wait for the net core's time in [`turns`],
//! and what was sent waits for its shard: [`wait`] foretells how long. The shard has bounds of its
//! own (live tasks, bytes, keys) and refuses by them.

pub mod codel;
pub mod turns;
pub mod wait;

use crate::core::Core;
use crate::problem::{Code, Problem};
use crate::shards::Shards;
use crate::stats::HttpStats;
use no_engine::command::Intake;
use no_engine::id::ShardId;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use turns::{Turns, Verdict};
use wait::Wait;

/// Why new work was refused before anything was done for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The disk is short of room.
    DiskFull,
    /// The process has used the memory that it may.
    MemoryFull,
    /// The node is stopping.
    Draining,
    /// Too many requests wait for an answer.
    PendingFull,
    /// The rings to the shards are full.
    RingFull,
    /// The shards have as many live tasks, or as much of their payload, as they may.
    TasksFull,
    /// It would wait too long for its shard.
    LongWait,
    /// Requests have waited too long for the net core, for too long.
    StandingQueue,
}

/// All reasons, in the order of [`HttpStats`]'s counts.
pub const REFUSED: [Refused; 8] = [
    Refused::DiskFull,
    Refused::MemoryFull,
    Refused::Draining,
    Refused::PendingFull,
    Refused::RingFull,
    Refused::TasksFull,
    Refused::LongWait,
    Refused::StandingQueue,
];

impl Refused {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Refused::DiskFull => "disk_full",
            Refused::MemoryFull => "memory_full",
            Refused::Draining => "draining",
            Refused::PendingFull => "pending_full",
            Refused::RingFull => "ring_full",
            Refused::TasksFull => "tasks_full",
            Refused::LongWait => "long_wait",
            Refused::StandingQueue => "standing_queue",
        }
    }

    fn problem(self) -> Problem {
        match self {
            Refused::DiskFull => Problem::new(Code::DiskFull, ""),
            Refused::MemoryFull => Problem::new(Code::QueueFull, "the node's memory is full"),
            Refused::Draining => Problem::new(Code::Draining, ""),
            Refused::PendingFull => Problem::new(Code::QueueFull, "too many requests are waiting"),
            Refused::RingFull => Problem::new(Code::QueueFull, "the rings to the shards are full"),
            Refused::TasksFull => Problem::new(Code::QueueFull, "there are too many live tasks"),
            Refused::LongWait => Problem::new(Code::QueueFull, "it would wait too long"),
            Refused::StandingQueue => {
                Problem::new(Code::QueueFull, "requests have waited too long for a while")
            }
        }
    }
}

/// What one net core knows about its queues.
pub struct Admission {
    /// Who waits for the net core's time.
    pub turns: Turns,
    wait: RefCell<Wait>,
    /// Tasks that each shard was sent and has not answered.
    awaited: RefCell<Vec<u64>>,
    /// Of the connection that is looked at now.
    verdict: Cell<Verdict>,
    stats: Arc<HttpStats>,
    start: Instant,
}

/// Tasks that were sent to a shard and whose being durable is awaited. Dropped, they are forgotten.
pub struct Sent {
    admission: Rc<Admission>,
    shard: ShardId,
    tasks: u64,
    since_us: u64,
    is_answered: bool,
}

impl Admission {
    /// With nothing waiting for any of so many shards.
    #[must_use]
    pub fn new(shards: usize, stats: Arc<HttpStats>) -> Admission {
        Admission {
            turns: Turns::default(),
            wait: RefCell::default(),
            awaited: RefCell::new(vec![0; shards]),
            verdict: Cell::new(Verdict::Serve),
            stats,
            start: Instant::now(),
        }
    }

    /// Does `work`, one look at a connection, under a verdict about what new work it brings.
    pub fn under<T>(&self, verdict: Verdict, work: impl FnOnce() -> T) -> T {
        self.verdict.set(verdict);
        let done = work();
        self.verdict.set(Verdict::Serve);
        done
    }

    /// So many tasks were sent to that shard.
    #[must_use]
    pub fn sent(self: &Rc<Admission>, shard: ShardId, tasks: u64) -> Sent {
        self.wait.borrow_mut().sent(tasks);
        self.awaited.borrow_mut()[usize::from(shard.0)] += tasks;
        let since_us = self.now_us();
        Sent { admission: Rc::clone(self), shard, tasks, since_us, is_answered: false }
    }

    /// Whether the shard would have room for one more task than those that it was sent. What it has
    /// taken and not answered counts twice, so it may seem full a commit early.
    fn has_room(&self, shards: &Shards, shard: ShardId) -> bool {
        self.awaited.borrow()[usize::from(shard.0)] < shards.room(shard) as u64
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn refuse(&self, why: Refused) -> Problem {
        self.stats.refused(why);
        why.problem()
    }
}

impl Sent {
    /// The shard answered.
    pub fn answered(mut self) {
        let now_us = self.admission.now_us();
        let waited_us = now_us.saturating_sub(self.since_us);
        self.admission.wait.borrow_mut().answered(now_us, self.tasks, waited_us);
        self.is_answered = true;
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.admission.awaited.borrow_mut()[usize::from(self.shard.0)] -= self.tasks;
        if !self.is_answered {
            self.admission.wait.borrow_mut().gone(self.tasks);
        }
    }
}

/// Whether a request for this path is an operator's, which goes before all others.
#[must_use]
pub fn is_operators(path: &str) -> bool {
    ["/health", "/metrics", "/admin"].iter().any(|ours| path.starts_with(ours))
}

/// Whether new tasks are taken.
///
/// # Errors
/// 503 or 507, with `Retry-After`.
pub fn new_tasks(core: &Core) -> Result<(), Problem> {
    let why = match core.intake.get() {
        Intake::Open => new_work(core),
        Intake::DiskFull => Some(Refused::DiskFull),
        Intake::MemoryFull => Some(Refused::MemoryFull),
        Intake::Draining => Some(Refused::Draining),
    };
    why.map_or(Ok(()), |why| Err(core.admission.refuse(why)))
}

/// Whether that shard takes a new task. Its refusal would come after its turn.
///
/// # Errors
/// 503, with `Retry-After`.
pub fn shard(core: &Core, shard: ShardId) -> Result<(), Problem> {
    match core.admission.has_room(&core.shards, shard) {
        true => Ok(()),
        false => Err(core.admission.refuse(Refused::TasksFull)),
    }
}

/// Whether tasks are leased: also while disk or memory is full, as what is done frees room in the
/// end.
///
/// # Errors
/// 503, with `Retry-After`.
pub fn leases(core: &Core) -> Result<(), Problem> {
    let why = match core.intake.get() {
        Intake::Open | Intake::DiskFull | Intake::MemoryFull => room(core),
        Intake::Draining => Some(Refused::Draining),
    };
    why.map_or(Ok(()), |why| Err(core.admission.refuse(why)))
}

fn new_work(core: &Core) -> Option<Refused> {
    if core.admission.verdict.get() == Verdict::Refuse {
        return Some(Refused::StandingQueue);
    }
    let wait = core.admission.wait.borrow();
    core.stats.set_foretold_us(wait.foretold_us());
    if wait.is_too_long() {
        return Some(Refused::LongWait);
    }
    if !core.shards.all().any(|shard| core.admission.has_room(&core.shards, shard)) {
        return Some(Refused::TasksFull);
    }
    room(core)
}

fn room(core: &Core) -> Option<Refused> {
    if core.pending.is_full() {
        return Some(Refused::PendingFull);
    }
    core.shards.is_full().then_some(Refused::RingFull)
}
