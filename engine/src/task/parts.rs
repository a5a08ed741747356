//! A task laid open, and how it is packed.

use super::{Asked, End, Key, Since, State, Tags, Task, TaskError, Usage, Waiting, Waits};
use crate::agent::definition::Budget;
use crate::agent::state::LoopState;
use crate::id::{Attempt, Fence, TaskId};
use crate::payload::Payload;
use crate::time::Millis;
use crate::trace::Origin;
use std::sync::Arc;

/// A task laid open: what [`Task`] packs, each field by itself.
#[derive(Clone, PartialEq, Debug)]
pub struct TaskParts {
    /// The id.
    pub id: TaskId,
    /// The agent's name.
    pub agent: Arc<str>,
    /// The tenant.
    pub tenant: Arc<str>,
    /// Where it stands.
    pub state: State,
    /// The input; a large one by its hash.
    pub input: Payload,
    /// The output, once it succeeded.
    pub output: Option<Payload>,
    /// Why the last attempt failed.
    pub error: Option<Box<TaskError>>,
    /// What it waits for, while `waiting`.
    pub waiting: Option<Waiting>,
    /// 0 to 9.
    pub priority: u8,
    /// The fairness key.
    pub fairness_key: Option<Arc<str>>,
    /// The tags.
    pub tags: Tags,
    /// When it was submitted.
    pub created_at: Millis,
    /// When it may run (next).
    pub run_at: Millis,
    /// When it was first started.
    pub started_at: Option<Millis>,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// All attempts end by this.
    pub deadline: Option<Millis>,
    /// One attempt's time-out, in ms; `u64::MAX` where there is none.
    pub timeout_ms: u64,
    /// The current or last attempt.
    pub attempt: Attempt,
    /// Attempts that failed since the task last made progress.
    pub failures: u16,
    /// Failures that make a dead letter.
    pub max_attempts: u16,
    /// Crashes of the process in a row while it ran.
    pub crashes: u8,
    /// Refuses stale holders.
    pub fence: Fence,
    /// Its place among those that became ready in its partition.
    pub ready_seq: u64,
    /// When it became ready.
    pub ready_at: Millis,
    /// Events of its history.
    pub events: u32,
    /// Bytes of its history, roughly.
    pub events_bytes: u32,
    /// Bounds of its loop.
    pub budget: Budget,
    /// What it used.
    pub usage: Usage,
    /// The idempotency key.
    pub key: Option<Key>,
    /// Its caller, and how often it was sent round again.
    pub origin: Origin,
    /// Steps so far: the number of the last.
    pub steps: u32,
    /// The loop of kind `model` and the steps of a worker's attempt.
    pub run: Option<Arc<LoopState>>,
}

impl From<TaskParts> for Task {
    fn from(parts: TaskParts) -> Task {
        let TaskParts { fairness_key, tags, budget, key, output, usage, .. } = parts;
        let deadline = Since::new(parts.deadline);
        let origin = Asked::packed_origin(parts.origin);
        let tags = tags.filter(|tags| !tags.is_empty());
        let asked = Asked { fairness_key, tags, deadline, budget, key, origin };
        Task {
            id: parts.id,
            agent: parts.agent,
            tenant: parts.tenant,
            input: parts.input,
            error: parts.error,
            waits: Waits::new(parts.waiting.as_ref()),
            run: parts.run,
            asked: Asked::packed(asked),
            end: (parts.ended_at.is_some() || output.is_some())
                .then(|| Box::new(End { at: Since::new(parts.ended_at), output })),
            usage: (usage != Usage::default()).then(|| Box::new(usage)),
            created_at: parts.created_at,
            run_at: parts.run_at,
            ready_at: parts.ready_at,
            started_at: Since::new(parts.started_at),
            timeout_ms: parts.timeout_ms,
            fence: parts.fence,
            ready_seq: parts.ready_seq,
            attempt: parts.attempt,
            steps: parts.steps,
            events: parts.events,
            events_bytes: parts.events_bytes,
            failures: parts.failures,
            max_attempts: parts.max_attempts,
            crashes: parts.crashes,
            priority: parts.priority,
            state: parts.state,
        }
    }
}

impl From<Task> for TaskParts {
    fn from(task: Task) -> TaskParts {
        let asked = task.asked.as_deref().cloned().unwrap_or_default();
        TaskParts {
            origin: asked.origin.as_deref().copied().unwrap_or_default(),
            started_at: task.started_at(),
            ended_at: task.ended_at(),
            usage: task.usage(),
            id: task.id,
            agent: task.agent,
            tenant: task.tenant,
            state: task.state,
            input: task.input,
            output: task.end.and_then(|end| end.output),
            error: task.error,
            waiting: task.waits.get(),
            priority: task.priority,
            fairness_key: asked.fairness_key,
            tags: asked.tags,
            created_at: task.created_at,
            run_at: task.run_at,
            deadline: asked.deadline.get(),
            timeout_ms: task.timeout_ms,
            attempt: task.attempt,
            failures: task.failures,
            max_attempts: task.max_attempts,
            crashes: task.crashes,
            fence: task.fence,
            ready_seq: task.ready_seq,
            ready_at: task.ready_at,
            events: task.events,
            events_bytes: task.events_bytes,
            budget: asked.budget,
            key: asked.key,
            steps: task.steps,
            run: task.run,
        }
    }
}
