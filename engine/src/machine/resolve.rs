//! Settling a call whose outcome a crash left unknown: somebody says what happened.

use super::Machine;
use crate::agent::state::{OpenState, OpenStep};
use crate::command::{Answer, Refusal, Resolution};
use crate::event::Event;
use crate::id::{ReplyTo, TaskId};
use crate::task::State;
use crate::time::Now;

impl Machine {
    pub(super) fn resolve(&mut self, now: Now, reply: ReplyTo, id: TaskId, resolution: Resolution) {
        let Some(held) = self.held(id) else {
            return self.refuse(reply, self.missing(id));
        };
        let state = held.task.state;
        let is_unknown = |open: &&OpenStep| open.state == OpenState::Unknown;
        let run = held.task.run.as_ref();
        let open = run.and_then(|run| run.open.iter().find(is_unknown)).cloned();
        let (State::Waiting, Some(open)) = (state, open) else {
            return self.refuse(reply, Refusal::WrongState { task: id, state });
        };
        match resolution {
            Resolution::Done(output) => self.step_ended(now, id, &open, output),
            Resolution::Retry => self.record(now, id, Event::StepReset { step: open.step }),
            Resolution::Fail => {
                let message = format!("{} was resolved as failed", open.name);
                self.dead_letter(now, id, "outcome_unknown", &message);
            }
        }
        let task = Box::new(self.held(id).expect("still held").task.clone());
        self.reply(reply, Answer::Task(task));
    }
}
