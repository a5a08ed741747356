//! The machine of one shard: commands and timers in, events and effects out. Pure: the clocks come
//! in with every call, randomness from a seeded generator, and nothing leaves but values.
//!
//! This file only names the parts and passes calls on; each verb stands in a file of its own.
//!
//! | from | event | to |
//! | --- | --- | --- |
//! | (none) | `submitted` | `queued`, or `scheduled` with a `run_at` to come |
//! | `scheduled` | `queued` | `queued` |
//! | `queued` | `started` | `running` |
//! | `running` | `step_started` `step_ended` `step_failed` `step_unknown` | `running` |
//! | `running` | `waited` | `waiting` |
//! | `waiting` | `step_ended` (a timer) `step_reset` | `waiting` |
//! | `waiting` | `woken` | `running` |
//! | `running` | `retry_scheduled` | `scheduled` |
//! | `running` | `interrupted` (the process had crashed) | `queued` |
//! | `running` | `succeeded` | `succeeded` |
//! | any but ended | `dead_lettered` | `failed` |
//! | any but ended | `cancelled` | `cancelled` |
//! | `failed` | `retried` | `queued` |
//! | `failed` | `removed` | (none) |

mod agents;
pub mod apply;
mod bugs;
mod cancel;
mod close;
mod expire;
mod feedback;
mod index;
mod judge;
mod lease;
mod leave;
mod recover;
mod report;
mod resolve;
mod retry;
mod start;
mod step;
mod submit;
mod watch;

pub use bugs::{BUGS, Bug};
pub use close::Gated;
pub use feedback::SCORES;
pub use recover::LastStop;

use crate::command::{Answer, Command, Intake, Refusal};
use crate::effect::Effect;
use crate::event::{Batch, Event, Record};
use crate::id::{Fence, PartitionId, ReplyTo, ShardId, TaskId};
use crate::limits::{HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX, HISTORY_WARNED_AT, Limits};
use crate::map::Map;
use crate::partition::{Held, PartitionState};
use crate::queue::{LaneId, ReadyQueue};
use crate::rng::Rng;
use crate::satisfaction::Satisfaction;
use crate::slot::Slots;
use crate::stats::ShardStats;
use crate::time::Now;
use crate::wheel::Wheel;
use std::collections::VecDeque;
use std::sync::Arc;

/// Everything that one shard decides from and about.
pub struct Machine {
    shard: ShardId,
    limits: Limits,
    intake: Intake,
    is_journal_full: bool,
    rng: Rng,
    /// Fences are given from here on; lower ones are of a store that this one was restored from.
    fences_from: Fence,
    partitions: Vec<Option<Box<PartitionState>>>,
    agents: agents::Agents,
    queue: ReadyQueue,
    /// Interrupted by two crashes: started one at a time.
    suspects: VecDeque<TaskId>,
    suspect_running: Option<TaskId>,
    /// Loops that stopped between two steps because the node is draining: they hold slots, no
    /// calls.
    drained: crate::map::Set<TaskId>,
    slots: Slots,
    wall: Wheel<expire::Timer>,
    mono: Wheel<expire::Timer>,
    ages_at_mono: u64,
    redrives: VecDeque<retry::Redrive>,
    leaving: Vec<leave::Leaving>,
    satisfaction: Satisfaction,
    lease_waiters: Map<LaneId, VecDeque<ReplyTo>>,
    lease_waiters_len: usize,
    watchers_len: usize,
    cancelled: cancel::Recent,
    unordered: recover::Unordered,
    live_tasks: usize,
    live_bytes: usize,
    keys_len: usize,
    open: close::Open,
    stats: ShardStats,
    bugs: bugs::Bugs,
}

impl Machine {
    /// The machine of `shard` without any partition yet, at `now`, drawing from `seed`.
    #[must_use]
    pub fn new(shard: ShardId, limits: Limits, now: Now, seed: u64) -> Machine {
        Machine {
            shard,
            intake: Intake::Open,
            is_journal_full: false,
            rng: Rng::new(seed),
            fences_from: Fence(0),
            agents: agents::Agents::new(seed.rotate_left(32) ^ 0x5851_f42d_4c95_7f2d),
            partitions: Vec::new(),
            queue: ReadyQueue::new(limits.ageing_ms),
            suspects: VecDeque::new(),
            suspect_running: None,
            drained: crate::map::Set::default(),
            slots: Slots::new(limits.slots),
            wall: Wheel::new(now.wall.0),
            mono: Wheel::new(now.mono.0),
            ages_at_mono: now.mono.0 + limits.ageing_ms / 4,
            redrives: VecDeque::new(),
            leaving: Vec::new(),
            satisfaction: Satisfaction::default(),
            lease_waiters: Map::default(),
            lease_waiters_len: 0,
            watchers_len: 0,
            cancelled: cancel::Recent::default(),
            unordered: recover::Unordered::new(),
            live_tasks: 0,
            live_bytes: 0,
            keys_len: 0,
            open: close::Open::default(),
            stats: ShardStats::new(shard),
            bugs: bugs::Bugs::default(),
            limits,
        }
    }

    /// Gives no fence below this one, and trusts none. To be said before loading; 0 at first.
    ///
    /// A restored store has forgotten what was given after its backup was made, so what it gives
    /// itself must be above all of that.
    pub fn set_fences_from(&mut self, from: Fence) {
        self.fences_from = from;
    }

    /// The fence that follows a task's own.
    pub(super) fn fence_after(&self, own: Fence) -> Fence {
        own.next().max(self.fences_from)
    }

    /// Decides about one command.
    pub fn decide(&mut self, now: Now, command: Command) {
        match command {
            Command::Submit { reply, tasks, when } => self.submit(now, reply, tasks, when),
            Command::Watch { reply, task } => self.watch(reply, task),
            Command::Unwatch { reply, task } => self.unwatch(reply, task),
            Command::Subscribe { reply, task } => self.subscribe(reply, task),
            Command::Unsubscribe { reply, task } => self.unsubscribe(reply, task),
            Command::Cancel { reply, task } => self.cancel(now, reply, task),
            Command::Retry { reply, task } => self.retry(now, reply, task),
            Command::Redrive { reply, tenant, agent } => self.redrive(reply, tenant, agent),
            Command::Resolve { reply, task, resolution } => {
                self.resolve(now, reply, task, resolution);
            }
            Command::Feedback { reply, task, agent, score } => {
                self.feedback(now, reply, task, (agent, score));
            }
            Command::Lease { reply, agents, tenant, max_tasks, lease_ms, waits } => {
                let ask = lease::Ask { reply, agents, tenant, max_tasks, lease_ms, waits };
                self.lease(now, &ask);
            }
            Command::Unlease { reply } => self.unlease(reply),
            Command::Report { reply, tenant, reports } => self.report(now, reply, &tenant, reports),
            Command::Outcome { task, fence, step, outcome } => {
                self.outcome(now, task, fence, step, outcome);
            }
            Command::KeepAgent { reply, name, kept } => self.keep_agent(reply, name, kept),
            Command::SetAgent { reply, name, set } => self.set_agent(reply, &name, set),
            Command::Stats { reply } => self.answer_stats(now, reply),
            Command::Adopt { reply, partition, loaded, last_stop } => {
                self.adopt(now, reply, partition, (*loaded, last_stop));
            }
            Command::Leave { reply, partition, within_ms } => {
                self.leave(now, reply, partition, within_ms);
            }
            Command::SetIntake(intake) => self.intake = intake,
            Command::SetNodes { nodes } => self.set_nodes(nodes),
            Command::SetPool { slots } => self.set_shares(self.agents.shards(), slots),
        }
    }

    /// Writes a fact about a task, folds it in, and brings what is derived up to date.
    fn record(&mut self, now: Now, task: TaskId, event: Event) {
        let held = held_mut(&mut self.partitions, task).expect("decided about a task that is held");
        let before = index::Standing::of(&held.task);
        let record = Record { task, n: held.task.events + 1, at: now.wall, event: Arc::new(event) };
        let was_long = is_long(&held.task);
        apply::fold(&mut held.task, &record);
        self.stats.long_histories += u64::from(!was_long && is_long(&held.task));
        if !held.is_touched {
            held.is_touched = true;
            self.open.touched.push(task);
        }
        if held.watchers.is_some() {
            self.publish(&record);
        }
        self.open.batch.records.push(record);
        self.index(now, task, Some(before));
    }

    fn held(&self, task: TaskId) -> Option<&Held> {
        let partition = self.partitions.get(usize::from(task.partition().0))?.as_ref()?;
        partition.tasks.get(task)
    }

    fn held_mut(&mut self, task: TaskId) -> Option<&mut Held> {
        held_mut(&mut self.partitions, task)
    }

    fn partition_mut(&mut self, id: PartitionId) -> Option<&mut PartitionState> {
        self.partitions.get_mut(usize::from(id.0))?.as_deref_mut()
    }

    fn reply(&mut self, to: ReplyTo, answer: Answer) {
        self.open.gated.push(Gated::Effect(Effect::Reply { to, answer }));
    }

    fn refuse(&mut self, to: ReplyTo, refusal: Refusal) {
        self.count_refusal(&refusal);
        self.reply(to, Answer::Refused(refusal));
    }

    fn count_refusal(&mut self, refusal: &Refusal) {
        *self.stats.refused.entry(refusal.name()).or_default() += 1;
    }

    /// Decides what may start now and goes on with long work; whether there is more to do at once.
    pub fn go_on_all(&mut self, now: Now) -> bool {
        let more = self.go_on_redriving(now);
        self.start_ready(now);
        self.go_on_leaving(now);
        more
    }

    /// Refuses or takes new tasks because the journal has no room, or has it again.
    pub fn set_journal_full(&mut self, is_full: bool) {
        self.is_journal_full = is_full;
    }

    /// The shard's figures as they are.
    #[must_use]
    pub fn stats(&self) -> &ShardStats {
        &self.stats
    }

    /// The shard's figures, for what the turn around the machine measures.
    pub fn stats_mut(&mut self) -> &mut ShardStats {
        &mut self.stats
    }

    /// A partition's state, for checks.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionState> {
        self.partitions.get(usize::from(id.0))?.as_deref()
    }

    /// What is decided and not yet handed to the journal.
    #[must_use]
    pub fn open_batch(&self) -> &Batch {
        &self.open.batch
    }

    /// Slots that are taken.
    #[must_use]
    pub fn slots_used(&self) -> usize {
        self.slots.used()
    }

    /// Agents that are held back by their breakers.
    #[must_use]
    pub fn agents_held_back(&self) -> usize {
        self.agents.held_back_len()
    }

    /// Tasks with calls of this node's own under way.
    #[must_use]
    pub fn calling(&self) -> usize {
        assert!(self.drained.len() <= self.slots.used(), "a drained loop holds its slot");
        self.slots.used() - self.drained.len()
    }

    /// Ready tasks of this node's own work that find no slot, as far as their agents' bounds let
    /// them run. Looks at every lane: for a look now and then.
    #[must_use]
    pub fn slots_missing(&self) -> usize {
        match self.slots.used() < self.slots.len() {
            true => 0,
            false => self.agents.startable(&self.queue),
        }
    }

    /// New tasks that would be taken: 0 when the payload's bytes are at their bound.
    #[must_use]
    pub fn room(&self) -> usize {
        match self.limits.live_bytes_max <= self.live_bytes {
            true => 0,
            false => self.limits.live_tasks_max.saturating_sub(self.live_tasks),
        }
    }

    fn answer_stats(&mut self, now: Now, reply: ReplyTo) {
        self.stats.slots = self.slots.len() as u64;
        self.stats.slots_active = self.slots.used() as u64;
        self.stats.live_tasks = self.live_tasks as u64;
        self.stats.waiting_since = self.queue.waiting_since();
        self.stats.live_bytes = self.live_bytes as u64;
        self.stats.keys = self.keys_len as u64;
        self.stats.keys_max = self.limits.keys_max as u64;
        let mut agents = self.agents.stats(now.mono);
        for (name, scores) in self.satisfaction.sums(now.wall) {
            agents.entry(name).or_default().feedback = scores;
        }
        let stats = Box::new(ShardStats { agents, ..self.stats.clone() });
        // Figures rest on nothing that must be durable: they go out at once, so that a node whose
        // journal stands still can be looked at.
        self.open.at_once.push(Effect::Reply { to: reply, answer: Answer::Stats(stats) });
    }
}

fn held_mut(partitions: &mut [Option<Box<PartitionState>>], task: TaskId) -> Option<&mut Held> {
    let partition = partitions.get_mut(usize::from(task.partition().0))?.as_mut()?;
    partition.tasks.get_mut(task)
}

/// Whether a task's history has grown to the part of its bounds that is warned of.
fn is_long(task: &crate::task::Task) -> bool {
    HISTORY_EVENTS_MAX / HISTORY_WARNED_AT <= task.events
        || HISTORY_BYTES_MAX / u64::from(HISTORY_WARNED_AT) <= u64::from(task.events_bytes)
}
