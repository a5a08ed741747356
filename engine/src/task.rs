//! A task as a shard holds it: a header, and for a loop what it needs to go on. Histories stay in
//! the store.
//!
//! A million parked loops are a million headers, so a header is packed: what few tasks have stands
//! in a box of its own behind a method, and a number is as narrow as its bound in [`crate::limits`]
//! allows. [`TaskParts`] is the same task laid open, for whoever builds one.

mod new_task;
mod parts;
mod waiting;

pub use new_task::{Key, NewTask, Tags};
pub use parts::TaskParts;
pub use waiting::{WaitReason, Waiting};

use crate::agent::definition::Budget;
use crate::agent::state::LoopState;
use crate::id::{Attempt, Fence, TaskId};
use crate::limits::{ATTEMPTS_MAX, HISTORY_BYTES_MAX};
use crate::payload::Payload;
use crate::time::{Millis, Mono};
use crate::trace::{Origin, Trace};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use waiting::Waits;

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

/// A worker's right to a running task, until it ends by itself. Soft: it is no part of the task,
/// and a restart grants the full time anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// When it ends, by the monotonic clock.
    pub expires_at: Mono,
    /// How long a heartbeat extends it, in ms.
    pub lease_ms: u64,
}

/// A task as its shard holds it while it is live, and as a dead letter.
#[derive(Clone, PartialEq, Debug)]
pub struct Task {
    /// The id.
    pub id: TaskId,
    /// The agent's name.
    pub agent: Arc<str>,
    /// The tenant.
    pub tenant: Arc<str>,
    /// The input; a large one by its hash.
    pub input: Payload,
    /// Why the last attempt failed.
    pub error: Option<Box<TaskError>>,
    waits: Waits,
    /// The loop of kind `model` and the steps of a worker's attempt. Shared with the images of
    /// batches under way, and copied when it changes before they are done with it.
    pub run: Option<Arc<LoopState>>,
    /// `None` where all of it is absent. Shared: it never changes.
    asked: Option<Arc<Asked>>,
    end: Option<Box<End>>,
    /// `None` where all of it is 0.
    usage: Option<Box<Usage>>,
    /// When it was submitted.
    pub created_at: Millis,
    /// When it may run (next).
    pub run_at: Millis,
    /// When it became ready.
    pub ready_at: Millis,
    started_at: Since,
    /// One attempt's time-out, in ms; `u64::MAX` where there is none.
    pub timeout_ms: u64,
    /// Refuses stale holders.
    pub fence: Fence,
    /// Its place among those that became ready in its partition.
    pub ready_seq: u64,
    /// The current or last attempt.
    pub attempt: Attempt,
    /// Steps so far: the number of the last.
    pub steps: u32,
    /// Events of its history.
    pub events: u32,
    /// Bytes of its history, roughly; stays at the most that it can say.
    pub events_bytes: u32,
    /// Attempts that failed since the task last made progress.
    pub failures: u16,
    /// Failures that make a dead letter, at most [`crate::limits::ATTEMPTS_MAX`].
    pub max_attempts: u16,
    /// Crashes of the process in a row while it ran.
    pub crashes: u8,
    /// 0 to 9.
    pub priority: u8,
    /// Where it stands.
    pub state: State,
}

/// What a submission may ask for, and most do not.
#[derive(Clone, PartialEq, Default, Debug)]
struct Asked {
    fairness_key: Option<Arc<str>>,
    tags: Tags,
    deadline: Since,
    budget: Budget,
    key: Option<Key>,
    /// `None` where it is the default.
    origin: Option<Box<Origin>>,
}

impl Asked {
    fn packed(asked: Asked) -> Option<Arc<Asked>> {
        (asked != Asked::default()).then(|| Arc::new(asked))
    }

    fn packed_origin(origin: Origin) -> Option<Box<Origin>> {
        (origin != Origin::default()).then(|| Box::new(origin))
    }
}

/// What an ended task has beside a live one.
#[derive(Clone, PartialEq, Debug)]
struct End {
    at: Since,
    output: Option<Payload>,
}

/// An instant that may not have come yet, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Since(u64);

impl Default for Since {
    fn default() -> Since {
        Since::NEVER
    }
}

impl Since {
    const NEVER: Since = Since(u64::MAX);

    fn new(at: Option<Millis>) -> Since {
        at.map_or(Since::NEVER, |at| Since(at.0))
    }

    fn get(self) -> Option<Millis> {
        (self != Since::NEVER).then_some(Millis(self.0))
    }
}

const _: () = {
    // A header and what the shard keeps beside it are 256 bytes together, a size class of the
    // allocator: see `partition.rs`.
    assert!(size_of::<Task>() == 200);
    assert!(ATTEMPTS_MAX <= u16::MAX as u32);
    assert!(HISTORY_BYTES_MAX < u32::MAX as u64);
};

impl Task {
    /// The fairness key.
    #[must_use]
    pub fn fairness_key(&self) -> Option<&Arc<str>> {
        self.asked.as_ref()?.fairness_key.as_ref()
    }

    /// The tags.
    #[must_use]
    pub fn tags(&self) -> &[Box<str>] {
        self.asked.as_ref().and_then(|asked| asked.tags.as_deref()).unwrap_or_default()
    }

    /// All attempts end by this.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.asked.as_ref()?.deadline.get()
    }

    /// Bounds of its loop.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.asked.as_ref().map_or_else(Budget::default, |asked| asked.budget)
    }

    /// The idempotency key.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        self.asked.as_ref()?.key
    }

    /// Where it came from and how often it was sent round again.
    #[must_use]
    pub fn origin(&self) -> Origin {
        let origin = self.asked.as_ref().and_then(|asked| asked.origin.as_deref());
        origin.copied().unwrap_or_default()
    }

    /// Sets where it came from: for a store that reads it.
    pub fn set_origin(&mut self, origin: Origin) {
        if origin != self.origin() {
            let asked = Arc::make_mut(self.asked.get_or_insert_default());
            asked.origin = Asked::packed_origin(origin);
        }
    }

    /// Its place in its trace.
    #[must_use]
    pub fn trace(&self) -> Trace {
        Trace::new(self.id, self.origin())
    }

    /// What it waits for, while `waiting`.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        self.waits.get()
    }

    /// Sets what it waits for.
    pub fn set_waiting(&mut self, waiting: Option<&Waiting>) {
        self.waits = Waits::new(waiting);
    }

    /// Its loop, to be changed, if it has one.
    pub fn run_mut(&mut self) -> Option<&mut LoopState> {
        self.run.as_mut().map(Arc::make_mut)
    }

    /// The output, once it succeeded.
    #[must_use]
    pub fn output(&self) -> Option<&Payload> {
        self.end.as_ref()?.output.as_ref()
    }

    /// The output, to put its bytes in.
    pub fn output_mut(&mut self) -> Option<&mut Payload> {
        self.end.as_mut()?.output.as_mut()
    }

    /// When it ended.
    #[must_use]
    pub fn ended_at(&self) -> Option<Millis> {
        self.end.as_ref()?.at.get()
    }

    /// When it was first started.
    #[must_use]
    pub fn started_at(&self) -> Option<Millis> {
        self.started_at.get()
    }

    /// What it used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage.as_ref().map_or_else(Usage::default, |usage| **usage)
    }

    /// A task that was submitted at `at` and waits for its time, without any event yet.
    pub(crate) fn new(new: &NewTask, budget: Budget, at: Millis) -> Task {
        let is_plain = new.fairness_key.is_none()
            && new.tags.is_none()
            && new.deadline.is_none()
            && new.key.is_none()
            && new.caller.is_none()
            && budget == Budget::default();
        let asked = || Asked {
            fairness_key: new.fairness_key.clone(),
            tags: new.tags.clone().filter(|tags| !tags.is_empty()),
            deadline: Since::new(new.deadline),
            budget,
            key: new.key,
            origin: Asked::packed_origin(Origin {
                caller: new.caller.as_deref().copied(),
                redrives: 0,
            }),
        };
        Task {
            id: new.id,
            agent: Arc::clone(&new.agent),
            tenant: Arc::clone(&new.tenant),
            input: new.input.stored(),
            error: None,
            waits: Waits::Nothing,
            run: None,
            asked: if is_plain { None } else { Asked::packed(asked()) },
            end: None,
            usage: None,
            created_at: at,
            run_at: new.run_at.unwrap_or(at),
            ready_at: at,
            started_at: Since::NEVER,
            timeout_ms: u64::MAX,
            fence: Fence(0),
            ready_seq: 0,
            attempt: Attempt(0),
            steps: 0,
            events: 0,
            events_bytes: 0,
            failures: 0,
            max_attempts: 0,
            crashes: 0,
            priority: new.priority,
            state: State::Scheduled,
        }
    }

    /// Lays the task open, has `with` change it, and packs it again: for tests and tools.
    pub fn change(&mut self, with: impl FnOnce(&mut TaskParts)) {
        let mut parts = TaskParts::from(self.clone());
        with(&mut parts);
        *self = Task::from(parts);
    }

    /// An attempt began: the first one is remembered.
    pub(crate) fn set_started(&mut self, at: Millis) {
        self.started_at = Since::new(self.started_at.get().or(Some(at)));
    }

    /// It ended, with an output where it succeeded.
    pub(crate) fn set_end(&mut self, at: Millis, output: Option<Payload>) {
        self.end = Some(Box::new(End { at: Since(at.0), output }));
    }

    /// A dead letter goes round again.
    pub(crate) fn redriven(&mut self) {
        self.end = None;
        let asked = Arc::make_mut(self.asked.get_or_insert_default());
        let origin = asked.origin.get_or_insert_default();
        origin.redrives = origin.redrives.saturating_add(1);
    }

    pub(crate) fn add_usage(&mut self, more: &Usage) {
        if *more == Usage::default() {
            return;
        }
        let usage = self.usage.get_or_insert_default();
        usage.iterations += more.iterations;
        usage.input_tokens += more.input_tokens;
        usage.output_tokens += more.output_tokens;
        usage.cost_micro_usd += more.cost_micro_usd;
    }

    /// Has the names that it shares with others point to one copy.
    pub(crate) fn share_names(&mut self, agent: &Arc<str>, tenant: &Arc<str>) {
        for (own, shared) in [(&mut self.agent, agent), (&mut self.tenant, tenant)] {
            if !Arc::ptr_eq(own, shared) {
                assert_eq!(own, shared);
                *own = Arc::clone(shared);
            }
        }
    }

    /// Bytes of payload that this header keeps in memory.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.input.resident_bytes() + self.output().map_or(0, Payload::resident_bytes)
    }
}
