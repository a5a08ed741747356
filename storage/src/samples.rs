//! Values for tests: arbitrary ones for properties, and small histories that hang together.

use crate::blob;
use no_engine::agent::definition::{Budget, ToolEffect};
use no_engine::agent::state::{AskedCall, LoopState, OpenState, OpenStep, StepKind, ToolCall};
use no_engine::event::{Batch, Event, KeyRow, Record, TaskImage};
use no_engine::id::{Attempt, Fence, PartitionId, Seq, Step, TaskId};
use no_engine::payload::Payload;
use no_engine::task::{
    Key, NewTask, STATES, State, Task, TaskError, TaskParts, Usage, WaitReason, Waiting,
};
use no_engine::time::Millis;
use no_engine::trace::{Caller, Origin};
use proptest::option::of;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A task that was just submitted for `echo`, with its record.
pub(crate) fn submitted(id: TaskId, input: &Payload) -> (Record, Task) {
    let at = Millis(id.made_ms());
    let new = Box::new(NewTask::plain(id, "echo".into(), "default".into(), input.clone()));
    let task = Task::from(TaskParts {
        id,
        agent: Arc::clone(&new.agent),
        tenant: Arc::clone(&new.tenant),
        state: State::Queued,
        input: input.stored(),
        output: None,
        error: None,
        waiting: None,
        priority: 5,
        fairness_key: None,
        tags: None,
        created_at: at,
        run_at: at,
        started_at: None,
        ended_at: None,
        deadline: None,
        timeout_ms: 300_000,
        attempt: Attempt(0),
        failures: 0,
        max_attempts: 3,
        crashes: 0,
        fence: Fence(0),
        ready_seq: 7,
        ready_at: at,
        events: 1,
        events_bytes: 100,
        budget: Budget::default(),
        usage: Usage::default(),
        key: None,
        origin: Origin::default(),
        steps: 0,
        run: None,
    });
    let (timeout_ms, max_attempts, budget) = (300_000, 3, Budget::default());
    let event = Event::Submitted { new, timeout_ms, max_attempts, budget, ready_seq: 7 };
    (Record { task: id, n: 1, at, event: Arc::new(event) }, task)
}

/// The next record of `task`, which it is folded into as far as a store can tell.
pub(crate) fn next(task: &mut Task, event: Event) -> Record {
    let at = task.created_at + u64::from(task.events);
    task.events += 1;
    match &event {
        Event::Started { attempt, fence, .. } => {
            (task.state, task.attempt, task.fence) = (State::Running, *attempt, *fence);
            task.change(|task| task.started_at = task.started_at.or(Some(at)));
        }
        Event::Succeeded { output } => {
            task.change(|task| {
                (task.state, task.output, task.ended_at) =
                    (State::Succeeded, Some(output.stored()), Some(at));
            });
        }
        Event::DeadLettered { error } => {
            task.change(|task| {
                (task.state, task.error, task.ended_at) =
                    (State::Failed, Some(error.clone()), Some(at));
            });
        }
        Event::Cancelled => {
            task.change(|task| (task.state, task.ended_at) = (State::Cancelled, Some(at)));
        }
        _ => {}
    }
    Record { task: task.id, n: task.events, at, event: Arc::new(event) }
}

/// The first attempt begins.
pub(crate) fn started() -> Event {
    Event::Started { attempt: Attempt(1), fence: Fence(1), lease_ms: None }
}

/// It failed for good.
pub(crate) fn dead_lettered() -> Event {
    let error = TaskError { code: "boom".into(), message: "it broke".into(), retryable: false };
    Event::DeadLettered { error: Box::new(error) }
}

/// A batch of records and of the tasks after them.
pub(crate) fn batch(seq: u64, records: Vec<Record>, tasks: &[(&Task, bool)]) -> Batch {
    let tasks =
        tasks.iter().map(|(task, is_new)| TaskImage { task: (*task).clone(), is_new: *is_new });
    Batch { seq: Seq(seq), records, tasks: tasks.collect(), ..Batch::default() }
}

/// A payload too large to travel inline.
pub(crate) fn large(letter: char) -> Payload {
    let text = format!("\"{}\"", letter.to_string().repeat(20_000));
    Payload::new(text.as_bytes(), blob::hash)
}

pub(crate) fn any_id() -> impl Strategy<Value = TaskId> {
    (0..1_u64 << 48, any::<u64>(), 0..64_u16)
        .prop_map(|(ms, random, partition)| TaskId::new(ms, random, PartitionId(partition)))
}

fn any_name() -> impl Strategy<Value = Arc<str>> {
    "[a-zA-Z0-9 _.\u{e9}\u{1f600}'\"-]{0,12}".prop_map(Arc::from)
}

fn any_text() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,20}".prop_map(String::into_boxed_str)
}

pub(crate) fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        4 => any_text().prop_map(|text| {
            Payload::inline(&serde_json::to_vec(&text).expect("a text"))
        }),
        2 => Just(Payload::inline(br#"{ "a": [1, 2.50, null] }"#)),
        1 => prop::char::range('a', 'e').prop_map(large),
    ]
}

fn any_millis() -> impl Strategy<Value = Millis> {
    any::<u64>().prop_map(Millis)
}

fn any_budget() -> impl Strategy<Value = Budget> {
    of(any::<u32>()).prop_map(|max_iterations| Budget { max_iterations })
}

fn any_key() -> impl Strategy<Value = Key> {
    (any::<u128>(), any::<u64>()).prop_map(|(hash, fingerprint)| Key { hash, fingerprint })
}

fn any_tags() -> impl Strategy<Value = no_engine::task::Tags> {
    of(prop::collection::vec(any_text(), 0..4).prop_map(Arc::from))
}

fn any_error() -> impl Strategy<Value = Box<TaskError>> {
    (any_text(), any_text(), any::<bool>())
        .prop_map(|(code, message, retryable)| Box::new(TaskError { code, message, retryable }))
}

fn any_usage() -> impl Strategy<Value = Usage> {
    (any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(i, a, b, c)| Usage {
        iterations: i,
        input_tokens: a,
        output_tokens: b,
        cost_micro_usd: c,
    })
}

fn any_waiting() -> impl Strategy<Value = Box<Waiting>> {
    let reason = prop_oneof![Just(WaitReason::Timer), Just(WaitReason::OutcomeUnknown)];
    (reason, of(any_name()), of(any_millis()))
        .prop_map(|(reason, name, until)| Box::new(Waiting { reason, name, until }))
}

fn any_run() -> impl Strategy<Value = Arc<LoopState>> {
    let state = prop_oneof![
        Just(OpenState::Planned),
        Just(OpenState::Called),
        any_millis().prop_map(OpenState::Timer),
        Just(OpenState::Unknown),
    ];
    let open = (any::<u32>(), any_name(), of(any_text()), of(any_payload()), state).prop_map(
        |(step, name, call_id, arguments, state)| OpenStep {
            step: Step(step),
            kind: StepKind::Tool,
            name,
            asked: AskedCall::packed(call_id, arguments),
            effect: ToolEffect::Idempotent,
            state,
        },
    );
    let open = prop::collection::vec(open, 0..3);
    (open, prop::collection::vec(any::<u64>(), 0..3), any::<u16>(), any::<u64>()).prop_map(
        |(open, calls, empty, reported)| {
            let (model_step, calls) = (Step(u32::from(empty)), calls.into());
            let run = LoopState {
                open: open.into_iter().collect(),
                calls,
                empty,
                model_step,
                reported,
                ..Default::default()
            };
            Arc::new(run)
        },
    )
}

/// Any task that may stand in a row.
pub(crate) fn any_task() -> impl Strategy<Value = Task> {
    let names = (any_name(), any_name(), of(any_name()), any_tags());
    let payloads = (any_payload(), of(any_payload()), of(any_error()), of(any_waiting()));
    let times = (any_millis(), of(any_millis()), of(any_millis()), of(any_millis()));
    let numbers = (any::<[u32; 6]>(), any::<[u64; 5]>(), any::<u8>());
    let rest = (any_budget(), any_usage(), of(any_key()), of(any_run()), any_origin());
    let state = prop::sample::select(&STATES[..]);
    (any_id(), state, names, payloads, times, numbers, rest).prop_map(
        |(id, state, names, payloads, times, numbers, rest)| {
            let (agent, tenant, fairness_key, tags) = names;
            let (input, output, error, waiting) = payloads;
            let (run_at, started_at, ended_at, deadline) = times;
            let (small, big, priority) = numbers;
            let (budget, usage, key, run, origin) = rest;
            Task::from(TaskParts {
                id,
                agent,
                tenant,
                state,
                input,
                output,
                error,
                waiting: waiting.map(|waiting| *waiting),
                priority,
                fairness_key,
                tags,
                created_at: Millis(big[0]),
                run_at,
                started_at,
                ended_at,
                deadline,
                timeout_ms: big[1],
                attempt: Attempt(small[0]),
                failures: small[1] as u16,
                max_attempts: small[2] as u16,
                crashes: small[3] as u8,
                fence: Fence(big[2]),
                ready_seq: big[3],
                ready_at: run_at,
                events: small[4],
                events_bytes: big[4] as u32,
                budget,
                usage,
                key,
                origin,
                steps: small[5],
                run,
            })
        },
    )
}

/// Mostly none, as with tasks.
fn any_origin() -> impl Strategy<Value = Origin> {
    let caller =
        (1..=u128::MAX, 1..=u64::MAX, any::<bool>()).prop_map(|(trace, span, is_sampled)| Caller {
            trace: trace.to_be_bytes(),
            span,
            is_sampled,
        });
    let known = (of(caller), any::<u32>());
    prop_oneof![
        2 => Just(Origin::default()),
        1 => known.prop_map(|(caller, redrives)| Origin { caller, redrives }),
    ]
}

/// Any event but those whose payloads stand in the task's row.
fn any_plain_event() -> impl Strategy<Value = Event> {
    let step = any::<u32>().prop_map(Step);
    let call = (any_text(), any_text(), any_text()).prop_map(|(id, name, arguments)| ToolCall {
        id,
        name,
        arguments,
    });
    let fence = any::<u64>().prop_map(Fence);
    prop_oneof![
        any::<u64>().prop_map(|ready_seq| Event::Queued { ready_seq }),
        (any::<u32>(), fence.clone(), of(any::<u64>())).prop_map(|(attempt, fence, lease_ms)| {
            Event::Started { attempt: Attempt(attempt), fence, lease_ms }
        }),
        (step.clone(), any_name(), of(any_text()), of(any_payload()), of(any_millis())).prop_map(
            |(step, name, call_id, input, until)| Event::StepStarted {
                step,
                kind: StepKind::Tool,
                name,
                call_id,
                input,
                effect: ToolEffect::Pure,
                until,
            }
        ),
        (step.clone(), any_name(), any_payload(), any_usage(), prop::collection::vec(call, 0..3))
            .prop_map(|(step, name, output, usage, planned)| Event::StepEnded {
                step,
                kind: StepKind::Model,
                name,
                call_id: None,
                output,
                usage,
                empty: planned.is_empty(),
                planned,
                reported: usage.input_tokens,
            }),
        (step.clone(), any_error()).prop_map(|(step, error)| Event::StepFailed { step, error }),
        step.clone().prop_map(|step| Event::StepUnknown { step }),
        step.prop_map(|step| Event::StepReset { step }),
        any_waiting().prop_map(|waiting| Event::Waited { waiting }),
        Just(Event::Woken),
        (any_error(), any_millis())
            .prop_map(|(error, run_at)| Event::RetryScheduled { error, run_at }),
        any_error().prop_map(|error| Event::DeadLettered { error }),
        Just(Event::Cancelled),
        (any::<u32>(), fence).prop_map(|(crashes, fence)| Event::Interrupted { crashes, fence }),
        any::<u64>().prop_map(|ready_seq| Event::Retried { ready_seq }),
        Just(Event::Removed),
    ]
}

/// Any event, with the input and output of the task's row that it belongs to.
pub(crate) fn any_event() -> impl Strategy<Value = (Event, Task)> {
    let new = (any_plain_event(), any_task(), of(any_millis()), of(any::<u64>()), any_budget());
    (0..10, new).prop_map(|(dice, (plain, task, run_at, timeout_ms, asked))| {
        let event = match (dice, task.output()) {
            (0..2, _) => Event::Submitted {
                new: Box::new(NewTask {
                    priority: task.priority,
                    fairness_key: task.fairness_key().cloned(),
                    tags: (!task.tags().is_empty()).then(|| task.tags().into()),
                    run_at,
                    timeout_ms,
                    deadline: task.deadline(),
                    budget: asked,
                    key: task.key(),
                    caller: task.origin().caller.map(Box::new),
                    ..NewTask::plain(
                        task.id,
                        Arc::clone(&task.agent),
                        Arc::clone(&task.tenant),
                        task.input.clone(),
                    )
                }),
                timeout_ms: task.timeout_ms,
                max_attempts: u32::from(task.max_attempts),
                budget: task.budget(),
                ready_seq: task.ready_seq,
            },
            (2..4, Some(output)) => Event::Succeeded { output: output.clone() },
            _ => plain,
        };
        (event, task)
    })
}

pub(crate) fn any_key_row() -> impl Strategy<Value = KeyRow> {
    (any::<u128>(), any::<u64>(), any_id(), of(any_millis())).prop_map(
        |(hash, fingerprint, task, expires_at)| KeyRow {
            partition: task.partition(),
            hash,
            fingerprint,
            task,
            expires_at,
        },
    )
}

/// Histories cut into batches, and what a store that committed them must give back.
#[derive(Debug)]
pub(crate) struct Histories {
    /// Each history's in its order, the histories mixed.
    pub(crate) batches: Vec<Batch>,
    /// What is loaded.
    pub(crate) live: BTreeMap<TaskId, Task>,
    /// What is read.
    pub(crate) read: BTreeMap<TaskId, (Task, Vec<Record>)>,
    /// The keys, by their hashes.
    pub(crate) keys: BTreeMap<u128, KeyRow>,
}

pub(crate) fn any_histories() -> impl Strategy<Value = Histories> {
    let one = (any_task(), prop::collection::vec(any_event(), 0..4))
        .prop_map(|(task, events)| (task, events.into_iter().map(|(event, _)| event).collect()));
    let keys = prop::collection::vec(any_key_row(), 0..3);
    let picks = prop::collection::vec(any::<prop::sample::Index>(), 30);
    (prop::collection::vec(one, 1..6), keys, picks)
        .prop_map(|(histories, keys, picks)| histories_of(histories, &keys, &picks))
}

fn histories_of(
    histories: Vec<(Task, Vec<Event>)>,
    keys: &[KeyRow],
    picks: &[prop::sample::Index],
) -> Histories {
    let (mut queues, mut live, mut read) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for (mut task, events) in histories {
        let (first, mut header) = submitted(task.id, &task.input);
        let mut records = vec![first];
        let mut batches = VecDeque::from([batch(0, records.clone(), &[(&header, true)])]);
        for event in events.into_iter().filter(is_later) {
            let record = next(&mut header, event);
            // Any header whatever, but for what never changes and the payloads of its end.
            let fixed = (task.id, header.created_at, header.events);
            (task.id, task.created_at, task.events) = fixed;
            (task.agent, task.tenant) = (header.agent.clone(), header.tenant.clone());
            task.change(|task| {
                (task.fairness_key, task.tags, task.key) = (None, None, None);
                task.origin.caller = None;
                (task.input, task.output) = (task.input.stored(), None);
            });
            batches.push_back(batch(0, vec![record.clone()], &[(&task, false)]));
            records.push(record);
            header.events = task.events;
        }
        let last = if records.len() == 1 { header } else { task };
        if !last.state.is_ended() || last.state == State::Failed {
            live.insert(last.id, last.clone());
        }
        read.insert(last.id, (last, records));
        queues.push(batches);
    }
    queues.push(VecDeque::from([Batch { keys: keys.to_vec(), ..Batch::default() }]));
    let keys = keys.iter().map(|key| (key.hash, *key)).collect();
    Histories { batches: interleaved(queues, picks), live, read, keys }
}

/// All batches, each history's in its order, the histories mixed as `picks` say.
fn interleaved(mut queues: Vec<VecDeque<Batch>>, picks: &[prop::sample::Index]) -> Vec<Batch> {
    let mut mixed = Vec::new();
    for pick in picks.iter().cycle() {
        queues.retain(|queue| !queue.is_empty());
        if queues.is_empty() {
            break;
        }
        let queue = pick.index(queues.len());
        mixed.extend(queues[queue].pop_front());
    }
    mixed
}

/// Whether a test may put this event behind another one.
fn is_later(event: &Event) -> bool {
    !matches!(event, Event::Submitted { .. } | Event::Succeeded { .. } | Event::Removed)
}
