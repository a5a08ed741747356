//! Folding an event into a task: the only place where a [`Task`] changes, whether the event was
//! decided just now or is read again. It cannot fail: what it asserts was checked when deciding.

use crate::agent::definition::ToolEffect;
use crate::agent::state::{AskedCall, LoopState, Message, OpenState, OpenStep, StepKind};
use crate::event::{Event, Record};
use crate::id::{Attempt, Fence, Step};
use crate::limits::LOOP_WINDOW;
use crate::map::stable_hash;
use crate::payload::Payload;
use crate::task::{State, Task};
use crate::time::Millis;
use std::sync::Arc;

/// The task that a `submitted` event makes.
#[must_use]
pub fn submitted(record: &Record) -> Task {
    let Event::Submitted { new, timeout_ms, max_attempts, budget, ready_seq } = &*record.event
    else {
        panic!("a history begins with submitted, not {}", record.event.name());
    };
    assert_eq!(record.n, 1, "submitted is the first event");
    assert_eq!(record.task, new.id);
    let mut task = Task::new(new, *budget, record.at);
    if *ready_seq != 0 {
        task.state = State::Queued;
    }
    task.ready_seq = *ready_seq;
    task.timeout_ms = *timeout_ms;
    task.max_attempts = u16::try_from(*max_attempts).unwrap_or(u16::MAX);
    task.events = 1;
    task.events_bytes = event_bytes(&record.event);
    task
}

/// Folds any later event into the task.
pub fn fold(task: &mut Task, record: &Record) {
    assert_eq!(record.task, task.id, "an event of another task");
    assert_eq!(record.n, task.events + 1, "a gap in the history");
    task.events = record.n;
    task.events_bytes = task.events_bytes.saturating_add(event_bytes(&record.event));
    match &*record.event {
        Event::Submitted { .. } => panic!("submitted twice"),
        Event::Queued { ready_seq } => ready(task, *ready_seq, record.at),
        Event::Started { attempt, fence, .. } => started(task, *attempt, *fence, record.at),
        Event::StepStarted { .. } => step_started(task, &record.event),
        Event::StepEnded { .. } => step_ended(task, &record.event),
        Event::StepFailed { step, error } => {
            set_open(task, *step, OpenState::Failed);
            task.error = Some(error.clone());
        }
        Event::StepUnknown { step } => set_open(task, *step, OpenState::Unknown),
        Event::StepReset { step } => {
            set_open(task, *step, OpenState::Planned);
            // The first call's answer may still come, late: it must not pass for the second's.
            task.fence = task.fence.next();
        }
        Event::Waited { waiting } => {
            assert_eq!(task.state, State::Running, "only a running task parks");
            task.state = State::Waiting;
            task.set_waiting(Some(waiting));
            task.crashes = 0;
        }
        Event::Woken => {
            assert_eq!(task.state, State::Waiting, "only a parked task wakes");
            task.state = State::Running;
            task.set_waiting(None);
        }
        Event::Succeeded { output } => {
            task.error = None;
            end(task, State::Succeeded, record.at, Some(output.stored()));
        }
        Event::RetryScheduled { error, run_at } => {
            assert_eq!(task.state, State::Running);
            task.state = State::Scheduled;
            task.failures += 1;
            task.crashes = 0;
            task.run_at = *run_at;
            task.error = Some(error.clone());
        }
        Event::DeadLettered { error } => {
            task.error = Some(error.clone());
            end(task, State::Failed, record.at, None);
        }
        Event::Cancelled => end(task, State::Cancelled, record.at, None),
        Event::Interrupted { crashes, fence } => interrupted(task, *crashes, *fence, record.at),
        Event::Retried { ready_seq } => {
            assert_eq!(task.state, State::Failed, "only dead letters go round again");
            task.failures = 0;
            task.crashes = 0;
            task.redriven();
            if let Some(run) = task.run_mut() {
                unsettle(run);
                run.calls.clear();
                run.empty = 0;
            }
            ready(task, *ready_seq, record.at);
        }
        Event::Removed => assert_eq!(task.state, State::Failed, "only dead letters are removed"),
    }
}

fn ready(task: &mut Task, ready_seq: u64, at: Millis) {
    assert!(matches!(task.state, State::Scheduled | State::Failed), "{:?}", task.state);
    assert!(0 < ready_seq);
    task.state = State::Queued;
    task.ready_seq = ready_seq;
    task.ready_at = at;
}

fn started(task: &mut Task, attempt: Attempt, fence: Fence, at: Millis) {
    assert_eq!(task.state, State::Queued, "only a queued task starts");
    assert!(task.fence < fence, "a fence only grows");
    assert_eq!(attempt, task.attempt.next(), "attempts have no gaps");
    task.state = State::Running;
    task.attempt = attempt;
    task.fence = fence;
    task.set_started(at);
    if let Some(run) = task.run_mut() {
        run.warm = false;
        run.fresh.clear();
        for open in run.open.iter_mut() {
            if open.state == OpenState::Failed {
                open.state = OpenState::Planned;
            }
        }
    }
}

fn step_started(task: &mut Task, event: &Event) {
    let Event::StepStarted { step, kind, name, call_id, input, effect, until } = event else {
        panic!("called with {}", event.name());
    };
    let state = until.map_or(OpenState::Called, OpenState::Timer);
    let run = Arc::make_mut(task.run.get_or_insert_default());
    if let Some(open) = run.open.iter_mut().find(|open| open.step == *step) {
        assert_eq!(open.state, OpenState::Planned, "a step begins once");
        open.state = state;
        open.effect = *effect;
        open.kind = *kind;
        return;
    }
    assert_eq!(step.0, task.steps + 1, "steps have no gaps");
    task.steps = step.0;
    run.open.push(OpenStep {
        step: *step,
        kind: *kind,
        name: Arc::clone(name),
        asked: AskedCall::packed(call_id.clone(), input.as_ref().map(Payload::stored)),
        effect: *effect,
        state,
    });
}

fn step_ended(task: &mut Task, event: &Event) {
    let Event::StepEnded {
        step, kind, call_id, output, usage, planned, empty, reported, name, ..
    } = event
    else {
        panic!("called with {}", event.name());
    };
    let run = Arc::make_mut(task.run.get_or_insert_default());
    if *kind == StepKind::Worker {
        assert_eq!(step.0, task.steps + 1, "a worker's steps have no gaps");
        task.steps = step.0;
        run.reported = *reported;
    } else {
        let before = run.open.len();
        run.open.retain(|open| open.step != *step);
        assert_eq!(run.open.len() + 1, before, "the step {step:?} ({name}) was not open");
    }
    task.add_usage(usage);
    let run = Arc::make_mut(task.run.get_or_insert_default());
    task.failures = 0;
    task.crashes = 0;
    match (kind, call_id) {
        (StepKind::Model, _) => {
            run.model_step = *step;
            run.warm = true;
            run.fresh = vec![(*step, Message::Assistant(output.stored()))].into();
            run.empty = if *empty { run.empty + 1 } else { 0 };
        }
        (_, Some(call_id)) if run.warm => {
            let message = Message::Tool { call_id: call_id.clone(), result: output.stored() };
            run.fresh.push((*step, message));
        }
        _ => {}
    }
    for call in planned {
        task.steps += 1;
        plan(run, Step(task.steps), call);
    }
}

/// Adds a tool call that a model asked for, and shows it to the loop detector.
fn plan(run: &mut LoopState, step: Step, call: &crate::agent::state::ToolCall) {
    run.open.push(OpenStep {
        step,
        kind: StepKind::Tool,
        name: Arc::from(&*call.name),
        asked: AskedCall::packed(Some(call.id.clone()), Some(call.arguments_payload())),
        effect: ToolEffect::Unsafe,
        state: OpenState::Planned,
    });
    if LOOP_WINDOW <= run.calls.len() {
        run.calls.remove_first();
    }
    run.calls.push(stable_hash(&[call.name.as_bytes(), call.arguments.as_bytes()]));
}

fn set_open(task: &mut Task, step: Step, state: OpenState) {
    let run = task.run_mut().expect("a loop has open steps");
    let open = run.open.iter_mut().find(|open| open.step == step).expect("the step is open");
    open.state = state;
}

fn interrupted(task: &mut Task, crashes: u32, fence: Fence, at: Millis) {
    assert_eq!(task.state, State::Running, "only what ran can be interrupted");
    assert!(task.fence < fence, "a fence only grows");
    task.state = State::Queued;
    task.ready_at = at;
    task.crashes = u8::try_from(crashes).unwrap_or(u8::MAX);
    task.fence = fence;
    if let Some(run) = task.run_mut() {
        unsettle(run);
    }
}

/// Nobody waits for the calls under way any more: they are made again, or their outcome is unknown.
fn unsettle(run: &mut LoopState) {
    run.warm = false;
    run.fresh.clear();
    for open in run.open.iter_mut() {
        if open.state == OpenState::Called {
            open.state = match open.effect {
                ToolEffect::Pure | ToolEffect::Idempotent => OpenState::Planned,
                ToolEffect::Unsafe => OpenState::Unknown,
            };
        }
    }
}

fn end(task: &mut Task, state: State, at: Millis, output: Option<Payload>) {
    assert!(!task.state.is_ended(), "a task that ended stays ended");
    assert!(state.is_ended());
    task.state = state;
    task.set_end(at, output);
    task.set_waiting(None);
    if state != State::Failed {
        task.run = None;
    }
}

/// Roughly what an event takes in the history, in bytes.
fn event_bytes(event: &Event) -> u32 {
    96 + event.payload().map_or(0, |payload| payload.bytes_len() as u32)
}
