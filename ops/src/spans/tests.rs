//! Facts of batches, and spans of facts, without a node.

use super::build::Builder;
use super::tap::{Fact, What};
use super::*;
use no_engine::agent::definition::Budget;
use no_engine::agent::state::StepKind;
use no_engine::event::{Batch, Event, Record, TaskImage};
use no_engine::id::{Attempt, Fence, PartitionId, Step, TaskId};
use no_engine::machine::apply;
use no_engine::payload::{Hash, Payload};
use no_engine::port::{Filter, Page};
use no_engine::task::{NewTask, Task};
use no_engine::time::Millis;

/// A task and its history so far.
struct History {
    task: Task,
    records: Vec<Record>,
}

impl History {
    fn new(random: u64) -> History {
        let id = TaskId::new(1_000, random, PartitionId(0));
        let new = NewTask::plain(id, "echo".into(), "default".into(), Payload::null());
        let (timeout_ms, max_attempts, budget, ready_seq) = (1_000, 3, Budget::default(), 1);
        let new = Box::new(new);
        let event = Event::Submitted { new, timeout_ms, max_attempts, budget, ready_seq };
        let record = Record { task: id, n: 1, at: Millis(1_000), event: Arc::new(event) };
        History { task: apply::submitted(&record), records: vec![record] }
    }

    /// Adds an event ten ms after the one before.
    fn add(&mut self, event: Event) {
        let n = self.task.events + 1;
        let at = Millis(990 + u64::from(n) * 10);
        let record = Record { task: self.task.id, n, at, event: Arc::new(event) };
        apply::fold(&mut self.task, &record);
        self.records.push(record);
    }

    /// The batch of the events from number `first` on.
    fn batch(&self, first: u32) -> Batch {
        let records = self.records.iter().filter(|record| first <= record.n).cloned().collect();
        let tasks = vec![TaskImage { task: self.task.clone(), is_new: first == 1 }];
        Batch { records, tasks, ..Batch::default() }
    }
}

fn started(attempt: u32) -> Event {
    Event::Started {
        attempt: Attempt(attempt),
        fence: Fence(u64::from(attempt) * 2),
        lease_ms: None,
    }
}

fn failed() -> Event {
    let error = no_engine::task::TaskError {
        code: "model_failed".into(),
        message: "no answer".into(),
        retryable: true,
    };
    Event::RetryScheduled { error: Box::new(error), run_at: Millis(1_000) }
}

fn called(step: u32) -> Event {
    Event::StepStarted {
        step: Step(step),
        kind: StepKind::Model,
        name: "m".into(),
        call_id: None,
        input: None,
        effect: no_engine::agent::definition::ToolEffect::Idempotent,
        until: None,
    }
}

/// A store with one task.
struct One(Option<(Task, Vec<Record>)>);

impl Reader for One {
    fn task(&mut self, id: TaskId) -> std::result::Result<Option<Task>, String> {
        Ok(self.0.as_ref().map(|(task, _)| task.clone()).filter(|task| task.id == id))
    }

    fn events(
        &mut self,
        _: TaskId,
        after: u32,
        limit: usize,
    ) -> std::result::Result<Vec<Record>, String> {
        let all = self.0.iter().flat_map(|(_, records)| records);
        Ok(all.filter(|record| after < record.n).take(limit).cloned().collect())
    }

    fn list(
        &mut self,
        _: &Filter,
        _: Option<TaskId>,
        _: usize,
    ) -> std::result::Result<Page, String> {
        Ok(Page::default())
    }

    fn blob(&mut self, _: TaskId, _: Hash) -> std::result::Result<Option<Arc<[u8]>>, String> {
        Ok(None)
    }
}

/// A tap with room for so many commits, and what comes out of it.
fn tap(commits: usize, ratio: f64) -> (Tap, Receiver<Vec<Fact>>, Arc<SpanCounts>) {
    let (sender, inbox) = mpsc::sync_channel(commits);
    let counts = Arc::new(SpanCounts::default());
    let sampling = Sampling::of_ratio(ratio);
    (Tap::new(sender, Arc::default(), Arc::clone(&counts), sampling), inbox, counts)
}

/// Two attempts in one history: the first fails after a call, the second answers.
fn two_attempts() -> History {
    let mut history = History::new(7);
    history.add(started(1));
    history.add(called(1));
    history.add(failed());
    history.add(Event::Queued { ready_seq: 2 });
    history.add(started(2));
    history.add(Event::Succeeded { output: Payload::null() });
    history
}

#[test]
fn each_fact_knows_its_attempt_however_the_commits_cut() {
    let history = two_attempts();
    let (tap, inbox, _) = tap(8, 1.0);
    tap.take(&[history.batch(1)]);
    let facts = inbox.try_recv().expect("facts");
    let attempts: Vec<u32> = facts.iter().map(|fact| fact.attempt.0).collect();
    assert_eq!(attempts, [1, 1, 1, 2, 2]);
    assert!(facts.is_sorted_by_key(|fact| fact.n));
    assert!(matches!(facts[2].what, What::AttemptEnded { outcome: "failed", .. }));
}

#[test]
fn a_restart_makes_the_same_spans_from_the_history() {
    let history = two_attempts();
    let (tap, inbox, _) = tap(8, 1.0);
    tap.take(&[history.batch(1)]);
    let facts = inbox.try_recv().expect("facts");
    let mut whole = Vec::new();
    let mut builder = Builder::new(One(None));
    facts.iter().for_each(|fact| builder.take(fact, &mut whole));
    assert_eq!(whole.len(), 4, "{whole:#?}");
    let mut pieces = Vec::new();
    for fact in &facts {
        let stored = One(Some((history.task.clone(), history.records.clone())));
        Builder::new(stored).take(fact, &mut pieces);
    }
    assert_eq!(pieces, whole, "each fact by itself, by a process that has seen no other");
}

#[test]
fn what_finds_the_queue_full_is_dropped_and_counted() {
    let history = two_attempts();
    let (tap, inbox, counts) = tap(1, 1.0);
    tap.take(&[history.batch(1)]);
    assert_eq!(counts.read()[1], ("dropped", 0));
    tap.take(&[history.batch(1)]);
    assert_eq!(counts.read()[1], ("dropped", 3), "an attempt's, and a task's with its attempt's");
    assert_eq!(inbox.try_iter().count(), 1);
    drop(inbox);
    tap.take(&[history.batch(1)]);
    assert_eq!(counts.read()[1], ("dropped", 6));
}

#[test]
fn a_trace_that_is_not_kept_makes_no_facts() {
    let (tap, inbox, counts) = tap(8, 0.0);
    tap.take(&[two_attempts().batch(1)]);
    assert_eq!(inbox.try_iter().count(), 0);
    assert_eq!(counts.read(), SpanCounts::default().read());
}
