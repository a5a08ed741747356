//! Why a shard refuses: a closed list, each with a stable name.

use crate::id::{PartitionId, TaskId};

/// Why a shard refused a request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Not in this shard's memory: ended (then the store has it) or never seen.
    #[error("task {0} is not live")]
    NotLive(TaskId),
    /// It has ended; nothing changes that.
    #[error("task {task} has ended as {}", state.name())]
    TaskEnded {
        /// The task.
        task: TaskId,
        /// How.
        state: crate::task::State,
    },
    /// The task is not in a state for this: a retry of one that has not failed, a resolve of one
    /// that waits for nothing.
    #[error("task {task} is {}", state.name())]
    WrongState {
        /// The task.
        task: TaskId,
        /// Its state.
        state: crate::task::State,
    },
    /// Its partition is not this shard's, or not any more: another node has it, or will.
    #[error("partition {} is another node's", .0.0)]
    Moved(PartitionId),
    /// The agent is not known to this shard.
    #[error("no such agent")]
    AgentUnknown,
    /// The same idempotency key came with another body.
    #[error("the idempotency key was used for another body")]
    KeyReused,
    /// The lease ended or passed to another.
    #[error("the lease is no longer held")]
    LeaseLost,
    /// A bound is reached; try again later.
    #[error("{what} is full")]
    QueueFull {
        /// Which bound.
        what: &'static str,
    },
    /// Too many wait on one thing.
    #[error("too many wait for {what}")]
    OverLimit {
        /// For what.
        what: &'static str,
    },
    /// The history of the task has reached its bound.
    #[error("the history of the task is full")]
    HistoryFull,
    /// The disk is short of room.
    #[error("the disk is full")]
    DiskFull,
    /// The node is stopping.
    #[error("the node is draining")]
    Draining,
    /// The shard's journal failed.
    #[error("the shard has halted")]
    Halted,
    /// No answer came in time: whether it was done is not known. Said by the asker's side.
    #[error("no answer in time; it may be done all the same: ask again, with the same key")]
    Unanswered,
}

impl Refusal {
    /// A short stable name, for metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::NotLive(_) => "not_live",
            Refusal::TaskEnded { .. } => "task_ended",
            Refusal::WrongState { .. } => "wrong_state",
            Refusal::Moved(_) => "moved",
            Refusal::AgentUnknown => "agent_unknown",
            Refusal::KeyReused => "key_reused",
            Refusal::LeaseLost => "lease_lost",
            Refusal::QueueFull { .. } => "queue_full",
            Refusal::OverLimit { .. } => "over_limit",
            Refusal::HistoryFull => "history_full",
            Refusal::DiskFull => "disk_full",
            Refusal::Draining => "draining",
            Refusal::Halted => "shard_halted",
            Refusal::Unanswered => "unanswered",
        }
    }
}
