//! Long polls for a task's end, and streams of its events.

use super::{Gated, Machine};
use crate::command::{Answer, Refusal};
use crate::effect::Effect;
use crate::event::Record;
use crate::id::{ReplyTo, TaskId};
use crate::limits::{WATCHERS_MAX, WATCHERS_PER_TASK_MAX};
use crate::partition::{Held, Watchers};

impl Machine {
    pub(super) fn watch(&mut self, reply: ReplyTo, id: TaskId) {
        let Some(held) = self.held(id) else {
            return self.refuse(reply, self.missing(id));
        };
        if held.task.state.is_ended() {
            let task = Box::new(held.task.clone());
            return self.reply(reply, Answer::Task(task));
        }
        if let Some(watchers) = self.room_to_watch(id) {
            watchers.polls.push(reply);
            self.watchers_len += 1;
        } else {
            self.refuse(reply, Refusal::OverLimit { what: "the task" });
        }
    }

    pub(super) fn unwatch(&mut self, reply: ReplyTo, id: TaskId) {
        let Some(held) = self.held_mut(id) else { return };
        let Some(watchers) = &mut held.watchers else { return };
        let before = watchers.polls.len();
        watchers.polls.retain(|poll| *poll != reply);
        let removed = before - watchers.polls.len();
        forget_if_empty(held);
        let task = Box::new(held.task.clone());
        self.watchers_len -= removed;
        if 0 < removed {
            self.reply(reply, Answer::Task(task));
        }
    }

    pub(super) fn subscribe(&mut self, reply: ReplyTo, id: TaskId) {
        let Some(held) = self.held(id) else {
            return self.refuse(reply, self.missing(id));
        };
        let (n, state) = (held.task.events, held.task.state);
        if state.is_ended() {
            // Of this batch, or a dead letter: no event would ever tell the stream to end.
            return self.refuse(reply, Refusal::TaskEnded { task: id, state });
        }
        if let Some(watchers) = self.room_to_watch(id) {
            watchers.streams.push(reply);
            self.watchers_len += 1;
            self.reply(reply, Answer::Subscribed { n });
        } else {
            self.refuse(reply, Refusal::OverLimit { what: "the task" });
        }
    }

    pub(super) fn unsubscribe(&mut self, reply: ReplyTo, id: TaskId) {
        let Some(held) = self.held_mut(id) else { return };
        let Some(watchers) = &mut held.watchers else { return };
        let before = watchers.streams.len();
        watchers.streams.retain(|stream| *stream != reply);
        let removed = before - watchers.streams.len();
        forget_if_empty(held);
        self.watchers_len -= removed;
    }

    fn room_to_watch(&mut self, id: TaskId) -> Option<&mut Watchers> {
        if WATCHERS_MAX <= self.watchers_len {
            return None;
        }
        let held = self.held_mut(id)?;
        if WATCHERS_PER_TASK_MAX <= held.watchers_len() {
            return None;
        }
        Some(held.watchers.get_or_insert_default())
    }

    /// Sends an event to those who follow its task, and its end to those who wait for it.
    pub(super) fn publish(&mut self, record: &Record) {
        let is_end = record.event.is_end();
        let Some(held) = super::held_mut(&mut self.partitions, record.task) else { return };
        let Some(watchers) = &mut held.watchers else { return };
        let mut gone = 0;
        for to in &watchers.streams {
            let effect = Effect::Publish { to: *to, record: record.clone(), is_last: is_end };
            self.open.gated.push(Gated::Effect(effect));
        }
        if is_end {
            for to in watchers.polls.drain(..) {
                let answer = Answer::Task(Box::new(held.task.clone()));
                self.open.gated.push(Gated::Effect(Effect::Reply { to, answer }));
                gone += 1;
            }
            gone += watchers.streams.len();
            watchers.streams.clear();
        }
        forget_if_empty(held);
        self.watchers_len -= gone;
    }
}

fn forget_if_empty(held: &mut Held) {
    if held.watchers_len() == 0 {
        held.watchers = None;
    }
}
