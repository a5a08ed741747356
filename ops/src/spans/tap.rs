//! What a journal's thread hands over behind each commit: one small fact for each event that begins
//! or ends a span. Payloads stay behind.

use super::{FACTS_MAX, SpanCounts};
use no_engine::agent::state::StepKind;
use no_engine::event::{Batch, Event, Record};
use no_engine::id::{Attempt, Step, TaskId};
use no_engine::port::{CommitError, Journal};
use no_engine::task::{State, Task, TaskError, Usage};
use no_engine::time::Millis;
use no_engine::trace::{Sampling, Trace};
use no_storage::writer::Finish;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

/// An event of a task whose trace is kept.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) task: TaskId,
    pub(super) trace: Trace,
    pub(super) agent: Arc<str>,
    pub(super) tenant: Arc<str>,
    pub(super) created_at: Millis,
    /// The event's number and time.
    pub(super) n: u32,
    pub(super) at: Millis,
    /// The attempt that it belongs to.
    pub(super) attempt: Attempt,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Started,
    Redriven,
    StepStarted { step: Step, kind: StepKind, name: Arc<str> },
    StepEnded { step: Step, kind: StepKind, name: Arc<str>, usage: Usage },
    StepFailed { step: Step, error: Box<TaskError> },
    AttemptEnded { outcome: &'static str, error: Option<Box<TaskError>> },
    TaskEnded { state: State, usage: Usage, error: Option<Box<TaskError>> },
}

impl What {
    /// What an event says for spans, if anything. An end of a task is both an attempt's and its
    /// own: this is the task's.
    pub(super) fn of(event: &Event, task: &Task) -> Option<What> {
        let ended = |state, error| What::TaskEnded { state, usage: task.usage(), error };
        Some(match event {
            Event::Started { .. } => What::Started,
            Event::Retried { .. } => What::Redriven,
            Event::StepStarted { step, kind, name, .. } => {
                What::StepStarted { step: *step, kind: *kind, name: Arc::clone(name) }
            }
            Event::StepEnded { step, kind, name, usage, .. } => {
                let (step, kind, name) = (*step, *kind, Arc::clone(name));
                What::StepEnded { step, kind, name, usage: *usage }
            }
            Event::StepFailed { step, error } => {
                What::StepFailed { step: *step, error: error.clone() }
            }
            Event::RetryScheduled { error, .. } => {
                What::AttemptEnded { outcome: "failed", error: Some(error.clone()) }
            }
            Event::Interrupted { .. } => What::AttemptEnded { outcome: "interrupted", error: None },
            Event::Succeeded { .. } => ended(State::Succeeded, None),
            Event::DeadLettered { error } => ended(State::Failed, Some(error.clone())),
            Event::Cancelled => ended(State::Cancelled, None),
            Event::Submitted { .. }
            | Event::Queued { .. }
            | Event::StepUnknown { .. }
            | Event::StepReset { .. }
            | Event::Waited { .. }
            | Event::Woken
            | Event::Removed => return None,
        })
    }

    /// How many spans it may end, for counting those that are dropped.
    fn spans(&self) -> u64 {
        match self {
            What::Started | What::Redriven | What::StepStarted { .. } => 0,
            What::StepEnded { .. } | What::StepFailed { .. } | What::AttemptEnded { .. } => 1,
            What::TaskEnded { .. } => 2,
        }
    }
}

/// A journal's end of the queue to the exporter's thread. Never blocks.
#[derive(Clone)]
pub struct Tap {
    commits: SyncSender<Vec<Fact>>,
    queued: Arc<AtomicUsize>,
    counts: Arc<SpanCounts>,
    sampling: Sampling,
}

impl Tap {
    pub(super) fn new(
        commits: SyncSender<Vec<Fact>>,
        queued: Arc<AtomicUsize>,
        counts: Arc<SpanCounts>,
        sampling: Sampling,
    ) -> Tap {
        Tap { commits, queued, counts, sampling }
    }

    /// Hands over what these batches, which are durable, say for spans; or drops it.
    pub(super) fn take(&self, batches: &[Batch]) {
        let mut facts = Vec::new();
        for batch in batches {
            self.add(batch, &mut facts);
        }
        let len = facts.len();
        if len == 0 {
            return;
        }
        let spans: u64 = facts.iter().map(|fact| fact.what.spans()).sum();
        let queued = self.queued.fetch_add(len, Ordering::Relaxed);
        let is_sent = queued <= FACTS_MAX && self.commits.try_send(facts).is_ok();
        if !is_sent {
            self.queued.fetch_sub(len, Ordering::Relaxed);
            self.counts.dropped.fetch_add(spans, Ordering::Relaxed);
        }
    }

    fn add(&self, batch: &Batch, facts: &mut Vec<Fact>) {
        let kept = |task: &Task| {
            let trace = task.trace().under(self.sampling);
            trace.is_sampled().then_some(trace)
        };
        let kept = batch.tasks.iter().filter_map(|image| Some((&image.task, kept(&image.task)?)));
        let mut images: HashMap<_, _> =
            kept.map(|(task, trace)| (task.id, (task, trace, task.attempt))).collect();
        if images.is_empty() {
            return;
        }
        let first = facts.len();
        // The images are those after the batch: backwards, each start tells the attempt before it.
        for record in batch.records.iter().rev() {
            let Some((task, trace, attempt)) = images.get_mut(&record.task) else { continue };
            let Some(what) = What::of(&record.event, task) else { continue };
            facts.push(fact(task, *trace, *attempt, record, what));
            if let Event::Started { attempt: begun, .. } = &*record.event {
                *attempt = Attempt(begun.0.saturating_sub(1));
            }
        }
        facts[first..].reverse();
    }
}

fn fact(task: &Task, trace: Trace, attempt: Attempt, record: &Record, what: What) -> Fact {
    Fact {
        task: task.id,
        trace,
        agent: Arc::clone(&task.agent),
        tenant: Arc::clone(&task.tenant),
        created_at: task.created_at,
        n: record.n,
        at: record.at,
        attempt,
        what,
    }
}

/// A journal whose commits are told to a tap and, at level debug, to the log, once they are
/// durable.
pub struct Traced<J> {
    journal: J,
    tap: Option<Tap>,
}

impl<J> Traced<J> {
    /// Around a journal; without a tap a commit costs two branches more.
    pub fn new(journal: J, tap: Option<Tap>) -> Traced<J> {
        Traced { journal, tap }
    }
}

impl<J: Journal> Journal for Traced<J> {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), CommitError> {
        self.journal.commit(batches)?;
        if let Some(tap) = &self.tap {
            tap.take(batches);
        }
        if tracing::enabled!(target: "agent", tracing::Level::DEBUG)
            || tracing::enabled!(target: "worker", tracing::Level::DEBUG)
        {
            batches.iter().for_each(log);
        }
        Ok(())
    }

    fn tidy(&mut self, now: Millis) -> Result<bool, CommitError> {
        self.journal.tidy(now)
    }
}

impl<J: Finish> Finish for Traced<J> {
    fn finish(&mut self) -> Result<(), CommitError> {
        self.journal.finish()
    }
}

/// A line for each event, of target `worker` where a worker has done it.
fn log(batch: &Batch) {
    let traces: HashMap<_, _> =
        batch.tasks.iter().map(|image| (image.task.id, image.task.trace())).collect();
    for record in &batch.records {
        let Some(trace_id) = traces.get(&record.task) else { continue };
        let (task, event) = (record.task, record.event.name());
        let step = match &*record.event {
            Event::StepStarted { step, .. }
            | Event::StepEnded { step, .. }
            | Event::StepFailed { step, .. } => step.0,
            _ => 0,
        };
        let is_worker = matches!(
            &*record.event,
            Event::Started { lease_ms: Some(_), .. }
                | Event::StepEnded { kind: StepKind::Worker, .. }
        );
        if is_worker {
            tracing::debug!(target: "worker", %task, %trace_id, step, event, "durable");
        } else {
            tracing::debug!(target: "agent", %task, %trace_id, step, event, "durable");
        }
    }
}
