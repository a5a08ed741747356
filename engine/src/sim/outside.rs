//! The outside world: models and tools that answer late, twice, wrongly or not at all.

use super::check::UnsafeCalls;
use super::store::Store;
use crate::agent::state::{ModelAnswer, ToolCall};
use crate::command::{Command, Outcome};
use crate::effect::{Call, Work};
use crate::id::{Fence, TaskId};
use crate::payload::Payload;
use crate::rng::Rng;
use crate::task::{TaskError, Usage};
use std::collections::BTreeMap;

/// Calls under way, and those answered before that may be answered again.
#[derive(Default)]
pub(super) struct Outside {
    open: Vec<(u64, Call)>,
    answered: Vec<(u64, Call)>,
    unsafe_calls: UnsafeCalls,
    calls: u64,
    /// Which fence each call carried; outputs name their call.
    pub(super) fences: BTreeMap<u64, (TaskId, Fence)>,
}

impl Outside {
    pub(super) fn call(&mut self, store: &Store, call: Call) -> Result<(), String> {
        self.unsafe_calls.made(store, &call)?;
        self.calls += 1;
        self.fences.insert(self.calls, (call.task, call.fence));
        self.open.push((self.calls, call));
        Ok(())
    }

    pub(super) fn abort(&mut self, task: TaskId, fence: Fence) {
        // The answer of an aborted call may be on its way already.
        let is_meant = |call: &Call| call.task == task && call.fence == fence;
        let (gone, kept) =
            std::mem::take(&mut self.open).into_iter().partition(|(_, c)| is_meant(c));
        self.open = kept;
        self.answered.extend::<Vec<_>>(gone);
    }

    /// The process that had ordered the calls is gone; some were made, none will be heard of again
    /// but by mistake.
    pub(super) fn forget(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.answered.extend(open);
        let excess = self.answered.len().saturating_sub(200);
        self.answered.drain(..excess);
    }

    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The next answer that comes, if one does.
    pub(super) fn answer(&mut self, rng: &mut Rng, is_calm: bool) -> Option<Command> {
        if !is_calm && rng.chance(15) && !self.answered.is_empty() {
            let (n, call) = self.answered[rng.index(self.answered.len())].clone();
            return Some(outcome(&call, output(n, &call, rng)));
        }
        if self.open.is_empty() {
            return None;
        }
        let (n, call) = self.open.swap_remove(rng.index(self.open.len()));
        let fails = if is_calm { 0 } else { 20 };
        let answer = if rng.chance(fails) {
            let maybe_done = rng.chance(50);
            if !maybe_done {
                self.unsafe_calls.did_nothing(&call);
            }
            failure(rng, maybe_done)
        } else {
            output(n, &call, rng)
        };
        let command = outcome(&call, answer);
        if self.answered.len() < 200 {
            self.answered.push((n, call));
        }
        Some(command)
    }
}

fn outcome(call: &Call, outcome: Outcome) -> Command {
    Command::Outcome { task: call.task, fence: call.fence, step: call.step, outcome }
}

fn failure(rng: &mut Rng, maybe_done: bool) -> Outcome {
    let retryable = rng.chance(80);
    let error = TaskError { code: "refused".into(), message: "not now".into(), retryable };
    let retry_after_ms = rng.chance(20).then(|| rng.up_to(200));
    Outcome::Failed { error, retry_after_ms, maybe_done }
}

/// An output that names its call, so that a check can tell whose answer was taken.
fn output(n: u64, call: &Call, rng: &mut Rng) -> Outcome {
    let named = format!("{{\"call\":{n}}}");
    let Work::Model { .. } = call.work else {
        return Outcome::Output { output: Payload::inline(named.as_bytes()) };
    };
    let names = ["look", "book", "pay", "wait", "unheard"];
    let tool_calls = (0..rng.up_to(3)).map(|i| {
        let name = names[rng.index(names.len())];
        let arguments = match name {
            "wait" => format!("{{\"ms\":{}}}", rng.up_to(200)),
            _ => format!("{{\"x\":{}}}", rng.up_to(100_000)),
        };
        ToolCall { id: format!("c{n}-{i}").into(), name: name.into(), arguments: arguments.into() }
    });
    let tool_calls: Vec<ToolCall> = tool_calls.collect();
    let text = (tool_calls.is_empty() && rng.chance(90)).then(|| "done".into());
    let usage = Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() };
    let answer = ModelAnswer { text, tool_calls, usage };
    Outcome::Model { answer, output: Payload::inline(named.as_bytes()) }
}
