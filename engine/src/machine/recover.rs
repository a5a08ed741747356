//! Loading a partition: the ordinary path after every start, crash or not.
//!
//! What ran here when the process stopped is interrupted, by an event, and queued again; what a
//! worker runs goes on under a fresh lease. Ready tasks are queued in the order in which they
//! became ready.

use super::expire::Timer;
use super::{Bug, Machine};
use crate::agent::definition::Kind;
use crate::event::Event;
use crate::id::{PartitionId, TaskId};
use crate::limits::{CRASHES_MAX, LEASE_MS};
use crate::partition::PartitionState;
use crate::port::Loaded;
use crate::task::{Lease, State};
use crate::time::Now;

/// How the process that held a partition before had stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastStop {
    /// Drained: nothing that ran is to blame.
    Clean,
    /// Crashed or was killed: what ran is suspect.
    Crash,
}

impl Machine {
    /// Takes a partition as its store has it. Agents must be known before.
    pub fn load(&mut self, now: Now, id: PartitionId, loaded: Loaded, last_stop: LastStop) {
        let at = usize::from(id.0);
        if self.partitions.len() <= at {
            self.partitions.resize_with(at + 1, || None);
        }
        assert!(self.partitions[at].is_none(), "a partition was loaded twice");
        let mut state = PartitionState::new(id);
        state.tasks.reserve(loaded.tasks.len());
        self.partitions[at] = Some(Box::new(state));
        // Boxed before they are sorted: a header is large, its box is not.
        let mut tasks: Vec<_> = loaded.tasks.into_iter().map(|task| self.hold(task)).collect();
        if !self.has_bug(Bug::OrderLost) {
            tasks.sort_unstable_by_key(|held| (held.task.ready_seq, held.task.id));
        }
        for held in tasks {
            let task = &held.task;
            assert_eq!(task.id.partition(), id, "a task of another partition");
            assert!(!task.state.is_ended() || task.state == State::Failed);
            let (task_id, ready_seq) = (task.id, task.ready_seq);
            let was_running = task.state == State::Running;
            let state = self.partition_mut(id).expect("just put there");
            state.ready_seq = state.ready_seq.max(ready_seq);
            let before = state.tasks.insert(task_id, held);
            assert!(before.is_none(), "a task was loaded twice");
            self.index(now, task_id, None);
            // At once, so that it is queued in its place.
            if was_running {
                self.recover(now, task_id, last_stop);
            }
        }
        for row in loaded.keys {
            self.keys_len += 1;
            if let Some(at) = row.expires_at {
                self.wall.insert(at.0, Timer::Key(id, row.hash));
            }
            let state = self.partition_mut(id).expect("just put there");
            state.keys.insert(row.hash, row);
        }
    }

    fn recover(&mut self, now: Now, id: TaskId, last_stop: LastStop) {
        let held = self.held(id).expect("just loaded");
        let (lane, key, crashes) = (held.lane, held.key, held.task.crashes);
        let kind = self.agents.get(&held.task.agent).map(|agent| agent.kind);
        if kind == Some(Kind::Worker) {
            self.agents.enter_loaded(lane, key);
            let held = self.held_mut(id).expect("just loaded");
            held.is_counted = true;
            held.task.lease = Some(Lease { expires_at: now.mono + LEASE_MS, lease_ms: LEASE_MS });
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
        let fence = self.held(id).expect("just loaded").task.fence.next();
        self.record(now, id, Event::Interrupted { crashes, fence });
    }
}
