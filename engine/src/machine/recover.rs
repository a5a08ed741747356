//! Loading partitions: the ordinary path after every start, crash or not.
//!
//! Tasks come one by one and each goes to its place at once; what has to be in order, the ready
//! ones and those that ran, is sorted at the end by small keys. A million tasks are then never in
//! memory twice.
//!
//! What ran here when the process stopped is interrupted, by an event, and queued again; what a
//! worker runs goes on under a fresh lease. Ready tasks are queued in the order in which they
//! became ready.

use super::expire::Timer;
use super::{Bug, Machine, index};
use crate::agent::definition::Kind;
use crate::event::{Event, KeyRow};
use crate::id::{PartitionId, TaskId};
use crate::limits::{CRASHES_MAX, LEASE_MS};
use crate::partition::PartitionState;
use crate::port::{Load, Loaded};
use crate::satisfaction::WINDOW_MS;
use crate::task::{Lease, State, Task};
use crate::time::{Millis, Now};
use std::sync::Arc;

/// How the process that held a partition before had stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastStop {
    /// Drained: nothing that ran is to blame.
    Clean,
    /// Crashed or was killed: what ran is suspect.
    Crash,
}

/// Tasks that are loaded and have yet to be put in order.
pub(super) type Unordered = Vec<(PartitionId, u64, TaskId)>;

impl Machine {
    /// Takes partitions as their store has them, in one go. Agents must be known before.
    ///
    /// # Errors
    /// What the store said; the machine is of no use then.
    pub fn load_all(
        &mut self,
        now: Now,
        partitions: &[PartitionId],
        store: &mut impl Load,
        last_stop: LastStop,
    ) -> crate::Result<()> {
        self.begin_load(partitions);
        store.tasks(partitions, &mut |task| self.load_task(now, task))?;
        store.keys(partitions, &mut |row| self.load_key(row))?;
        let since = Millis(now.wall.0.saturating_sub(WINDOW_MS));
        store.feedback(partitions, since, &mut |row| self.satisfaction.put(&row))?;
        self.end_load(now, last_stop);
        Ok(())
    }

    /// [`Machine::load_all`] of one partition that is at hand as a whole.
    pub fn load(&mut self, now: Now, id: PartitionId, loaded: Loaded, last_stop: LastStop) {
        self.begin_load(&[id]);
        loaded.tasks.into_iter().for_each(|task| self.load_task(now, task));
        loaded.keys.into_iter().for_each(|row| self.load_key(row));
        loaded.feedback.iter().for_each(|row| self.satisfaction.put(row));
        self.end_load(now, last_stop);
    }

    /// Makes partitions without tasks.
    fn begin_load(&mut self, partitions: &[PartitionId]) {
        for id in partitions {
            let at = usize::from(id.0);
            if self.partitions.len() <= at {
                self.partitions.resize_with(at + 1, || None);
            }
            assert!(self.partitions[at].is_none(), "a partition was loaded twice");
            self.partitions[at] = Some(Box::new(PartitionState::new(*id)));
        }
    }

    fn load_task(&mut self, now: Now, task: Task) {
        assert!(!task.state.is_ended() || task.state == State::Failed);
        let (id, ready_seq) = (task.id, task.ready_seq);
        let needs_order = index::is_ready(&task) || task.state == State::Running;
        let mut held = self.hold(task);
        if let Some(run) = held.task.run.as_mut().map(Arc::make_mut) {
            let own = &held.task.agent;
            let agent = self.agents.get(own);
            // A sleep's step has its agent's name.
            run.share_names(|name| if **own == *name { Some(own) } else { agent?.name(name) });
        }
        let partition = self.partition_mut(id.partition()).expect("a task of another partition");
        partition.ready_seq = partition.ready_seq.max(ready_seq);
        partition.tasks.insert_settled(held);
        if needs_order {
            self.unordered.push((id.partition(), ready_seq, id));
        } else {
            self.index(now, id, None);
        }
    }

    fn load_key(&mut self, row: KeyRow) {
        self.keys_len += 1;
        if let Some(at) = row.expires_at {
            self.wall.insert(at.0, Timer::key(row.partition, row.hash));
        }
        let partition = self.partition_mut(row.partition).expect("a key of another partition");
        partition.keys.insert(row);
    }

    fn end_load(&mut self, now: Now, last_stop: LastStop) {
        let mut unordered = std::mem::take(&mut self.unordered);
        if !self.has_bug(Bug::OrderLost) {
            unordered.sort_unstable();
        }
        for (_, _, id) in unordered {
            self.index(now, id, None);
            // At once, so that it is queued in its place.
            if self.held(id).expect("just loaded").task.state == State::Running {
                self.recover(now, id, last_stop);
            }
        }
    }

    fn recover(&mut self, now: Now, id: TaskId, last_stop: LastStop) {
        let held = self.held(id).expect("just loaded");
        let (lane, key, crashes) = (held.lane, held.key, u32::from(held.task.crashes));
        let kind = self.agents.get(&held.task.agent).map(|agent| agent.kind);
        // After a restore nobody knows who holds it by now.
        let is_known = self.fences_from <= held.task.fence;
        if kind == Some(Kind::Worker) && is_known {
            self.agents.enter_loaded(lane, key);
            let held = self.held_mut(id).expect("just loaded");
            held.is_counted = true;
            held.active_mut().lease =
                Some(Lease { expires_at: now.mono + LEASE_MS, lease_ms: LEASE_MS });
            return self.set_mono_timer(id);
        }
        if self.has_bug(Bug::LostAfterCrash) {
            return;
        }
        let is_counted = last_stop == LastStop::Crash && !self.has_bug(Bug::PoisonNotCounted);
        let crashes = crashes + u32::from(is_counted);
        if CRASHES_MAX <= crashes {
            let message = format!("it ran during {crashes} crashes of the process in a row");
            return self.dead_letter(now, id, "poison", &message);
        }
        let fence = self.fence_after(self.held(id).expect("just loaded").task.fence);
        self.record(now, id, Event::Interrupted { crashes, fence });
    }
}
