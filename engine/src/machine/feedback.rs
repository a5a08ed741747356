//! What somebody says of a task's result. The task may have ended long ago and be in the store
//! alone: nothing of it changes here.

use super::Machine;
use crate::command::Answer;
use crate::event::FeedbackRow;
use crate::id::{ReplyTo, TaskId};
use crate::time::Now;
use std::sync::Arc;

/// The scores that there are.
pub const SCORES: std::ops::RangeInclusive<u8> = 1..=5;

impl Machine {
    /// Keeps a score; a later one of the same task replaces it.
    pub(super) fn feedback(
        &mut self,
        now: Now,
        reply: ReplyTo,
        task: TaskId,
        (agent, score): (Arc<str>, u8),
    ) {
        assert!(SCORES.contains(&score), "checked where it came");
        if self.partition(task.partition()).is_none() {
            return self.refuse(reply, self.missing(task));
        }
        let row = FeedbackRow { task, agent, score, at: now.wall };
        self.satisfaction.put(&row);
        self.open.batch.feedback.push(row);
        self.reply(reply, Answer::Done);
    }
}
