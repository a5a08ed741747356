//! The steps of a task, folded from its events.
//!
//! Steps are numbered from 1 without gaps, so a page is a window of numbers, and only that window
//! is kept while the events pass by. A cursor remembers the event at which the next window begins.

use super::list::{LIMIT, bad_cursor, push_next};
use super::tasks::read;
use crate::core::Core;
use crate::extract::Request;
use crate::json::{push_str, push_u64};
use crate::opaque::{self, StepsCursor};
use crate::problem::Problem;
use crate::render::{
    PAGE_BYTES_MAX, json, push_key, push_opt_error, push_payload, push_usage, resolve,
};
use crate::route::Outcome;
use crate::time::{push_opt_time, push_time};
use hyper::StatusCode;
use no_engine::agent::definition::ToolEffect;
use no_engine::agent::state::StepKind;
use no_engine::event::{Event, Record};
use no_engine::id::TaskId;
use no_engine::payload::Payload;
use no_engine::task::{TaskError, Usage};
use no_engine::time::Millis;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Events read from the store at once.
const EVENTS_PER_READ: usize = 512;

/// One step as far as the events have told.
pub(super) struct StepView {
    step: u32,
    name: Arc<str>,
    kind: StepKind,
    attempt: u32,
    state: &'static str,
    input: Option<Payload>,
    output: Option<Payload>,
    error: Option<Box<TaskError>>,
    usage: Usage,
    started_at: Millis,
    ended_at: Option<Millis>,
    first_event: u32,
    first_attempt: u32,
    effect: ToolEffect,
    /// The task became a dead letter while it ran.
    is_cut_off: bool,
}

impl StepView {
    /// Nobody waits for the call any more: it is made again, or its outcome is unknown. A timer
    /// goes on.
    fn interrupt(&mut self) {
        self.state = match (self.kind, self.effect) {
            (StepKind::Timer, _) => "running",
            (_, ToolEffect::Unsafe) => "outcome_unknown",
            (_, ToolEffect::Pure | ToolEffect::Idempotent) => "planned",
        };
    }

    fn end(&mut self, state: &'static str, at: Millis) {
        self.state = state;
        self.ended_at = Some(at);
    }
}

/// Folds events into the steps of one window.
pub(super) struct Fold {
    after: u32,
    until: u32,
    attempt: u32,
    steps: BTreeMap<u32, StepView>,
    /// The first event of a step beyond the window, and the attempt then.
    beyond: Option<(u32, u32)>,
}

impl Fold {
    /// Steps above the cursor's, at most `limit`.
    pub(super) fn new(cursor: StepsCursor, limit: usize) -> Fold {
        Fold {
            after: cursor.after,
            until: cursor.after.saturating_add(u32::try_from(limit).unwrap_or(u32::MAX)),
            attempt: cursor.attempt,
            steps: BTreeMap::new(),
            beyond: None,
        }
    }

    /// Takes the next event.
    pub(super) fn take(&mut self, record: &Record) {
        match &*record.event {
            Event::Started { attempt, .. } => self.attempt = attempt.0,
            Event::StepStarted { step, kind, name, input, effect, .. } => {
                if let Some(view) = self.view(record, step.0, *kind, name) {
                    view.state = "running";
                    view.effect = *effect;
                    view.error = None;
                    view.ended_at = None;
                    if input.is_some() {
                        view.input.clone_from(input);
                    }
                }
            }
            Event::StepEnded { step, kind, name, output, usage, .. } => {
                if let Some(view) = self.view(record, step.0, *kind, name) {
                    view.state = "succeeded";
                    view.error = None;
                    view.output = Some(output.clone());
                    view.usage = *usage;
                    view.ended_at = Some(record.at);
                }
            }
            Event::StepFailed { step, error } => {
                if let Some(view) = self.steps.get_mut(&step.0) {
                    view.error = Some(error.clone());
                    view.end("failed", record.at);
                }
            }
            Event::StepUnknown { step } => self.set_state(step.0, "outcome_unknown"),
            Event::StepReset { step } => self.set_state(step.0, "planned"),
            Event::Interrupted { .. } => self.running().for_each(StepView::interrupt),
            Event::Cancelled => self
                .steps
                .values_mut()
                .filter(|view| view.state != "succeeded")
                .for_each(|view| view.end("cancelled", record.at)),
            Event::DeadLettered { error } => self.running().for_each(|view| {
                view.is_cut_off = true;
                view.error = Some(error.clone());
                view.end("failed", record.at);
            }),
            Event::Retried { .. } => self.revive(),
            Event::Submitted { .. }
            | Event::Queued { .. }
            | Event::Waited { .. }
            | Event::Woken
            | Event::Succeeded { .. }
            | Event::RetryScheduled { .. }
            | Event::Removed => {}
        }
    }

    fn running(&mut self) -> impl Iterator<Item = &mut StepView> {
        self.steps.values_mut().filter(|view| view.state == "running")
    }

    /// A dead letter goes round again: what was cut off is as after an interruption.
    fn revive(&mut self) {
        for view in self.steps.values_mut().filter(|view| view.is_cut_off) {
            view.is_cut_off = false;
            view.error = None;
            view.ended_at = None;
            view.interrupt();
        }
    }

    /// The step in the window, new if this is its first event; `None` outside the window.
    fn view(
        &mut self,
        record: &Record,
        step: u32,
        kind: StepKind,
        name: &Arc<str>,
    ) -> Option<&mut StepView> {
        if self.until < step {
            self.beyond.get_or_insert((record.n, self.attempt));
            return None;
        }
        if step <= self.after {
            return None;
        }
        let attempt = self.attempt;
        let view = self.steps.entry(step).or_insert_with(|| StepView {
            step,
            name: Arc::clone(name),
            kind,
            attempt,
            state: "running",
            input: None,
            output: None,
            error: None,
            usage: Usage::default(),
            started_at: record.at,
            ended_at: None,
            first_event: record.n,
            first_attempt: attempt,
            effect: ToolEffect::Pure,
            is_cut_off: false,
        });
        view.attempt = attempt;
        Some(view)
    }

    fn set_state(&mut self, step: u32, state: &'static str) {
        if let Some(view) = self.steps.get_mut(&step) {
            view.state = state;
        }
    }

    /// Whether no later event can change the window, and there is a next one.
    fn is_complete(&self) -> bool {
        let window = (self.until - self.after) as usize;
        self.beyond.is_some()
            && self.steps.len() == window
            && self.steps.values().all(|view| view.state == "succeeded")
    }

    /// Where the page after step `after` begins, given the steps that were not shown.
    fn next(&self, after: u32, unshown: &[StepView]) -> Option<StepsCursor> {
        let firsts = unshown.iter().map(|view| (view.first_event, view.first_attempt));
        let (event, attempt) = firsts.chain(self.beyond).min()?;
        Some(StepsCursor { after, event: event.saturating_sub(1), attempt })
    }
}

/// Folds the task's events from the store.
pub(super) async fn fold(
    core: &Core,
    id: TaskId,
    cursor: StepsCursor,
    limit: usize,
) -> Result<Fold, Problem> {
    let mut fold = Fold::new(cursor, limit);
    let mut after = cursor.event;
    loop {
        let records = core.reads.events(id, after, EVENTS_PER_READ).await;
        let records = records.map_err(|why| Problem::internal(&why))?;
        let Some(last) = records.last() else { return Ok(fold) };
        after = last.n;
        records.iter().for_each(|record| fold.take(record));
        if fold.is_complete() || records.len() < EVENTS_PER_READ {
            return Ok(fold);
        }
    }
}

/// Appends the steps, comma between them, up to a size; gives the last shown and those left over.
pub(super) async fn push_steps(
    core: &Core,
    id: TaskId,
    fold: &mut Fold,
    body: &mut Vec<u8>,
) -> Result<(u32, Vec<StepView>), Problem> {
    let mut shown = fold.after;
    let mut rest = std::mem::take(&mut fold.steps).into_values();
    let mut is_first = true;
    while let Some(mut view) = rest.next() {
        let payloads = view.input.iter().chain(&view.output);
        let bytes: usize = payloads.map(Payload::bytes_len).sum();
        if !is_first && PAGE_BYTES_MAX < body.len() + bytes {
            return Ok((shown, std::iter::once(view).chain(rest).collect()));
        }
        if !is_first {
            body.push(b',');
        }
        is_first = false;
        for payload in view.input.iter_mut().chain(&mut view.output) {
            resolve(&core.reads, id, payload).await?;
        }
        push_step(body, &view);
        shown = view.step;
    }
    Ok((shown, Vec::new()))
}

fn push_step(out: &mut Vec<u8>, view: &StepView) {
    out.extend_from_slice(br#"{"step":"#);
    push_u64(out, u64::from(view.step));
    push_key(out, "name");
    push_str(out, &view.name);
    push_key(out, "kind");
    push_str(out, view.kind.name());
    push_key(out, "attempt");
    push_u64(out, u64::from(view.attempt));
    push_key(out, "state");
    push_str(out, view.state);
    push_key(out, "input");
    push_payload(out, view.input.as_ref());
    push_key(out, "output");
    push_payload(out, view.output.as_ref());
    push_key(out, "error");
    push_opt_error(out, view.error.as_deref());
    push_key(out, "usage");
    push_usage(out, &view.usage);
    push_key(out, "started_at");
    push_time(out, view.started_at);
    push_key(out, "ended_at");
    push_opt_time(out, view.ended_at);
    out.push(b'}');
}

/// `GET /v1/tasks/{id}/steps?limit&cursor`.
pub(super) async fn list(request: Request) -> Outcome {
    let (core, id) = (&request.core, request.task_id()?);
    let mut query = request.query()?;
    let limit = query.take_limit(LIMIT)?;
    let cursor = match query.take("cursor") {
        None => StepsCursor::default(),
        Some(text) => opaque::parse_steps_cursor(&text).ok_or_else(bad_cursor)?,
    };
    query.done()?;
    read(core, &request.tenant(), id).await?;
    let mut fold = fold(core, id, cursor, limit).await?;
    let mut body = br#"{"items":["#.to_vec();
    let (shown, unshown) = push_steps(core, id, &mut fold, &mut body).await?;
    let next = fold.next(shown, &unshown);
    push_next(&mut body, next.map(opaque::steps_cursor).as_deref());
    Ok(json(StatusCode::OK, body))
}
