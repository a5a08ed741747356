//! What happened: the facts that `decide` writes and `apply` folds into state. They are kept for
//! ever.
//!
//! A variant's meaning never changes; a new meaning is a new variant. Stored as externally tagged
//! JSON.

use crate::agent::definition::{Agent, Budget, ToolEffect};
use crate::agent::state::{StepKind, ToolCall};
use crate::id::{Attempt, Fence, PartitionId, Step, TaskId};
use crate::payload::Payload;
use crate::task::{NewTask, Task, TaskError, Usage};
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One fact about one task.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was taken in.
    Submitted {
        /// What was asked, with the agent's defaults filled in below.
        new: Box<NewTask>,
        /// One attempt's time-out, in ms.
        timeout_ms: u64,
        /// Failures that make a dead letter.
        max_attempts: u32,
        /// Bounds of its loop.
        budget: Budget,
        /// Its place among the ready ones; 0 while it waits for its time.
        ready_seq: u64,
    },
    /// Its time came.
    Queued {
        /// Its place among the ready ones.
        ready_seq: u64,
    },
    /// An attempt began.
    Started {
        /// Its number.
        attempt: Attempt,
        /// The right to report on it.
        fence: Fence,
        /// A worker's lease, in ms, for kind `worker`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease_ms: Option<u64>,
    },
    /// A call is about to be made: the intent.
    StepStarted {
        /// Its number.
        step: Step,
        /// What it is.
        kind: StepKind,
        /// The tool's or model's name.
        name: Arc<str>,
        /// The model's name for the tool call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call_id: Option<Box<str>>,
        /// The arguments.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Payload>,
        /// Whether it may be repeated.
        effect: ToolEffect,
        /// When its timer fires, for kind `timer`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Millis>,
    },
    /// A step has its result, for good.
    StepEnded {
        /// Its number.
        step: Step,
        /// What it is.
        kind: StepKind,
        /// The tool's or model's name, or the worker's name for it.
        name: Arc<str>,
        /// The model's name for the tool call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call_id: Option<Box<str>>,
        /// The result: a [`crate::agent::state::ModelAnswer`] for `model`, any JSON otherwise.
        output: Payload,
        /// What it used.
        #[serde(default)]
        usage: Usage,
        /// The tool calls that a model asked for: planned steps, numbered on from this one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        planned: Vec<ToolCall>,
        /// Whether a model's answer had neither text nor tool call.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        empty: bool,
        /// Hash of a worker's report, to know it when it is sent again.
        #[serde(default, skip_serializing_if = "is_zero")]
        reported: u64,
    },
    /// A step failed; another attempt may mend it.
    StepFailed {
        /// Its number.
        step: Step,
        /// Why.
        error: Box<TaskError>,
    },
    /// A crash left a call's outcome unknown, and it may not be repeated.
    StepUnknown {
        /// Its number.
        step: Step,
    },
    /// Somebody said that a step of unknown outcome is to be made again.
    StepReset {
        /// Its number.
        step: Step,
    },
    /// It parked.
    Waited {
        /// For what.
        waiting: Box<crate::task::Waiting>,
    },
    /// It goes on.
    Woken,
    /// It ended with an output.
    Succeeded {
        /// The output.
        output: Payload,
    },
    /// The attempt failed; another follows.
    RetryScheduled {
        /// Why.
        error: Box<TaskError>,
        /// When.
        run_at: Millis,
    },
    /// It failed for good.
    DeadLettered {
        /// Why.
        error: Box<TaskError>,
    },
    /// It was ended by request.
    Cancelled,
    /// The process crashed while it ran; `crashes` in a row by now.
    Interrupted {
        /// How many.
        crashes: u32,
        /// Refuses what the old process had under way.
        fence: Fence,
    },
    /// A dead letter was sent round again.
    Retried {
        /// Its place among the ready ones.
        ready_seq: u64,
    },
    /// A dead letter's retention ended: task and history are gone.
    Removed,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Event {
    /// The name of the variant as it is stored, for the history and for SSE.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Event::Submitted { .. } => "submitted",
            Event::Queued { .. } => "queued",
            Event::Started { .. } => "started",
            Event::StepStarted { .. } => "step_started",
            Event::StepEnded { .. } => "step_ended",
            Event::StepFailed { .. } => "step_failed",
            Event::StepUnknown { .. } => "step_unknown",
            Event::StepReset { .. } => "step_reset",
            Event::Waited { .. } => "waited",
            Event::Woken => "woken",
            Event::Succeeded { .. } => "succeeded",
            Event::RetryScheduled { .. } => "retry_scheduled",
            Event::DeadLettered { .. } => "dead_lettered",
            Event::Cancelled => "cancelled",
            Event::Interrupted { .. } => "interrupted",
            Event::Retried { .. } => "retried",
            Event::Removed => "removed",
        }
    }

    /// The payload that it brings, if any: what a store must keep the bytes of.
    #[must_use]
    pub fn payload(&self) -> Option<&Payload> {
        match self {
            Event::Submitted { new, .. } => Some(&new.input),
            Event::StepStarted { input, .. } => input.as_ref(),
            Event::StepEnded { output, .. } | Event::Succeeded { output } => Some(output),
            _ => None,
        }
    }

    /// Replaces the payload that it brings; does nothing where it brings none.
    pub fn set_payload(&mut self, payload: Payload) {
        match self {
            Event::Submitted { new, .. } => new.input = payload,
            Event::StepStarted { input: input @ Some(_), .. } => *input = Some(payload),
            Event::StepEnded { output, .. } | Event::Succeeded { output } => *output = payload,
            _ => {}
        }
    }

    /// Whether the task ends with it.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Event::Succeeded { .. } | Event::DeadLettered { .. } | Event::Cancelled)
    }
}

/// An event in its place.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Whose.
    pub task: TaskId,
    /// Its number in the task's history, from 1 without gaps.
    pub n: u32,
    /// When it was decided, by the wall clock.
    pub at: Millis,
    /// What happened.
    pub event: Arc<Event>,
}

/// An idempotency key as it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRow {
    /// The partition of the key and of its task.
    pub partition: PartitionId,
    /// Hash of tenant and key.
    pub hash: u128,
    /// Hash of the submitted body.
    pub fingerprint: u64,
    /// The one task that it made.
    pub task: TaskId,
    /// When it is forgotten: set once the task has ended.
    pub expires_at: Option<Millis>,
}

/// An agent as it is kept.
#[derive(Clone, PartialEq, Debug)]
pub struct AgentRow {
    /// Its name.
    pub name: Arc<str>,
    /// The definition.
    pub agent: Arc<Agent>,
    /// Whether its tasks are held back.
    pub paused: bool,
}

/// What somebody said of a task's result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedbackRow {
    /// The task.
    pub task: TaskId,
    /// Its agent.
    pub agent: Arc<str>,
    /// From 1, bad, to 5.
    pub score: u8,
    /// When.
    pub at: Millis,
}

/// What one turn decided: committed as a whole, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Its place in the shard's journal.
    pub seq: crate::id::Seq,
    /// The facts, in order. Several may be of one task.
    pub records: Vec<Record>,
    /// Every task that the facts touched, as it is after them.
    pub tasks: Vec<TaskImage>,
    /// Keys that came or changed; the last of several rows of one key counts. No key stands here
    /// and in `keys_gone`.
    pub keys: Vec<KeyRow>,
    /// Keys that were forgotten.
    pub keys_gone: Vec<(PartitionId, u128)>,
    /// Dead letters whose retention ended: row, history and blobs go.
    pub tasks_gone: Vec<TaskId>,
    /// Agents that came or changed (from the shard that keeps them).
    pub agents: Vec<AgentRow>,
    /// Agents that were deleted.
    pub agents_gone: Vec<Arc<str>>,
    /// What was said of results; the last of several of one task counts.
    pub feedback: Vec<FeedbackRow>,
}

/// A task after a batch.
#[derive(Clone, PartialEq, Debug)]
pub struct TaskImage {
    /// The header.
    pub task: Task,
    /// Whether this batch submitted it: insert, not update.
    pub is_new: bool,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.keys.is_empty()
            && self.keys_gone.is_empty()
            && self.tasks_gone.is_empty()
            && self.agents.is_empty()
            && self.agents_gone.is_empty()
            && self.feedback.is_empty()
    }
}
