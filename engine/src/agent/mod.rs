//! Agents: their definitions, and one iteration of the agent loop as pure code: from how a task
//! stands to the next thing to do. Whoever calls [`next`] writes what it answers as events and asks
//! again.

pub mod definition;
pub mod detect;
pub mod state;

use crate::agent::definition::{Agent, ToolKind};
use crate::agent::state::{OpenState, OpenStep, StepKind};
use crate::id::Step;
use crate::limits;
use crate::payload::Payload;
use crate::task::{Task, WaitReason, Waiting};
use std::sync::Arc;

/// The next thing to do for a running loop.
#[derive(Clone, PartialEq, Debug)]
pub enum Next {
    /// Ask the model: a new step, or this one again.
    AskModel {
        /// The open step to make again.
        again: Option<Step>,
    },
    /// Call a tool.
    CallTool {
        /// The planned step.
        step: Step,
        /// The tool's place in the agent's definition.
        tool: usize,
        /// The arguments, a JSON object.
        arguments: Payload,
    },
    /// Start a durable timer.
    StartTimer {
        /// The planned step.
        step: Step,
        /// How long, in ms.
        ms: u64,
    },
    /// The model asked for what cannot be done: tell it so instead of calling.
    Decline {
        /// The planned step.
        step: Step,
        /// What the model is told.
        output: Payload,
    },
    /// Calls are under way; nothing to do before one ends.
    Await,
    /// Nothing is under way but what may take long: park.
    Park(Waiting),
    /// A step failed and nothing is under way: end the attempt, another may follow.
    EndAttempt,
    /// End the task as a dead letter.
    Fail {
        /// The stable code.
        code: &'static str,
        /// For a person.
        message: String,
    },
}

/// What a running loop does next. Pure; see the order of questions in its body.
///
/// Panics when the task is not running or not of kind `model`.
#[must_use]
pub fn next(task: &Task, agent: &Agent) -> Next {
    assert_eq!(task.state, crate::task::State::Running, "only a running loop goes on");
    if limits::HISTORY_EVENTS_MAX <= task.events
        || limits::HISTORY_BYTES_MAX <= u64::from(task.events_bytes)
    {
        return fail("history_full", "the history of the task has reached its bound".into());
    }
    let Some(run) = &task.run else { return ask(task) };
    if let Some(message) = detect::stuck(run) {
        return fail("loop_detected", message);
    }
    let is = |state: &OpenState| run.open.iter().filter(|open| open.state == *state).count();
    let called = is(&OpenState::Called);
    let failed = is(&OpenState::Failed);
    let planned = run.open.iter().find(|open| open.state == OpenState::Planned);
    match planned {
        // What failed is made again by another attempt; nothing new begins before.
        Some(open) if failed == 0 && called < limits::TOOL_CALLS_PARALLEL_MAX => {
            return begin(agent, open);
        }
        _ => {}
    }
    if 0 < called {
        return Next::Await;
    }
    if 0 < failed {
        return Next::EndAttempt;
    }
    let unknown = run.open.iter().find(|open| open.state == OpenState::Unknown);
    if let Some(open) = unknown {
        let name = Some(Arc::clone(&open.name));
        return Next::Park(Waiting { reason: WaitReason::OutcomeUnknown, name, until: None });
    }
    let until = run.open.iter().filter_map(OpenStep::timer).min();
    if until.is_some() {
        return Next::Park(Waiting { reason: WaitReason::Timer, name: None, until });
    }
    ask(task)
}

fn fail(code: &'static str, message: String) -> Next {
    Next::Fail { code, message }
}

/// A new model call, if the budget allows it.
fn ask(task: &Task) -> Next {
    let max = task.budget().max_iterations.unwrap_or(limits::ITERATIONS_DEFAULT);
    if max <= task.usage().iterations {
        let message = format!("the budget of {max} iterations is used up");
        return fail("budget_exhausted", message);
    }
    Next::AskModel { again: None }
}

/// How a planned step begins.
fn begin(agent: &Agent, open: &OpenStep) -> Next {
    let step = open.step;
    if open.kind == StepKind::Model {
        return Next::AskModel { again: Some(step) };
    }
    let Some((tool, definition)) = agent.tool(&open.name) else {
        let known: Vec<&str> = agent.tools.iter().map(|tool| tool.called()).collect();
        let message = format!("there is no tool {}; there are: {}", open.name, known.join(", "));
        return decline(step, "tool_unknown", &message);
    };
    let arguments = open.arguments().cloned().unwrap_or_else(Payload::null);
    let is_object = arguments.bytes().is_some_and(|bytes| bytes.trim_ascii().starts_with(b"{"));
    if !is_object {
        return decline(step, "arguments_invalid", "the arguments must be a JSON object");
    }
    match definition.kind {
        ToolKind::Http => Next::CallTool { step, tool, arguments },
        ToolKind::Wait => match arguments.bytes().and_then(wait_ms) {
            Some(ms) => Next::StartTimer { step, ms },
            None => {
                let message = "wait takes {\"ms\": whole number of milliseconds}";
                decline(step, "arguments_invalid", message)
            }
        },
    }
}

fn decline(step: Step, code: &str, message: &str) -> Next {
    let error = serde_json::json!({"error": {"code": code, "message": message}});
    Next::Decline { step, output: Payload::new(error.to_string().as_bytes(), crate::payload::hash) }
}

/// The `ms` of a `wait`'s arguments.
fn wait_ms(arguments: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Wait {
        ms: u64,
    }
    let wait: Wait = serde_json::from_slice(arguments).ok()?;
    (wait.ms <= limits::TIMER_MS_MAX).then_some(wait.ms)
}

#[cfg(test)]
mod tests;
