//! What a task in the middle of a loop needs to go on: the calls that are open and what the loop
//! detector remembers. Its size does not grow with the loop's history.

use crate::agent::definition::ToolEffect;
use crate::id::Step;
use crate::payload::Payload;
use crate::task::Usage;
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// A call of the model.
    Model,
    /// A call of a tool.
    Tool,
    /// A durable timer.
    Timer,
    /// Reported by a worker.
    Worker,
    /// The single call of kind `http`.
    Http,
}

impl StepKind {
    /// The name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StepKind::Model => "model",
            StepKind::Tool => "tool",
            StepKind::Timer => "timer",
            StepKind::Worker => "worker",
            StepKind::Http => "http",
        }
    }
}

/// One tool call that a model asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's own name for the call, given back with its result.
    pub id: Box<str>,
    /// The tool.
    pub name: Box<str>,
    /// The arguments, a JSON text as the model wrote it (perhaps not valid).
    pub arguments: Box<str>,
}

impl ToolCall {
    /// The arguments as a payload: as they are where they are JSON, else as a JSON string.
    #[must_use]
    pub fn arguments_payload(&self) -> Payload {
        let text = if self.arguments.trim().is_empty() { "{}" } else { &*self.arguments };
        assert!(text.len() <= crate::limits::TOOL_ARGUMENTS_BYTES_MAX, "checked at the edge");
        if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
            return Payload::Inline(Arc::from(text.as_bytes()));
        }
        let quoted = serde_json::to_string(text).expect("a string serialises");
        Payload::Inline(Arc::from(quoted.as_bytes()))
    }
}

/// A model's answer, whatever its provider.
///
/// Serialised (`{"text":…,"tool_calls":[…]}`) it is the output of the model's step, from which a
/// context is built again.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ModelAnswer {
    /// What it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// What it asks to be run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// What the call used. Not part of the stored output: it stands beside it.
    #[serde(skip)]
    pub usage: Usage,
}

/// Where an open step stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenState {
    /// Asked for, not begun: it waits for a place among the parallel calls.
    Planned,
    /// Its intent is journaled; the call is or was under way.
    Called,
    /// It failed in a way that another attempt may mend.
    Failed,
    /// A timer is running.
    Timer(Millis),
    /// A crash left its outcome unknown, and it may not be repeated.
    Unknown,
}

/// A step without a result.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OpenStep {
    /// Its number.
    pub step: Step,
    /// What it is.
    pub kind: StepKind,
    /// The tool's or the model's name.
    pub name: Arc<str>,
    /// The model's name for a tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<Box<str>>,
    /// The arguments of a tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Payload>,
    /// Whether it may be repeated.
    pub effect: ToolEffect,
    /// Where it stands.
    pub state: OpenState,
}

impl OpenStep {
    /// When its timer fires, if it is one.
    #[must_use]
    pub fn timer(&self) -> Option<Millis> {
        match self.state {
            OpenState::Timer(until) => Some(until),
            _ => None,
        }
    }
}

/// A piece of context that the next model call adds to those before.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// The output of a model's step: a serialised [`ModelAnswer`].
    Assistant(Payload),
    /// A tool's result.
    Tool {
        /// The call that it answers.
        call_id: Box<str>,
        /// The result, any JSON.
        result: Payload,
    },
}

/// The loop of one task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoopState {
    /// Steps without a result, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<OpenStep>,
    /// Hashes of the last tool calls, oldest first, at most [`crate::limits::LOOP_WINDOW`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<u64>,
    /// Empty answers in a row.
    #[serde(default)]
    pub empty: u32,
    /// The last model step that was answered; 0 before the first.
    #[serde(default)]
    pub model_step: Step,
    /// Hash of the last step that a worker reported, to know it when it is sent again.
    #[serde(default)]
    pub reported: u64,
    /// Soft: what came in since the last model call, by step. Lost in a crash; then the store has
    /// it.
    #[serde(skip)]
    pub fresh: Vec<(Step, Message)>,
    /// Soft: whether `fresh` is all that came since the last model call of this process.
    #[serde(skip)]
    pub warm: bool,
}

impl PartialEq for LoopState {
    /// Equal in what a store gives back; soft fields do not count.
    fn eq(&self, other: &LoopState) -> bool {
        self.open == other.open
            && self.calls == other.calls
            && self.empty == other.empty
            && self.model_step == other.model_step
            && self.reported == other.reported
    }
}
