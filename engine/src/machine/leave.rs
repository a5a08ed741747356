//! Taking a partition in while the shard runs, and letting one go: how partitions move between
//! nodes that share a store.
//!
//! A partition that is to go starts nothing new; what runs may end, within a time. Then it is
//! dropped between two batches, and the answer hangs on the last one that wrote of it: whoever has
//! the answer knows that this shard writes no more of the partition. Who waits for the end of a
//! task is shown it as it is; who follows its events is told that it moved, and so is what is asked
//! of it later.

use super::recover::LastStop;
use super::{Bug, Gated, Machine};
use crate::breaker::{Breaker, Verdict};
use crate::command::{Answer, Refusal};
use crate::effect::Effect;
use crate::id::{PartitionId, ReplyTo, TaskId};
use crate::partition::Held;
use crate::port::Loaded;
use crate::task::State;
use crate::time::{Mono, Now};

/// A partition on its way out.
pub(super) struct Leaving {
    partition: PartitionId,
    replies: Vec<ReplyTo>,
    /// Past this nothing is waited for.
    until: Mono,
    /// What ran when it began, and may still.
    running: Vec<TaskId>,
    /// Whether it goes with the next batch that is closed.
    is_due: bool,
}

impl Machine {
    /// Takes a partition as its store has it. Answers at once where it is held already.
    pub(super) fn adopt(
        &mut self,
        now: Now,
        reply: ReplyTo,
        partition: PartitionId,
        (loaded, last_stop): (Loaded, LastStop),
    ) {
        if self.partition(partition).is_none() {
            // It may have been here before, and its ready tasks be forgotten but not yet gone.
            self.queue.purge();
            self.load(now, partition, loaded, last_stop);
        }
        self.reply(reply, Answer::Done);
    }

    /// Begins to let a partition go; what runs has `within_ms` to end. Answers at once where it is
    /// not held.
    pub(super) fn leave(
        &mut self,
        now: Now,
        reply: ReplyTo,
        partition: PartitionId,
        within_ms: u64,
    ) {
        if let Some(leaving) = self.leaving.iter_mut().find(|at| at.partition == partition) {
            leaving.until = leaving.until.min(now.mono + within_ms);
            return leaving.replies.push(reply);
        }
        let Some(state) = self.partition_mut(partition) else {
            return self.reply(reply, Answer::Done);
        };
        state.is_leaving = true;
        let is_ready = |held: &&Held| held.is_queued;
        let ready: Vec<TaskId> =
            state.tasks.values().filter(is_ready).map(|held| held.task.id).collect();
        let is_running = |held: &&Held| held.task.state == State::Running;
        let running = state.tasks.values().filter(is_running).map(|held| held.task.id).collect();
        if !self.has_bug(Bug::LeaveKeepsReady) {
            ready.into_iter().for_each(|id| self.unqueue(id));
        }
        let (replies, until) = (vec![reply], now.mono + within_ms);
        self.leaving.push(Leaving { partition, replies, until, running, is_due: false });
    }

    /// Whether a task's partition is on its way out.
    pub(super) fn is_leaving(&self, id: TaskId) -> bool {
        !self.leaving.is_empty()
            && self.partition(id.partition()).is_some_and(|state| state.is_leaving)
    }

    /// Looks which partitions can go with the next batch.
    pub(super) fn go_on_leaving(&mut self, now: Now) {
        let mut all = std::mem::take(&mut self.leaving);
        for leaving in &mut all {
            // A worker's lease goes on under the next owner.
            leaving.running.retain(|id| {
                let running = self.held(*id).filter(|held| held.task.state == State::Running);
                running.is_some_and(|held| held.lease().is_none() && !self.drained.contains(id))
            });
            leaving.is_due = leaving.running.is_empty() || leaving.until <= now.mono;
        }
        self.leaving = all;
    }

    /// When the next partition goes whatever still runs.
    pub(super) fn leaves_at(&self) -> Option<Mono> {
        self.leaving.iter().map(|leaving| leaving.until).min()
    }

    /// Whether a partition waits for no more than a batch to be closed.
    pub(super) fn has_leave_due(&self) -> bool {
        self.leaving.iter().any(|leaving| leaving.is_due)
    }

    /// Drops what is due to go. Called between two batches, when no task is touched.
    pub(super) fn drop_leaving(&mut self) {
        assert!(self.open.touched.is_empty() && self.open.removed.is_empty());
        while let Some(at) = self.leaving.iter().position(|leaving| leaving.is_due) {
            let Leaving { partition, replies, .. } = self.leaving.swap_remove(at);
            self.drop_partition(partition);
            for to in replies {
                let done = Effect::Reply { to, answer: Answer::Done };
                match self.has_bug(Bug::LeaveTooEarly) {
                    true => self.open.at_once.push(done),
                    false => self.open.gated.push(Gated::Effect(done)),
                }
            }
        }
    }

    fn drop_partition(&mut self, partition: PartitionId) {
        let state = self.partitions[usize::from(partition.0)].take();
        let mut state = state.expect("a leaving partition is held");
        self.keys_len -= state.keys.len();
        self.satisfaction.drop_partition(partition);
        let ids: Vec<TaskId> = state.tasks.values().map(|held| held.task.id).collect();
        for id in ids {
            let held = state.tasks.remove(id).expect("just listed");
            self.forget_held(held);
        }
    }

    /// Takes everything back that is derived from a task.
    fn forget_held(&mut self, mut held: Held) {
        let id = held.task.id;
        assert!(!held.is_queued && !held.is_touched);
        for timer in [held.wall_timer.take(), held.deadline_timer.take()].into_iter().flatten() {
            self.wall.cancel(timer);
        }
        if let Some(active) = held.active.take() {
            if let Some(timer) = active.mono_timer {
                self.mono.cancel(timer);
            }
            if let Some(slot) = active.slot.filter(|_| !self.has_bug(Bug::LeaveLeaksSlots)) {
                self.slots.release(slot);
                let abort = Effect::Abort { task: id, fence: held.task.fence };
                self.open.gated.push(Gated::Effect(abort));
            }
        }
        if held.is_counted {
            self.agents.leave(held.lane, held.key);
        }
        if let Some(rules) = self.limits.breaker {
            // A probe that went elsewhere says nothing; the next one may start.
            let is_over = |breaker: &mut Breaker| {
                breaker.ended(Mono(0), id, Verdict::None, &rules);
            };
            self.agents.change_breaker(held.lane, is_over);
        }
        self.drained.remove(&id);
        if self.suspect_running == Some(id) {
            self.suspect_running = None;
        }
        self.watchers_len -= held.watchers_len();
        if let Some(watchers) = held.watchers.take() {
            for to in watchers.streams {
                self.reply(to, Answer::Refused(Refusal::Moved(id.partition())));
            }
            // One of them may be the submission itself: told that it moved, it would be made again.
            for to in watchers.polls {
                self.reply(to, Answer::Task(Box::new(held.task.clone())));
            }
        }
        self.agents.release_key(held.key);
        let state = held.task.state;
        if !state.is_ended() || state == State::Failed {
            self.agents.stats_mut(held.lane).live[state as usize] -= 1;
        }
        self.live_tasks -= 1;
        self.live_bytes -= held.task.input.resident_bytes();
    }

    /// Why a task is not found: it is not live, or its partition is another node's.
    pub(super) fn missing(&self, id: TaskId) -> Refusal {
        match self.partition(id.partition()) {
            Some(_) => Refusal::NotLive(id),
            None => Refusal::Moved(id.partition()),
        }
    }
}
