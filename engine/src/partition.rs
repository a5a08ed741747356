//! A partition's state: its tasks and its idempotency keys. Only `machine::apply` changes a
//! [`Task`]; what stands beside it in [`Held`] is derived from it and never stored.

use crate::event::KeyRow;
use crate::id::{PartitionId, ReplyTo, TaskId};
use crate::map::Map;
use crate::port::Loaded;
use crate::queue::{KeyId, LaneId};
use crate::slot::SlotId;
use crate::task::Task;
use crate::time::{Millis, Mono};
use crate::wheel::TimerId;

/// The tasks and keys of one partition.
#[derive(Debug)]
pub struct PartitionState {
    /// Which.
    pub id: PartitionId,
    /// Live tasks and dead letters; an ended task stays until its batch is closed. Boxed, because a
    /// map has up to twice as many places as entries, and moves them all when it grows.
    pub tasks: Map<TaskId, Box<Held>>,
    /// Idempotency keys.
    pub keys: Map<u128, KeyRow>,
    /// The last place given to a ready task.
    pub ready_seq: u64,
}

/// A task and what its shard keeps beside it.
#[derive(Debug)]
pub struct Held {
    /// The task itself.
    pub task: Task,
    /// Its lane in the ready queue.
    pub lane: LaneId,
    /// Its fairness key.
    pub key: KeyId,
    /// Whether it stands in the ready queue.
    pub is_queued: bool,
    /// Whether the open batch has events of it.
    pub is_touched: bool,
    /// Whether the open batch submitted it.
    pub is_new: bool,
    /// Whether it counts against its agent's bounds.
    pub is_counted: bool,
    /// Its slot, while this node works on it.
    pub slot: Option<SlotId>,
    /// When the attempt under way times out.
    pub attempt_ends_at: Mono,
    /// The longest wait that a failed step of this attempt asked for, in ms.
    pub retry_after_ms: u64,
    /// The timer of lease and attempt.
    pub mono_timer: Option<TimerId>,
    /// The timer of `run_at` and of waits, and when it fires.
    pub wall_timer: Option<(TimerId, Millis)>,
    /// The timer of the deadline.
    pub deadline_timer: Option<TimerId>,
    /// Who wants to hear of it.
    pub watchers: Option<Box<Watchers>>,
}

/// Who waits for a task's end, and who follows its events.
#[derive(Debug, Default)]
pub struct Watchers {
    /// Long polls.
    pub polls: Vec<ReplyTo>,
    /// Event streams.
    pub streams: Vec<ReplyTo>,
}

impl Held {
    /// A task with nothing beside it yet.
    #[must_use]
    pub fn new(task: Task, lane: LaneId, key: KeyId) -> Held {
        Held {
            task,
            lane,
            key,
            is_queued: false,
            is_touched: false,
            is_new: false,
            is_counted: false,
            slot: None,
            attempt_ends_at: Mono(u64::MAX),
            retry_after_ms: 0,
            mono_timer: None,
            wall_timer: None,
            deadline_timer: None,
            watchers: None,
        }
    }

    /// How many watch it.
    #[must_use]
    pub fn watchers_len(&self) -> usize {
        self.watchers.as_ref().map_or(0, |w| w.polls.len() + w.streams.len())
    }
}

impl PartitionState {
    /// A partition without tasks.
    #[must_use]
    pub fn new(id: PartitionId) -> PartitionState {
        PartitionState { id, tasks: Map::default(), keys: Map::default(), ready_seq: 0 }
    }

    /// What a store should give back for this state: live tasks and dead letters without what is
    /// soft.
    #[must_use]
    pub fn image(&self) -> Loaded {
        let mut tasks: Vec<Task> = self
            .tasks
            .values()
            .map(|held| held.task.clone())
            .filter(|task| !task.state.is_ended() || task.state == crate::task::State::Failed)
            .map(|task| Task { lease: None, ..task })
            .collect();
        tasks.sort_by_key(|task| task.id);
        let mut keys: Vec<KeyRow> = self.keys.values().copied().collect();
        keys.sort_by_key(|row| row.hash);
        Loaded { tasks, keys }
    }
}
