//! A task as a row of `tasks`.
//!
//! What an operator looks for and what lists filter by has a column each; the rest is packed into
//! one (`pack.rs`), because a statement pays for each column of each row.

use super::{Cell, Cells, Names, Row, Unpack, json_cell, pack};
use crate::error::Malformed;
use no_engine::id::{Attempt, Fence, TaskId};
use no_engine::payload::{Hash, Payload};
use no_engine::task::{Key, State, Task, TaskError, TaskParts, Usage};
use no_engine::time::Millis;
use no_engine::trace::Origin;
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

const TABLE: &str = "tasks";

/// The columns, those that never change first. `rest` holds [`REST`], packed.
pub(crate) const TASK_COLUMNS: [&str; 13] = [
    "id",
    "partition",
    "agent",
    "tenant",
    "fairness_key",
    "tags",
    "created_at",
    "input",
    "state",
    "ended_at",
    "output",
    "run",
    "rest",
];

/// So many of [`TASK_COLUMNS`] are written once: an update sets the others.
pub(crate) const TASK_FIXED: usize = 8;

/// What is packed in `rest`, in order. New ones come at the end.
const REST: [&str; 30] = [
    "input_hash",
    "input_len",
    "output_hash",
    "output_len",
    "key_hash",
    "key_fingerprint",
    "priority",
    "attempt",
    "max_attempts",
    "error_code",
    "error_message",
    "error_retryable",
    "waiting",
    "run_at",
    "started_at",
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
];

/// What follows in `rest` of the few tasks that have it: a caller, as `traceparent`, and redrives.
const RARE: usize = 2;

/// Columns of their own, without `rest`.
const OWN: usize = TASK_COLUMNS.len() - 1;

/// All that is kept of a task, in the order in which it is read: each was a column in version 1.
pub(crate) const V1_TASK_COLUMNS: [&str; OWN + REST.len()] = {
    let mut all = [""; OWN + REST.len()];
    let mut i = 0;
    while i < all.len() {
        all[i] = if i < OWN { TASK_COLUMNS[i] } else { REST[i - OWN] };
        i += 1;
    }
    all
};

/// A task's cells, in the order of [`TASK_COLUMNS`]. The lease is soft and not among them.
pub(crate) fn task_cells(task: &Task) -> Result<[Cell<'_>; 13], Malformed> {
    let tags = (!task.tags().is_empty()).then(|| task.tags());
    let run = task.run.as_deref();
    Ok([
        Cell::Bytes16(task.id.to_bytes()),
        Cell::small(task.id.partition().0),
        Cell::text(&task.agent),
        Cell::text(&task.tenant),
        Cell::text_or_null(task.fairness_key().map(|key| &**key)),
        tags.map_or(Ok(Cell::Null), |tags| json_cell(&tags, TABLE, "tags"))?,
        Cell::bits(task.created_at.0),
        text_of(Some(&task.input)),
        Cell::text(task.state.name()),
        Cell::bits_or_null(task.ended_at().map(|at| at.0)),
        text_of(task.output()),
        run.map_or(Ok(Cell::Null), |run| json_cell(run, TABLE, "run"))?,
        Cell::Bytes(Cow::Owned(rest_of(task)?)),
    ])
}

/// The cells of [`REST`], packed.
fn rest_of(task: &Task) -> Result<Vec<u8>, Malformed> {
    let [input_hash, input_len] = name_of(Some(&task.input));
    let [output_hash, output_len] = name_of(task.output());
    let error = task.error.as_deref();
    let waiting = task.waiting();
    let budget = task.budget();
    let has_budget = budget != Default::default();
    let usage = task.usage();
    let cells: [Cell<'_>; REST.len()] = [
        input_hash,
        input_len,
        output_hash,
        output_len,
        task.key().map_or(Cell::Null, |key| Cell::Bytes16(key.hash.to_be_bytes())),
        Cell::bits_or_null(task.key().map(|key| key.fingerprint)),
        Cell::small(task.priority),
        Cell::small(task.attempt.0),
        Cell::small(task.max_attempts),
        Cell::text_or_null(error.map(|error| &*error.code)),
        Cell::text_or_null(error.map(|error| &*error.message)),
        error.map_or(Cell::Null, |error| Cell::small(u8::from(error.retryable))),
        waiting.as_ref().map_or(Ok(Cell::Null), |waiting| json_cell(waiting, TABLE, "waiting"))?,
        Cell::bits(task.run_at.0),
        Cell::bits_or_null(task.started_at().map(|at| at.0)),
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
    ];
    let mut packed = Vec::with_capacity(128);
    cells.iter().for_each(|cell| pack(&mut packed, cell));
    let origin = task.origin();
    if origin != Origin::default() {
        let caller = origin.caller.map(|caller| caller.to_string());
        pack(&mut packed, &Cell::text_or_null(caller.as_deref()));
        pack(&mut packed, &Cell::small(origin.redrives));
    }
    Ok(packed)
}

/// A row and what is packed in it: cells of its own, then those of `rest`, each taken once, in
/// order.
struct Whole<'r, R> {
    own: &'r R,
    rest: RefCell<Unpack<'r>>,
}

impl<R: Row> Row for Whole<'_, R> {
    fn cell(&self, index: usize) -> Cell<'_> {
        if index < OWN {
            return self.own.cell(index);
        }
        // What does not unpack is of no column's type.
        self.rest.borrow_mut().cell().unwrap_or(Cell::Other)
    }
}

/// The task of a row with [`TASK_COLUMNS`].
pub(crate) fn task_of(row: &impl Row, names: &mut Names) -> Result<Task, Malformed> {
    let malformed = Malformed { table: TABLE, column: "rest" };
    let Cell::Bytes(Cow::Borrowed(packed)) = row.cell(OWN) else { return Err(malformed) };
    let whole = Whole { own: row, rest: RefCell::new(Unpack::new(packed)) };
    let mut task = v1_task_of(&whole, names)?;
    let rest = whole.rest.into_inner();
    if !rest.is_empty() {
        let origin = origin_of(rest).ok_or(malformed)?;
        task.set_origin(origin);
    }
    Ok(task)
}

/// The [`RARE`] cells.
fn origin_of(mut unpack: Unpack<'_>) -> Option<Origin> {
    let [caller, redrives] = unpack.cells::<RARE>()?;
    let caller = match caller {
        Cell::Null => None,
        Cell::Text(text) => Some(std::str::from_utf8(&text).ok()?.parse().ok()?),
        _ => return None,
    };
    let Cell::Int(redrives) = redrives else { return None };
    Some(Origin { caller, redrives: u32::try_from(redrives).ok()? })
}

/// The task of a row with [`V1_TASK_COLUMNS`].
pub(crate) fn v1_task_of(row: &impl Row, names: &mut Names) -> Result<Task, Malformed> {
    let mut cells = Cells::new(row, TABLE, &V1_TASK_COLUMNS);
    let cells = &mut cells;
    let id = TaskId::from_bytes(cells.bytes()?).ok_or_else(|| cells.malformed())?;
    if cells.small::<u16>()? != id.partition().0 {
        return Err(cells.malformed());
    }
    let agent = names.get(cells.text()?);
    let tenant = names.get(cells.text()?);
    let fairness_key = cells.text_or_null()?.map(|key| names.get(key));
    let tags = cells.json_or_null::<Vec<Box<str>>>()?.map(Arc::from);
    let created_at = Millis(cells.bits()?);
    let input_text = cells.text_or_null()?;
    let state = State::of_name(cells.text()?).ok_or_else(|| cells.malformed())?;
    let ended_at = cells.bits_or_null()?.map(Millis);
    let output_text = cells.text_or_null()?;
    // The fields below stand in the order of the columns: each takes the next.
    Ok(Task::from(TaskParts {
        id,
        agent,
        tenant,
        fairness_key,
        tags,
        created_at,
        state,
        ended_at,
        run: cells.json_or_null()?.map(Arc::new),
        input: payload_of(cells, input_text)?.ok_or_else(|| cells.malformed())?,
        output: payload_of(cells, output_text)?,
        key: key_of(cells)?,
        priority: cells.small()?,
        attempt: Attempt(cells.small()?),
        max_attempts: cells.small()?,
        error: error_of(cells)?,
        waiting: cells.json_or_null()?,
        run_at: Millis(cells.bits()?),
        started_at: cells.bits_or_null()?.map(Millis),
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
        origin: Origin::default(),
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

/// The text of a small payload.
fn text_of(payload: Option<&Payload>) -> Cell<'_> {
    match payload {
        Some(Payload::Inline(bytes)) => Cell::Text(Cow::Borrowed(bytes)),
        None | Some(Payload::Blob(_)) => Cell::Null,
    }
}

/// Hash and length of a large payload.
fn name_of(payload: Option<&Payload>) -> [Cell<'_>; 2] {
    match payload {
        Some(Payload::Blob(blob)) => {
            [Cell::Bytes(Cow::Borrowed(&blob.hash.0)), Cell::small(blob.bytes_len)]
        }
        None | Some(Payload::Inline(_)) => [Cell::Null, Cell::Null],
    }
}

/// The payload of that text, or else of the next two cells.
fn payload_of(
    cells: &mut Cells<'_, impl Row>,
    text: Option<&str>,
) -> Result<Option<Payload>, Malformed> {
    let hash = cells.bytes_or_null()?.map(Hash);
    match (text, hash, cells.small_or_null()?) {
        (None, None, None) => Ok(None),
        (Some(text), None, None) => Ok(Some(Payload::Inline(Arc::from(text.as_bytes())))),
        (None, Some(hash), Some(bytes_len)) => Ok(Some(Payload::blob(hash, bytes_len, None))),
        _ => Err(cells.malformed()),
    }
}
