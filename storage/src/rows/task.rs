//! A task as a row of `tasks`.

use super::{Cell, Cells, Names, Row, json_cell};
use crate::error::Malformed;
use no_engine::id::{Attempt, Fence, TaskId};
use no_engine::payload::{Hash, Payload};
use no_engine::task::{Key, State, Task, TaskError, TaskParts, Usage};
use no_engine::time::Millis;
use std::borrow::Cow;
use std::sync::Arc;

const TABLE: &str = "tasks";

/// The columns, those that never change first.
pub(crate) const TASK_COLUMNS: [&str; 42] = [
    "id",
    "partition",
    "agent",
    "tenant",
    "input",
    "input_hash",
    "input_len",
    "fairness_key",
    "tags",
    "created_at",
    "key_hash",
    "key_fingerprint",
    "state",
    "priority",
    "attempt",
    "max_attempts",
    "output",
    "output_hash",
    "output_len",
    "error_code",
    "error_message",
    "error_retryable",
    "waiting",
    "run_at",
    "started_at",
    "ended_at",
    "deadline",
    "timeout_ms",
    "failures",
    "crashes",
    "fence",
    "ready_seq",
    "ready_at",
    "events",
    "events_bytes",
    "budget",
    "iterations",
    "input_tokens",
    "output_tokens",
    "cost_micro_usd",
    "steps",
    "run",
];

/// So many of [`TASK_COLUMNS`] are written once: an update sets the others.
pub(crate) const TASK_FIXED: usize = 12;

/// A task's cells, in the order of [`TASK_COLUMNS`]. The lease is soft and not among them.
pub(crate) fn task_cells(task: &Task) -> Result<[Cell<'_>; 42], Malformed> {
    let [input, input_hash, input_len] = payload_cells(Some(&task.input));
    let [output, output_hash, output_len] = payload_cells(task.output());
    let error = task.error.as_deref();
    let tags = (!task.tags().is_empty()).then(|| task.tags());
    let waiting = task.waiting.as_deref();
    let run = task.run.as_deref();
    let budget = task.budget();
    let has_budget = budget != Default::default();
    let usage = task.usage();
    Ok([
        Cell::Bytes16(task.id.to_bytes()),
        Cell::small(task.id.partition().0),
        Cell::text(&task.agent),
        Cell::text(&task.tenant),
        input,
        input_hash,
        input_len,
        Cell::text_or_null(task.fairness_key().map(|key| &**key)),
        tags.map_or(Ok(Cell::Null), |tags| json_cell(&tags, TABLE, "tags"))?,
        Cell::bits(task.created_at.0),
        task.key().map_or(Cell::Null, |key| Cell::Bytes16(key.hash.to_be_bytes())),
        Cell::bits_or_null(task.key().map(|key| key.fingerprint)),
        Cell::text(task.state.name()),
        Cell::small(task.priority),
        Cell::small(task.attempt.0),
        Cell::small(task.max_attempts),
        output,
        output_hash,
        output_len,
        Cell::text_or_null(error.map(|error| &*error.code)),
        Cell::text_or_null(error.map(|error| &*error.message)),
        error.map_or(Cell::Null, |error| Cell::small(u8::from(error.retryable))),
        waiting.map_or(Ok(Cell::Null), |waiting| json_cell(waiting, TABLE, "waiting"))?,
        Cell::bits(task.run_at.0),
        Cell::bits_or_null(task.started_at().map(|at| at.0)),
        Cell::bits_or_null(task.ended_at().map(|at| at.0)),
        Cell::bits_or_null(task.deadline().map(|at| at.0)),
        Cell::bits(task.timeout_ms),
        Cell::small(task.failures),
        Cell::small(task.crashes),
        Cell::bits(task.fence.0),
        Cell::bits(task.ready_seq),
        Cell::bits(task.ready_at.0),
        Cell::small(task.events),
        Cell::small(task.events_bytes),
        if has_budget { json_cell(&budget, TABLE, "budget")? } else { Cell::Null },
        Cell::small(usage.iterations),
        Cell::bits(usage.input_tokens),
        Cell::bits(usage.output_tokens),
        Cell::bits(usage.cost_micro_usd),
        Cell::small(task.steps),
        run.map_or(Ok(Cell::Null), |run| json_cell(run, TABLE, "run"))?,
    ])
}

/// The task of a row with [`TASK_COLUMNS`].
pub(crate) fn task_of(row: &impl Row, names: &mut Names) -> Result<Task, Malformed> {
    let mut cells = Cells::new(row, TABLE, &TASK_COLUMNS);
    let cells = &mut cells;
    let id = TaskId::from_bytes(cells.bytes()?).ok_or_else(|| cells.malformed())?;
    if cells.small::<u16>()? != id.partition().0 {
        return Err(cells.malformed());
    }
    // The fields stand in the order of the columns: each takes the next.
    Ok(Task::from(TaskParts {
        id,
        agent: names.get(cells.text()?),
        tenant: names.get(cells.text()?),
        input: payload_of(cells)?.ok_or_else(|| cells.malformed())?,
        fairness_key: cells.text_or_null()?.map(|key| names.get(key)),
        tags: cells.json_or_null::<Vec<Box<str>>>()?.map(Arc::from),
        created_at: Millis(cells.bits()?),
        key: key_of(cells)?,
        state: State::of_name(cells.text()?).ok_or_else(|| cells.malformed())?,
        priority: cells.small()?,
        attempt: Attempt(cells.small()?),
        max_attempts: cells.small()?,
        output: payload_of(cells)?,
        error: error_of(cells)?,
        waiting: cells.json_or_null()?.map(Box::new),
        run_at: Millis(cells.bits()?),
        started_at: cells.bits_or_null()?.map(Millis),
        ended_at: cells.bits_or_null()?.map(Millis),
        deadline: cells.bits_or_null()?.map(Millis),
        timeout_ms: cells.bits()?,
        failures: cells.small()?,
        crashes: cells.small()?,
        fence: Fence(cells.bits()?),
        ready_seq: cells.bits()?,
        ready_at: Millis(cells.bits()?),
        events: cells.small()?,
        events_bytes: u32::try_from(cells.bits()?).unwrap_or(u32::MAX),
        budget: cells.json_or_null()?.unwrap_or_default(),
        usage: usage_of(cells)?,
        steps: cells.small()?,
        run: cells.json_or_null()?.map(Box::new),
    }))
}

fn key_of(cells: &mut Cells<'_, impl Row>) -> Result<Option<Key>, Malformed> {
    let hash = cells.bytes_or_null()?.map(u128::from_be_bytes);
    match (hash, cells.bits_or_null()?) {
        (None, None) => Ok(None),
        (Some(hash), Some(fingerprint)) => Ok(Some(Key { hash, fingerprint })),
        _ => Err(cells.malformed()),
    }
}

fn error_of(cells: &mut Cells<'_, impl Row>) -> Result<Option<Box<TaskError>>, Malformed> {
    let code = cells.text_or_null()?;
    let message = cells.text_or_null()?;
    match (code, message, cells.small_or_null::<u8>()?) {
        (None, None, None) => Ok(None),
        (Some(code), Some(message), Some(retryable)) => Ok(Some(Box::new(TaskError {
            code: code.into(),
            message: message.into(),
            retryable: retryable != 0,
        }))),
        _ => Err(cells.malformed()),
    }
}

fn usage_of(cells: &mut Cells<'_, impl Row>) -> Result<Usage, Malformed> {
    Ok(Usage {
        iterations: cells.small()?,
        input_tokens: cells.bits()?,
        output_tokens: cells.bits()?,
        cost_micro_usd: cells.bits()?,
    })
}

/// A payload as three cells: the text of a small one, or hash and length of a large one.
fn payload_cells(payload: Option<&Payload>) -> [Cell<'_>; 3] {
    match payload {
        None => [Cell::Null, Cell::Null, Cell::Null],
        Some(Payload::Inline(bytes)) => [Cell::Text(Cow::Borrowed(bytes)), Cell::Null, Cell::Null],
        Some(Payload::Blob(blob)) => {
            [Cell::Null, Cell::Bytes(&blob.hash.0), Cell::small(blob.bytes_len)]
        }
    }
}

/// The payload of the next three cells.
pub(crate) fn payload_of(cells: &mut Cells<'_, impl Row>) -> Result<Option<Payload>, Malformed> {
    let text = cells.text_or_null()?;
    let hash = cells.bytes_or_null()?.map(Hash);
    match (text, hash, cells.small_or_null()?) {
        (None, None, None) => Ok(None),
        (Some(text), None, None) => Ok(Some(Payload::Inline(Arc::from(text.as_bytes())))),
        (None, Some(hash), Some(bytes_len)) => Ok(Some(Payload::blob(hash, bytes_len, None))),
        _ => Err(cells.malformed()),
    }
}
