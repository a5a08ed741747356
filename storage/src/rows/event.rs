//! Events as text: a stretch of a task's history is a JSON array of `[at, event]`, which a row
//! holds whole, so that three events cost one row and not three.
//!
//! What the task's row says anyway is not written again: of `submitted` neither who and what was
//! submitted, nor the input; of `succeeded` not the output. Reading takes them from the task again.
//! Version 1 had a row for each event; it is read for moving to version 2 only.

use super::{Cells, Row};
use crate::error::Malformed;
use no_engine::agent::definition::Budget;
use no_engine::event::{Event, Record};
use no_engine::id::TaskId;
use no_engine::task::{NewTask, Task};
use no_engine::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

/// The number of a history's first event.
pub(crate) const HISTORY_FIRST: u32 = 1;

const MALFORMED: Malformed = Malformed { table: "events", column: "data" };

/// An event as it is written. The names are those of [`Event`], and stay for ever.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Written {
    Submitted(Submitted),
    Succeeded,
}

/// Likewise, to be read: all events but these two are as they are.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Read {
    Submitted(Submitted),
}

/// What of a submission is not in the columns that never change.
#[derive(Serialize, Deserialize)]
struct Submitted {
    priority: u8,
    timeout_ms: u64,
    max_attempts: u32,
    ready_seq: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    budget: Budget,
    #[serde(default, skip_serializing_if = "is_default")]
    asked: Asked,
}

/// What the submission itself said, where the agent's definition says something else.
#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(default)]
struct Asked {
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    budget: Budget,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Appends one element of a history's array, without a comma, to `out`.
pub(crate) fn write_event(out: &mut Vec<u8>, record: &Record) -> Result<(), Malformed> {
    let at = record.at.0;
    let written = match &*record.event {
        Event::Submitted { new, timeout_ms, max_attempts, budget, ready_seq } => {
            let asked = Asked {
                run_at: new.run_at,
                timeout_ms: new.timeout_ms,
                deadline: new.deadline,
                max_attempts: new.max_attempts,
                budget: new.budget,
            };
            let (timeout_ms, max_attempts) = (*timeout_ms, *max_attempts);
            let (budget, ready_seq, priority) = (*budget, *ready_seq, new.priority);
            let submitted =
                Submitted { priority, timeout_ms, max_attempts, ready_seq, budget, asked };
            serde_json::to_writer(out, &(at, Written::Submitted(submitted)))
        }
        Event::Succeeded { .. } => serde_json::to_writer(out, &(at, Written::Succeeded)),
        event => serde_json::to_writer(out, &(at, event)),
    };
    written.map_err(|_| MALFORMED)
}

/// The records of a stretch of `task`'s history that begins with event `first`.
pub(crate) fn records_of(text: &str, first: u32, task: &Task) -> Result<Vec<Record>, Malformed> {
    let elements: Vec<(u64, &RawValue)> = serde_json::from_str(text).map_err(|_| MALFORMED)?;
    let mut records = Vec::with_capacity(elements.len());
    for (n, (at, raw)) in (u64::from(first)..).zip(elements) {
        let event = event_of(raw.get(), task).ok_or(MALFORMED)?;
        let n = u32::try_from(n).map_err(|_| MALFORMED)?;
        records.push(Record { task: task.id, n, at: Millis(at), event: Arc::new(event) });
    }
    Ok(records)
}

fn event_of(text: &str, task: &Task) -> Option<Event> {
    if text == r#""succeeded""# {
        return Some(Event::Succeeded { output: task.output()?.clone() });
    }
    if !text.starts_with(r#"{"submitted""#) {
        return serde_json::from_str(text).ok();
    }
    let Read::Submitted(submitted) = serde_json::from_str(text).ok()?;
    let Submitted { priority, timeout_ms, max_attempts, ready_seq, budget, asked } = submitted;
    let tags = (!task.tags().is_empty()).then(|| Arc::from(task.tags()));
    let new = NewTask {
        id: task.id,
        agent: Arc::clone(&task.agent),
        tenant: Arc::clone(&task.tenant),
        input: task.input.clone(),
        priority,
        fairness_key: task.fairness_key().cloned(),
        tags,
        run_at: asked.run_at,
        timeout_ms: asked.timeout_ms,
        deadline: asked.deadline,
        max_attempts: asked.max_attempts,
        budget: asked.budget,
        key: task.key(),
        caller: task.origin().caller.map(Box::new),
    };
    Some(Event::Submitted { new: Box::new(new), timeout_ms, max_attempts, budget, ready_seq })
}

/// The columns of version 1.
pub(crate) const V1_EVENT_COLUMNS: [&str; 6] = ["task", "n", "at", "kind", "data", "blob"];

/// The record of a row with [`V1_EVENT_COLUMNS`], which is one `of` that task.
pub(crate) fn v1_record_of(row: &impl Row, of: &Task) -> Result<Record, Malformed> {
    let mut cells = Cells::new(row, "events", &V1_EVENT_COLUMNS);
    let task = TaskId::from_bytes(cells.bytes()?).ok_or_else(|| cells.malformed())?;
    let n = cells.small()?;
    let at = Millis(cells.bits()?);
    let kind = cells.text()?;
    let data = cells.json_or_null::<Event>()?;
    let event = v1_event_of(kind, data, of).ok_or_else(|| cells.malformed())?;
    Ok(Record { task, n, at, event: Arc::new(event) })
}

fn v1_event_of(kind: &str, data: Option<Event>, of: &Task) -> Option<Event> {
    let mut event = match data {
        Some(event) => event,
        None => match kind {
            "succeeded" => Event::Succeeded { output: of.output()?.clone() },
            "woken" => Event::Woken,
            "cancelled" => Event::Cancelled,
            "removed" => Event::Removed,
            _ => return None,
        },
    };
    if let Event::Submitted { new, .. } = &mut event {
        new.input = of.input.clone();
    }
    (event.name() == kind).then_some(event)
}
