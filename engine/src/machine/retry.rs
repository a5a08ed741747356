//! Sending dead letters round again: one by request, or many in pieces.

use super::Machine;
use crate::command::{Answer, Refusal};
use crate::event::Event;
use crate::id::{ReplyTo, TaskId};
use crate::limits::TURN_REDRIVES_MAX;
use crate::task::{State, Task};
use crate::time::Now;
use std::sync::Arc;

/// A redrive under way: what is left of it, and what it came to so far.
pub(super) struct Redrive {
    reply: ReplyTo,
    left: Vec<TaskId>,
    redriven: u64,
}

/// Redrives under way at once.
const REDRIVES_MAX: usize = 16;

impl Machine {
    pub(super) fn retry(&mut self, now: Now, reply: ReplyTo, id: TaskId) {
        let Some(held) = self.held(id) else {
            return self.refuse(reply, self.missing(id));
        };
        if held.task.state != State::Failed || self.open.removed.contains(&id) {
            let state = held.task.state;
            return self.refuse(reply, Refusal::WrongState { task: id, state });
        }
        self.send_round(now, id);
        let task = Box::new(self.held(id).expect("still held").task.clone());
        self.reply(reply, Answer::Task(task));
    }

    fn send_round(&mut self, now: Now, id: TaskId) {
        let ready_seq = self.next_ready_seq(id.partition());
        let key = self.held(id).expect("a dead letter is held").task.key();
        self.record(now, id, Event::Retried { ready_seq });
        if let Some(key) = key {
            self.set_key_expiry(id.partition(), key.hash, None);
        }
    }

    pub(super) fn redrive(
        &mut self,
        reply: ReplyTo,
        tenant: Option<Arc<str>>,
        agent: Option<Arc<str>>,
    ) {
        if REDRIVES_MAX <= self.redrives.len() {
            return self.refuse(reply, Refusal::OverLimit { what: "redrives" });
        }
        let is_meant = |task: &Task| {
            task.state == State::Failed
                && tenant.as_ref().is_none_or(|tenant| task.tenant == *tenant)
                && agent.as_ref().is_none_or(|agent| task.agent == *agent)
        };
        let partitions = self.partitions.iter().flatten();
        let mut left: Vec<TaskId> = partitions
            .flat_map(|partition| partition.tasks.values())
            .filter(|held| is_meant(&held.task))
            .map(|held| held.task.id)
            .collect();
        // Popped from the end: the oldest first.
        left.sort_unstable_by(|a, b| b.cmp(a));
        self.redrives.push_back(Redrive { reply, left, redriven: 0 });
    }

    /// Does a piece of the first redrive; whether there is more to do.
    pub(super) fn go_on_redriving(&mut self, now: Now) -> bool {
        let Some(mut redrive) = self.redrives.pop_front() else { return false };
        for _ in 0..TURN_REDRIVES_MAX {
            let Some(id) = redrive.left.pop() else {
                self.reply(redrive.reply, Answer::Count(redrive.redriven));
                return !self.redrives.is_empty();
            };
            let is_dead = |id| self.held(id).is_some_and(|held| held.task.state == State::Failed);
            if is_dead(id) && !self.open.removed.contains(&id) {
                self.send_round(now, id);
                redrive.redriven += 1;
            }
        }
        self.redrives.push_front(redrive);
        true
    }
}
