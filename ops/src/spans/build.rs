//! Makes spans of facts: remembers when things began, and says how they ended.
//!
//! What is remembered is bounded and may be forgotten at any time: a restart forgets all of it.
//! What is missing when something ends is read from the task's history, which says the same.

use super::otlp::{Kind, Span, attributes};
use super::tap::{Fact, What};
use no_engine::agent::state::StepKind;
use no_engine::id::{Attempt, Step, TaskId};
use no_engine::port::Reader;
use no_engine::task::{State, TaskError, Usage};
use no_engine::time::Millis;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Beginnings that are remembered; the oldest tasks' are forgotten first.
const BEGUN_MAX: usize = 65_536;
/// Events read at once.
const PAGE: usize = 512;

/// Whose beginning: attempt 0 stands for a redrive, step 0 for the attempt itself.
type Key = (TaskId, Attempt, Step);

#[derive(Clone)]
struct Begun {
    at: Millis,
    /// Of a step.
    step: Option<(StepKind, Arc<str>)>,
}

/// Makes spans of one node's facts, in the order in which they were committed.
pub(super) struct Builder<R> {
    begun: BTreeMap<Key, Begun>,
    reader: R,
}

/// How something ended.
struct End<'a> {
    at: Millis,
    outcome: &'a str,
    error: Option<&'a TaskError>,
    usage: Usage,
}

impl<R: Reader> Builder<R> {
    pub(super) fn new(reader: R) -> Builder<R> {
        Builder { begun: BTreeMap::new(), reader }
    }

    /// Remembers what began, and adds the spans of what ended to `spans`.
    pub(super) fn take(&mut self, fact: &Fact, spans: &mut Vec<Value>) {
        let (at, usage) = (fact.at, Usage::default());
        match &fact.what {
            What::Started | What::Redriven | What::StepStarted { .. } => self.begin(fact),
            What::StepEnded { step, kind, name, usage } => {
                let end = End { at, outcome: "ok", error: None, usage: *usage };
                let begun = self.step_begun(fact, *step, *kind, name);
                spans.push(step_span(fact, *step, &begun, &end));
            }
            What::StepFailed { step, error } => {
                let begun = self.step_begun(fact, *step, StepKind::Tool, &Arc::from("?"));
                let end = End { at, outcome: "failed", error: Some(error), usage };
                spans.push(step_span(fact, *step, &begun, &end));
            }
            What::AttemptEnded { outcome, error } => {
                let end = End { at, outcome, error: error.as_deref(), usage };
                self.end_attempt(fact, &end, spans);
            }
            What::TaskEnded { state, usage, error } => {
                let error = error.as_deref();
                let of_attempt = End { at, outcome: state.name(), error, usage: Usage::default() };
                self.end_attempt(fact, &of_attempt, spans);
                let end = End { at, outcome: state.name(), error, usage: *usage };
                let began = self.round_began(fact);
                spans.push(task_span(fact, began, *state, &end));
            }
        }
    }

    fn begin(&mut self, fact: &Fact) {
        let (key, step) = match &fact.what {
            What::Redriven => ((fact.task, Attempt(0), Step(0)), None),
            What::StepStarted { step, kind, name } => {
                ((fact.task, fact.attempt, *step), Some((*kind, Arc::clone(name))))
            }
            _ => ((fact.task, fact.attempt, Step(0)), None),
        };
        while BEGUN_MAX <= self.begun.len() {
            self.begun.pop_first();
        }
        self.begun.insert(key, Begun { at: fact.at, step });
    }

    /// When a step began; with its attempt where that was not said (its timer is older than the
    /// attempt, or it was resolved by hand), and at its end where a worker reported it.
    fn step_begun(&mut self, fact: &Fact, step: Step, kind: StepKind, name: &Arc<str>) -> Begun {
        let key = (fact.task, fact.attempt, step);
        let named = Some((kind, Arc::clone(name)));
        if kind == StepKind::Worker {
            return Begun { at: fact.at, step: named };
        }
        if !self.begun.contains_key(&key) {
            self.recall(fact);
        }
        if let Some(begun) = self.begun.remove(&key) {
            return begun;
        }
        let attempt = self.begun.get(&(fact.task, fact.attempt, Step(0)));
        Begun { at: attempt.map_or(fact.at, |attempt| attempt.at), step: named }
    }

    /// Ends an attempt that runs, with the steps that it leaves open; nothing where none runs.
    fn end_attempt(&mut self, fact: &Fact, end: &End<'_>, spans: &mut Vec<Value>) {
        let key = (fact.task, fact.attempt, Step(0));
        if fact.attempt == Attempt(0) {
            return;
        }
        if !self.begun.contains_key(&key) {
            self.recall(fact);
        }
        let Some(begun) = self.begun.remove(&key) else { return };
        for (step, open) in self.forget_steps(fact.task, fact.attempt) {
            spans.push(step_span(fact, step, &open, end));
        }
        spans.push(attempt_span(fact, begun.at, end));
    }

    fn forget_steps(&mut self, task: TaskId, attempt: Attempt) -> Vec<(Step, Begun)> {
        let of_it = (task, attempt, Step(0))..=(task, attempt, Step(u32::MAX));
        let keys: Vec<Key> = self.begun.range(of_it).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| Some((key.2, self.begun.remove(&key)?))).collect()
    }

    fn round_began(&mut self, fact: &Fact) -> Millis {
        if fact.trace.redrives() == 0 {
            return fact.created_at;
        }
        let key = (fact.task, Attempt(0), Step(0));
        if !self.begun.contains_key(&key) {
            self.recall(fact);
        }
        self.begun.remove(&key).map_or(fact.created_at, |begun| begun.at)
    }

    /// Remembers from the task's history what had begun and not ended before this fact.
    fn recall(&mut self, fact: &Fact) {
        let Ok(Some(task)) = self.reader.task(fact.task) else { return };
        let (mut after, mut attempt) = (0, Attempt(0));
        while let Ok(records) = self.reader.events(fact.task, after, PAGE) {
            let Some(last) = records.last() else { return };
            after = last.n;
            for record in records.iter().take_while(|record| record.n < fact.n) {
                if let no_engine::event::Event::Started { attempt: begun, .. } = &*record.event {
                    attempt = *begun;
                }
                let Some(what) = What::of(&record.event, &task) else { continue };
                let (n, at) = (record.n, record.at);
                self.replay(&Fact { n, at, attempt, what, ..fact.clone() });
            }
            if fact.n <= after {
                return;
            }
        }
    }

    fn replay(&mut self, old: &Fact) {
        match &old.what {
            What::Started | What::Redriven | What::StepStarted { .. } => self.begin(old),
            What::StepEnded { step, .. } | What::StepFailed { step, .. } => {
                self.begun.remove(&(old.task, old.attempt, *step));
            }
            What::AttemptEnded { .. } | What::TaskEnded { .. } => {
                self.forget_steps(old.task, old.attempt);
            }
        }
    }
}

fn task_span(fact: &Fact, began: Millis, state: State, end: &End<'_>) -> Value {
    let trace = &fact.trace;
    let mut more =
        vec![("gen_ai.agent.name", json!(&*fact.agent)), ("no.attempts", fact.attempt.0.into())];
    if 0 < end.usage.iterations {
        more.push(("gen_ai.operation.name", "invoke_agent".into()));
    }
    let error = end.error.filter(|_| state == State::Failed);
    Span {
        trace: trace.id(),
        id: trace.task_span(),
        parent: trace.parent(),
        name: format!("invoke_agent {}", fact.agent),
        kind: Kind::Internal,
        began,
        ended: end.at,
        attributes: all(fact, end, more),
        error: error.map(|error| (&*error.code, &*error.message)),
    }
    .json()
}

fn attempt_span(fact: &Fact, began: Millis, end: &End<'_>) -> Value {
    let trace = &fact.trace;
    Span {
        trace: trace.id(),
        id: trace.attempt_span(fact.attempt),
        parent: Some(trace.task_span()),
        name: format!("attempt {}", fact.attempt.0),
        kind: Kind::Internal,
        began,
        ended: end.at,
        attributes: all(fact, end, vec![("no.attempt", fact.attempt.0.into())]),
        error: error_of(end),
    }
    .json()
}

fn step_span(fact: &Fact, step: Step, begun: &Begun, end: &End<'_>) -> Value {
    let trace = &fact.trace;
    let (kind, name) = begun.step.as_ref().map_or((StepKind::Tool, "?"), |(k, n)| (*k, n));
    let mut more = vec![
        ("no.attempt", fact.attempt.0.into()),
        ("no.step", step.0.into()),
        ("no.step.kind", kind.name().into()),
    ];
    let (verb, span_kind) = match kind {
        StepKind::Model => {
            more.push(("gen_ai.operation.name", "chat".into()));
            more.push(("gen_ai.request.model", name.into()));
            ("chat", Kind::Client)
        }
        StepKind::Tool => {
            more.push(("gen_ai.operation.name", "execute_tool".into()));
            more.push(("gen_ai.tool.name", name.into()));
            ("execute_tool", Kind::Client)
        }
        StepKind::Timer | StepKind::Worker | StepKind::Http => (kind.name(), Kind::Internal),
    };
    Span {
        trace: trace.id(),
        id: trace.step_span(fact.attempt, step),
        parent: Some(trace.attempt_span(fact.attempt)),
        name: format!("{verb} {name}"),
        kind: span_kind,
        began: begun.at,
        ended: end.at,
        attributes: all(fact, end, more),
        error: error_of(end),
    }
    .json()
}

/// What stands on every span, and `more`.
fn all(fact: &Fact, end: &End<'_>, more: Vec<(&str, Value)>) -> Value {
    let mut all = vec![
        ("no.task.id", fact.task.to_string().into()),
        ("no.tenant", json!(&*fact.tenant)),
        ("no.outcome", end.outcome.into()),
    ];
    all.extend(more);
    if end.usage != Usage::default() {
        all.push(("gen_ai.usage.input_tokens", end.usage.input_tokens.into()));
        all.push(("gen_ai.usage.output_tokens", end.usage.output_tokens.into()));
        all.push(("no.cost_usd", json!(end.usage.cost_micro_usd as f64 / 1e6)));
    }
    if let Some((code, _)) = error_of(end) {
        all.push(("error.type", code.into()));
    }
    attributes(&all)
}

/// What went wrong, as code and words: an interruption is an error, a cancel is not.
fn error_of<'a>(end: &End<'a>) -> Option<(&'a str, &'a str)> {
    match end.error {
        Some(error) => Some((&error.code, &error.message)),
        None if end.outcome == "interrupted" => {
            Some(("interrupted", "the node ended while it ran"))
        }
        None => None,
    }
}
