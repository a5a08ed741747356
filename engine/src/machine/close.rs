//! Closing a batch: what was decided since the last one, with an image of every task it touched.

use super::{Bug, Machine, held_mut};
use crate::effect::Effect;
use crate::event::{Batch, TaskImage};
use crate::id::{Fence, Seq, TaskId};
use crate::limits::TURN_COMMANDS_MAX;
use crate::task::{State, Task};

/// Something that may happen only once the batch it rests on is durable.
#[derive(Clone, Debug)]
pub enum Gated {
    /// An order to the outside.
    Effect(Effect),
    /// An `echo` attempt that runs here: its end is decided when its start is durable.
    Echo {
        /// The task.
        task: TaskId,
        /// The attempt's fence.
        fence: Fence,
    },
}

/// What is decided and not yet closed.
#[derive(Default)]
pub(super) struct Open {
    pub(super) batch: Batch,
    pub(super) touched: Vec<TaskId>,
    pub(super) gated: Vec<Gated>,
    pub(super) at_once: Vec<Effect>,
    pub(super) removed: Vec<TaskId>,
    /// Empty lists to use again.
    spare: Vec<Vec<Gated>>,
}

/// Lists that are kept for use.
const SPARE_MAX: usize = 4;
/// A larger list is given back to the allocator.
const SPARE_LEN_MAX: usize = 4 * TURN_COMMANDS_MAX;

impl Machine {
    /// Whether there is something to commit or to release.
    #[must_use]
    pub fn has_open(&self) -> bool {
        !self.open.batch.is_empty() || !self.open.gated.is_empty() || self.has_leave_due()
    }

    /// What rests on nothing and may leave now.
    pub fn take_at_once(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.open.at_once)
    }

    /// Closes the open batch as `seq` and hands it out with what may happen once it is durable.
    /// The batch may be empty: then the rest hangs on the batches before it.
    pub fn close(&mut self, seq: Seq) -> (Batch, Vec<Gated>) {
        let mut batch = std::mem::take(&mut self.open.batch);
        // The next one is likely to be as large.
        self.open.batch.records.reserve(batch.records.len().min(TURN_COMMANDS_MAX));
        batch.seq = seq;
        batch.tasks.reserve(self.open.touched.len());
        let mut touched = std::mem::take(&mut self.open.touched);
        for id in touched.drain(..) {
            self.close_task(&mut batch, id);
        }
        self.open.touched = touched;
        for id in std::mem::take(&mut self.open.removed) {
            self.drop_task(id);
            batch.tasks_gone.push(id);
        }
        self.drop_leaving();
        if self.has_bug(Bug::ImageMissing) && 1 < batch.tasks.len() {
            batch.tasks.pop();
        }
        let next = self.open.spare.pop().unwrap_or_default();
        (batch, std::mem::replace(&mut self.open.gated, next))
    }

    /// Takes a list that [`Machine::close`] gave, to use it again.
    pub fn give_back(&mut self, mut gated: Vec<Gated>) {
        gated.clear();
        if self.open.spare.len() < SPARE_MAX && gated.capacity() <= SPARE_LEN_MAX {
            self.open.spare.push(gated);
        }
    }

    fn close_task(&mut self, batch: &mut Batch, id: TaskId) {
        let held = held_mut(&mut self.partitions, id).expect("touched tasks are held");
        assert!(held.is_touched);
        let is_new = std::mem::take(&mut held.is_new);
        held.is_touched = false;
        let (state, is_settled) = (held.task.state, held.is_settled);
        if state.is_ended() && state != State::Failed {
            let task = self.drop_task(id);
            return batch.tasks.push(TaskImage { task, is_new });
        }
        batch.tasks.push(TaskImage { task: held.task.clone(), is_new });
        if state != State::Running && !is_settled {
            self.partition_mut(id.partition()).expect("its partition is held").tasks.settle(id);
        }
    }

    /// Takes a task that ended, or whose retention did, out of memory.
    fn drop_task(&mut self, id: TaskId) -> Task {
        let partition = self.partition_mut(id.partition()).expect("its partition is held");
        let held = partition.tasks.remove(id).expect("dropped once");
        assert!(held.slot().is_none() && !held.is_queued && !held.is_counted);
        self.live_tasks -= 1;
        self.live_bytes -= held.task.input.resident_bytes();
        assert_eq!(held.watchers_len(), 0, "its end was told to all who waited for it");
        self.agents.release_key(held.key);
        if held.task.state == State::Failed {
            self.agents.stats_mut(held.lane).live[State::Failed as usize] -= 1;
        }
        held.task
    }
}
