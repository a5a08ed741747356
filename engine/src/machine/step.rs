//! What comes back from outside calls, and the agent loop that goes on from it.

use super::start::call;
use super::{Bug, Gated, Machine};
use crate::agent::definition::{Agent, Kind, ToolEffect};
use crate::agent::state::{ModelAnswer, OpenState, OpenStep, StepKind};
use crate::agent::{self, Next};
use crate::command::{Intake, Outcome};
use crate::effect::{Context, Effect, Work};
use crate::event::Event;
use crate::id::{Fence, Step, TaskId};
use crate::payload::Payload;
use crate::task::{State, TaskError};
use crate::time::Now;
use std::sync::Arc;

impl Machine {
    pub(super) fn outcome(
        &mut self,
        now: Now,
        id: TaskId,
        fence: Fence,
        step: Step,
        outcome: Outcome,
    ) {
        let is_fenced = !self.has_bug(Bug::NoFenceCheck);
        let Some(held) = self.held(id).filter(|held| {
            held.task.state == State::Running && (held.task.fence == fence || !is_fenced)
        }) else {
            self.stats.stale += 1;
            return;
        };
        let name = Arc::clone(&held.task.agent);
        let Some(agent) = self.agents.get(&name).cloned() else {
            return self.dead_letter(now, id, "agent_unknown", "the agent was deleted");
        };
        if step == Step(0) {
            if agent.kind == Kind::Http {
                return self.http_outcome(now, id, outcome);
            }
            self.stats.stale += 1;
            return;
        }
        let held = self.held(id).expect("looked at above");
        let open = held.task.run.as_ref().and_then(|run| {
            let called = |open: &&OpenStep| open.step == step && open.state == OpenState::Called;
            run.open.iter().find(called).cloned()
        });
        let Some(open) = open else {
            self.stats.stale += 1;
            return;
        };
        self.count_call(now, id, &open, &outcome);
        match outcome {
            Outcome::Model { answer, output } if open.kind == StepKind::Model => {
                self.model_answered(now, id, &open, answer, output);
            }
            Outcome::Output { output } => {
                self.step_ended(now, id, &open, output);
                if self.has_bug(Bug::StepRepeated) {
                    self.repeat_call(id, &agent, &open);
                }
            }
            Outcome::Model { output, .. } => self.step_ended(now, id, &open, output),
            Outcome::Failed { error, retry_after_ms, maybe_done } => {
                let retry_after_ms = retry_after_ms.unwrap_or(0);
                self.step_failed(now, id, &open, error, retry_after_ms, maybe_done);
            }
        }
        if self.held(id).is_some_and(|held| held.task.state == State::Running) {
            self.go_on(now, id, &agent);
        }
    }

    fn http_outcome(&mut self, now: Now, id: TaskId, outcome: Outcome) {
        match outcome {
            Outcome::Output { output } | Outcome::Model { output, .. } => {
                self.record(now, id, Event::Succeeded { output });
            }
            Outcome::Failed { error, retry_after_ms, .. } => {
                self.fail_attempt(now, id, Box::new(error), retry_after_ms.unwrap_or(0));
            }
        }
    }

    fn model_answered(
        &mut self,
        now: Now,
        id: TaskId,
        open: &OpenStep,
        answer: ModelAnswer,
        output: Payload,
    ) {
        let text = answer.text.as_deref().unwrap_or("").trim();
        let is_last = answer.tool_calls.is_empty() && !text.is_empty();
        let final_output = is_last.then(|| Payload::text(answer.text.as_deref().unwrap_or("")));
        let mut usage = answer.usage;
        usage.iterations = 1;
        let event = Event::StepEnded {
            step: open.step,
            kind: StepKind::Model,
            name: Arc::clone(&open.name),
            call_id: None,
            output,
            usage,
            empty: answer.tool_calls.is_empty() && text.is_empty(),
            planned: answer.tool_calls,
            reported: 0,
        };
        self.record(now, id, event);
        self.attempt_progressed(id);
        if let Some(output) = final_output {
            self.record(now, id, Event::Succeeded { output });
        }
    }

    /// A tool or timer has its result.
    pub(super) fn step_ended(&mut self, now: Now, id: TaskId, open: &OpenStep, output: Payload) {
        let event = Event::StepEnded {
            step: open.step,
            kind: open.kind,
            name: Arc::clone(&open.name),
            call_id: open.call_id().map(Box::from),
            output,
            usage: crate::task::Usage::default(),
            planned: Vec::new(),
            empty: false,
            reported: 0,
        };
        self.record(now, id, event);
    }

    fn step_failed(
        &mut self,
        now: Now,
        id: TaskId,
        open: &OpenStep,
        error: TaskError,
        retry_after_ms: u64,
        maybe_done: bool,
    ) {
        if maybe_done && open.effect == ToolEffect::Unsafe {
            return self.record(now, id, Event::StepUnknown { step: open.step });
        }
        if error.retryable {
            let held = self.held_mut(id).expect("still held");
            let active = held.active_mut();
            active.retry_after_ms = active.retry_after_ms.max(retry_after_ms);
            let error = Box::new(error);
            return self.record(now, id, Event::StepFailed { step: open.step, error });
        }
        if open.kind == StepKind::Model {
            return self.end_failed(now, id, Box::new(error));
        }
        // A tool that refuses for good is news for the model, not the end of the task.
        let told = serde_json::json!({"error": {"code": error.code, "message": error.message}});
        let output = Payload::new(told.to_string().as_bytes(), crate::payload::hash);
        self.step_ended(now, id, open, output);
    }

    /// Does what the loop does next until it has to wait for something.
    pub(super) fn go_on(&mut self, now: Now, id: TaskId, agent: &Arc<Agent>) {
        if agent.kind != Kind::Model {
            return self.dead_letter(now, id, "agent_changed", "the agent is no loop any more");
        }
        loop {
            let task = &self.held(id).expect("a running loop is held").task;
            match agent::next(task, agent) {
                Next::Await => return,
                // A step's end is where a draining node leaves a loop, as one does whose partition
                // goes elsewhere; the next start goes on there.
                Next::AskModel { .. } | Next::CallTool { .. }
                    if self.intake == Intake::Draining || self.is_leaving(id) =>
                {
                    return self.rest(id);
                }
                Next::AskModel { again } => return self.ask_model(now, id, agent, again),
                Next::CallTool { step, tool, arguments } => {
                    self.call_tool(now, id, agent, step, tool, arguments);
                }
                Next::StartTimer { step, ms } => self.start_timer(now, id, step, ms),
                Next::Decline { step, output } => self.decline(now, id, step, output),
                Next::Park(waiting) => {
                    let waiting = Box::new(waiting);
                    return self.record(now, id, Event::Waited { waiting });
                }
                Next::EndAttempt => {
                    let held = self.held_mut(id).expect("still held");
                    let wait_ms = std::mem::take(&mut held.active_mut().retry_after_ms);
                    let error = held.task.error.clone().expect("a failed step left its error");
                    return self.fail_attempt(now, id, error, wait_ms);
                }
                Next::Fail { code, message } => return self.dead_letter(now, id, code, &message),
            }
        }
    }

    /// A loop stops between two steps; once nothing of it is under way it does not hold up a drain.
    fn rest(&mut self, id: TaskId) {
        let run = self.held(id).and_then(|held| held.task.run.as_ref());
        let open = run.map_or(&[][..], |run| &run.open);
        if open.iter().all(|open| open.state != OpenState::Called) {
            self.drained.insert(id);
        }
    }

    fn ask_model(&mut self, now: Now, id: TaskId, agent: &Arc<Agent>, again: Option<Step>) {
        let task = &self.held(id).expect("still held").task;
        let step = again.unwrap_or(Step(task.steps + 1));
        let name = agent.model.clone().unwrap_or_else(|| Arc::from(""));
        let event = Event::StepStarted {
            step,
            kind: StepKind::Model,
            name,
            call_id: None,
            input: None,
            effect: ToolEffect::Idempotent,
            until: None,
        };
        self.record(now, id, event);
        let held = self.held_mut(id).expect("still held");
        held.active_mut().model_called_at = Some(now.mono);
        let task = &mut held.task;
        let (input, iteration) = (task.input.clone(), task.usage().iterations + 1);
        let run = task.run_mut().expect("it has an open step");
        let is_warm = run.warm && again.is_none();
        let mut fresh = run.fresh.take();
        fresh.sort_by_key(|(step, _)| *step);
        let fresh = fresh.into_iter().map(|(_, message)| message).collect();
        let context = Context { after: run.model_step, fresh: is_warm.then_some(fresh) };
        let work = Work::Model { input, iteration, context };
        let call = call(&self.held(id).expect("still held").task, agent, step, work);
        self.open.gated.push(Gated::Effect(Effect::Call(call)));
    }

    fn call_tool(
        &mut self,
        now: Now,
        id: TaskId,
        agent: &Arc<Agent>,
        step: Step,
        tool: usize,
        arguments: Payload,
    ) {
        let open = self.open_step(id, step);
        let event = Event::StepStarted {
            step,
            kind: StepKind::Tool,
            name: Arc::clone(&open.name),
            call_id: open.call_id().map(Box::from),
            input: Some(arguments.clone()),
            effect: self.tool_effect(agent, tool),
            until: None,
        };
        self.record(now, id, event);
        let work = Work::Tool { tool, arguments };
        let call = call(&self.held(id).expect("still held").task, agent, step, work);
        self.open.gated.push(Gated::Effect(Effect::Call(call)));
    }

    fn tool_effect(&self, agent: &Agent, tool: usize) -> ToolEffect {
        if self.has_bug(Bug::UnsafeRepeated) {
            return ToolEffect::Idempotent;
        }
        agent.tools[tool].effect()
    }

    /// The planted bug [`Bug::StepRepeated`].
    fn repeat_call(&mut self, id: TaskId, agent: &Arc<Agent>, open: &OpenStep) {
        let arguments = open.arguments().cloned().unwrap_or_else(Payload::null);
        let task = &self.held(id).expect("still held").task;
        let call = call(task, agent, open.step, Work::Tool { tool: 0, arguments });
        self.open.gated.push(Gated::Effect(Effect::Call(call)));
    }

    fn start_timer(&mut self, now: Now, id: TaskId, step: Step, ms: u64) {
        let open = self.open_step(id, step);
        let event = Event::StepStarted {
            step,
            kind: StepKind::Timer,
            name: Arc::clone(&open.name),
            call_id: open.call_id().map(Box::from),
            input: open.arguments().cloned(),
            effect: ToolEffect::Pure,
            until: Some(now.wall + ms),
        };
        self.record(now, id, event);
    }

    fn decline(&mut self, now: Now, id: TaskId, step: Step, output: Payload) {
        let open = self.open_step(id, step);
        self.step_ended(now, id, &open, output);
    }

    fn open_step(&self, id: TaskId, step: Step) -> OpenStep {
        let run = self.held(id).and_then(|held| held.task.run.as_ref()).expect("a loop");
        run.open.iter().find(|open| open.step == step).expect("the step is open").clone()
    }

    fn count_call(&mut self, now: Now, id: TaskId, open: &OpenStep, outcome: &Outcome) {
        let is_model = open.kind == StepKind::Model;
        let active = self.held_mut(id).and_then(|held| held.active.as_mut());
        let called_at = active.filter(|_| is_model).and_then(|one| one.model_called_at.take());
        let calls = if is_model { &mut self.stats.models } else { &mut self.stats.tools };
        if !calls.contains_key(&open.name) {
            // A model may invent tools; their names must not grow the metrics without bound.
            if crate::limits::AGENTS_MAX <= calls.len() {
                return;
            }
            calls.insert(Arc::clone(&open.name), crate::stats::CallStats::default());
        }
        let stats = calls.get_mut(&open.name).expect("just inserted");
        match outcome {
            Outcome::Failed { .. } => stats.failed += 1,
            _ => stats.ok += 1,
        }
        if let Some(at) = called_at {
            stats.duration_us.record(now.mono.0.saturating_sub(at.0) * 1_000);
        }
        let usage = outcome.usage();
        stats.input_tokens += usage.input_tokens;
        stats.output_tokens += usage.output_tokens;
        stats.cost_micro_usd += usage.cost_micro_usd;
    }
}
