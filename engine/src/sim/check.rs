//! The promises of DESIGN §9 as predicates. Each says in its error which one is broken, and by
//! what.

use super::store::Store;
use crate::agent::definition::ToolEffect;
use crate::agent::state::StepKind;
use crate::command::Answer;
use crate::effect::{Call, Effect, Work};
use crate::event::{Event, Record};
use crate::id::TaskId;
use crate::machine::Machine;
use crate::task::{State, Task};
use std::collections::BTreeMap;

/// Timers never fire early by the wall clock in use, and no order of starts is broken.
pub(super) fn early(task: &Task, record: &Record) -> Result<(), String> {
    let (id, at) = (task.id, record.at);
    match &*record.event {
        Event::Queued { .. } if at < task.run_at => {
            Err(format!("{id} was queued at {at:?}, before its time {:?}", task.run_at))
        }
        Event::StepEnded { step, kind: StepKind::Timer, .. } => {
            let run = task.run.as_ref().ok_or("a timer without a loop")?;
            let open = run.open.iter().find(|open| open.step == *step);
            match open.and_then(|open| open.timer()) {
                Some(until) if at < until => Err(format!("{id} woke at {at:?}, before {until:?}")),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// No reply and no outside effect leaves before the change that it rests on is durable.
pub(super) fn durable(store: &Store, effect: &Effect) -> Result<(), String> {
    match effect {
        Effect::Reply { answer: Answer::Task(task), .. } => has_event(store, task.id, task.events),
        Effect::Reply { answer: Answer::Many(tasks), .. } => tasks
            .iter()
            .flatten()
            .try_for_each(|task| has_event(store, task.id, task.events)),
        Effect::Reply { answer: Answer::Leases(grants), .. } => {
            grants.iter().try_for_each(|grant| {
                let fence = grant.holder.fence;
                let is = |event: &Event| {
                    matches!(event, Event::Started { fence: started, .. } if *started == fence)
                };
                match store.count(grant.holder.task, is) {
                    0 => Err(format!("a lease on {} left before its start", grant.holder.task)),
                    _ => Ok(()),
                }
            })
        }
        Effect::Publish { record, .. } => has_event(store, record.task, record.n),
        Effect::Call(call) => call_is_due(store, call),
        _ => Ok(()),
    }
}

fn has_event(store: &Store, id: TaskId, n: u32) -> Result<(), String> {
    if store.removed.contains(&id) {
        return Ok(());
    }
    let durable = store.histories.get(&id).map_or(0, Vec::len);
    if durable < n as usize {
        return Err(format!("event {n} of {id} was shown, but only {durable} are durable"));
    }
    Ok(())
}

/// A call's intent is durable, and no result of it is.
fn call_is_due(store: &Store, call: &Call) -> Result<(), String> {
    let (id, step) = (call.task, call.step);
    if let Work::Http { .. } = call.work {
        let is =
            |event: &Event| matches!(event, Event::Started { fence, .. } if *fence == call.fence);
        if store.count(id, is) == 0 {
            return Err(format!("{id} called out before its start was durable"));
        }
        return Ok(());
    }
    let began =
        store.count(id, |event| matches!(event, Event::StepStarted { step: s, .. } if *s == step));
    let ended =
        store.count(id, |event| matches!(event, Event::StepEnded { step: s, .. } if *s == step));
    if began == 0 && !store.removed.contains(&id) {
        return Err(format!("{step:?} of {id} was called before its intent was durable"));
    }
    if 0 < ended {
        return Err(format!("{step:?} of {id} has its result and was called again"));
    }
    Ok(())
}

/// Calls of unsafe tools that may have acted; each may be made once, unless somebody said «again».
#[derive(Default)]
pub(super) struct UnsafeCalls(BTreeMap<(TaskId, u32), usize>);

impl UnsafeCalls {
    pub(super) fn made(&mut self, store: &Store, call: &Call) -> Result<(), String> {
        let Work::Tool { tool, .. } = call.work else { return Ok(()) };
        if call.agent.tools[tool].effect() != ToolEffect::Unsafe {
            return Ok(());
        }
        let (id, step) = (call.task, call.step);
        let resets =
            store.count(id, |event| matches!(event, Event::StepReset { step: s } if *s == step));
        if let Some(before) = self.0.get(&(id, step.0))
            && resets <= *before
        {
            return Err(format!("the unsafe {step:?} of {id} was called again without a word"));
        }
        self.0.insert((id, step.0), resets);
        Ok(())
    }

    /// The call certainly did nothing: it may be made again.
    pub(super) fn did_nothing(&mut self, call: &Call) {
        self.0.remove(&(call.task, call.step.0));
    }
}

/// Slots and counts of a machine agree with its tasks.
pub(super) fn bounds(
    machine: &Machine,
    partitions: &[crate::id::PartitionId],
) -> Result<(), String> {
    let mut slots = 0;
    for id in partitions {
        let Some(partition) = machine.partition(*id) else { continue };
        for held in partition.tasks.values() {
            slots += usize::from(held.slot().is_some());
            let is_running = held.task.state == State::Running;
            if held.is_counted != is_running {
                return Err(format!(
                    "{} is {:?} and counted: {}",
                    held.task.id, held.task.state, held.is_counted
                ));
            }
        }
    }
    if slots != machine.slots_used() {
        return Err(format!("{slots} tasks hold slots, {} are taken", machine.slots_used()));
    }
    Ok(())
}

/// Within one fairness key and priority, tasks of one partition start in the order in which they
/// became ready.
pub(super) fn order(store: &Store, record: &Record) -> Result<(), String> {
    let Event::Started { .. } = &*record.event else { return Ok(()) };
    let Some(task) = store.tasks.get(&record.task) else { return Ok(()) };
    let is_before = |other: &&Task| {
        other.state == State::Queued
            && other.id != task.id
            && other.crashes < 2
            && task.crashes < 2
            && other.id.partition() == task.id.partition()
            && other.agent == task.agent
            && other.tenant == task.tenant
            && other.fairness_key() == task.fairness_key()
            && other.priority == task.priority
            && other.ready_seq < task.ready_seq
    };
    match store.tasks.values().find(is_before) {
        Some(other) => {
            Err(format!("{} started before {}, which was ready first", task.id, other.id))
        }
        None => Ok(()),
    }
}
