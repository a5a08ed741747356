//! A task as a shard holds it: a header, and for a loop what it needs to go on. Histories stay in
//! the store.

use crate::agent::definition::Budget;
use crate::agent::state::LoopState;
use crate::id::{Attempt, Fence, TaskId};
use crate::payload::Payload;
use crate::time::{Millis, Mono};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where a task stands. See DESIGN §4; the transition table is in `machine/mod.rs`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for its time.
    Scheduled,
    /// Ready; waits for its turn.
    Queued,
    /// An attempt is under way.
    Running,
    /// Parked: waits for a timer, a signal, a person.
    Waiting,
    /// Done, with an output.
    Succeeded,
    /// A dead letter, with an error.
    Failed,
    /// Ended by request.
    Cancelled,
}

/// All states, in the order above.
pub const STATES: [State; 7] = [
    State::Scheduled,
    State::Queued,
    State::Running,
    State::Waiting,
    State::Succeeded,
    State::Failed,
    State::Cancelled,
];

impl State {
    /// Whether nothing more happens by itself: succeeded, failed or cancelled.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, State::Succeeded | State::Failed | State::Cancelled)
    }

    /// The name in the API, in rows and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Scheduled => "scheduled",
            State::Queued => "queued",
            State::Running => "running",
            State::Waiting => "waiting",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<State> {
        STATES.into_iter().find(|state| state.name() == name)
    }
}

/// Why an attempt or a task failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskError {
    /// A stable code: `timeout`, `poison`, `budget_exhausted`, `loop_detected`, `model_failed`, …,
    /// or a worker's own.
    pub code: Box<str>,
    /// For a person.
    pub message: Box<str>,
    /// Whether another attempt may succeed.
    pub retryable: bool,
}

/// What a parked task waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// `timer` or `outcome_unknown`.
    pub reason: WaitReason,
    /// The tool whose outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// When the timer fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
}

/// Kinds of waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// A durable timer.
    Timer,
    /// A call that was under way in a crash and may not be repeated: `resolve` says what happened.
    OutcomeUnknown,
}

impl WaitReason {
    /// The name in the API and in rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WaitReason::Timer => "timer",
            WaitReason::OutcomeUnknown => "outcome_unknown",
        }
    }
}

/// What a task has used so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Model calls answered.
    pub iterations: u32,
    /// Prompt tokens, summed over the calls.
    pub input_tokens: u64,
    /// Answer tokens, summed over the calls.
    pub output_tokens: u64,
    /// Cost in millionths of a US dollar.
    pub cost_micro_usd: u64,
}

/// A client's name for a submission.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Key {
    /// Hash of tenant and key.
    pub hash: u128,
    /// Hash of the submitted body: the same key with another body is refused.
    pub fingerprint: u64,
}

/// A task to be submitted, checked and complete.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NewTask {
    /// Its id, made at the edge. A keyed task's partition comes from the key's hash.
    pub id: TaskId,
    /// The agent's name.
    pub agent: Arc<str>,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Any JSON.
    pub input: Payload,
    /// 0 to 9, 9 first.
    pub priority: u8,
    /// Shares turns evenly with other keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness_key: Option<Arc<str>>,
    /// Short strings to find it by.
    #[serde(default, skip_serializing_if = "tags_absent")]
    pub tags: Tags,
    /// Not before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Millis>,
    /// One attempt's time-out, in ms; the agent's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// All attempts end by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
    /// The agent's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The agent's where absent.
    #[serde(default)]
    pub budget: Budget,
    /// The idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
}

/// A task's tags; most have none, so none costs a word.
pub type Tags = Option<Arc<[Box<str>]>>;

fn tags_absent(tags: &Tags) -> bool {
    tags.is_none()
}

/// A worker's right to a running task, until it ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// When it ends, by the monotonic clock. Not journaled: a restart grants the full time anew.
    pub expires_at: Mono,
    /// How long a heartbeat extends it, in ms.
    pub lease_ms: u64,
}

/// A task as its shard holds it while it is live, and as a dead letter.
///
/// [`Task::lease`] alone is soft: it is not part of what a store gives back.
#[derive(Clone, PartialEq, Debug)]
pub struct Task {
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
    pub waiting: Option<Box<Waiting>>,
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
    /// One attempt's time-out, in ms.
    pub timeout_ms: u64,
    /// The current or last attempt.
    pub attempt: Attempt,
    /// Attempts that failed since the task last made progress.
    pub failures: u32,
    /// Failures that make a dead letter.
    pub max_attempts: u32,
    /// Crashes of the process in a row while it ran.
    pub crashes: u32,
    /// Refuses stale holders.
    pub fence: Fence,
    /// Its place among those that became ready in its partition.
    pub ready_seq: u64,
    /// When it became ready.
    pub ready_at: Millis,
    /// Events of its history.
    pub events: u32,
    /// Bytes of its history, roughly.
    pub events_bytes: u64,
    /// Bounds of its loop.
    pub budget: Budget,
    /// What it used.
    pub usage: Usage,
    /// The idempotency key.
    pub key: Option<Key>,
    /// Steps so far: the number of the last.
    pub steps: u32,
    /// The loop of kind `model` and the steps of a worker's attempt.
    pub run: Option<Box<LoopState>>,
    /// A worker's lease, while one holds it.
    pub lease: Option<Lease>,
}

impl Task {
    /// Bytes of payload that this header keeps in memory.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.input.resident_bytes() + self.output.as_ref().map_or(0, Payload::resident_bytes)
    }
}
