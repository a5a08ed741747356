//! Cancelling: ends the task at once, drops its calls, and remembers for a while to tell its
//! worker.

use super::{Bug, Machine};
use crate::command::{Answer, Refusal};
use crate::event::Event;
use crate::id::{Fence, ReplyTo, TaskId};
use crate::map::Map;
use crate::time::Now;
use std::collections::VecDeque;

/// Cancelled tasks whose workers may still send heartbeats.
const RECENT_MAX: usize = 10_000;

/// The last cancelled tasks with the fences of their leases; the oldest are forgotten.
#[derive(Default)]
pub(super) struct Recent {
    fences: Map<TaskId, Fence>,
    order: VecDeque<TaskId>,
}

impl Recent {
    pub(super) fn has(&self, id: TaskId, fence: Fence) -> bool {
        self.fences.get(&id) == Some(&fence)
    }

    fn add(&mut self, id: TaskId, fence: Fence) {
        if RECENT_MAX <= self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.fences.remove(&oldest);
        }
        self.order.push_back(id);
        self.fences.insert(id, fence);
        assert!(self.order.len() <= RECENT_MAX);
    }
}

impl Machine {
    pub(super) fn cancel(&mut self, now: Now, reply: ReplyTo, id: TaskId) {
        let Some(held) = self.held(id) else {
            return self.refuse(reply, self.missing(id));
        };
        let state = held.task.state;
        if state.is_ended() {
            return self.refuse(reply, Refusal::TaskEnded { task: id, state });
        }
        let fence = held.task.fence;
        if held.lease().is_some() {
            self.cancelled.add(id, fence);
        }
        if !self.has_bug(Bug::CancelLoses) {
            self.abort(id, fence);
            self.record(now, id, Event::Cancelled);
        }
        let task = Box::new(self.held(id).expect("held until its batch closes").task.clone());
        self.reply(reply, Answer::Task(task));
    }
}
