//! An event as a row of `events`.
//!
//! Two payloads are not stored twice: the input that `submitted` brings and the output that
//! `succeeded` brings stand in the task's row, and reading joins them back ([`Joined`]). `blob`
//! names the large payload of an event, so that references can be counted without parsing.

use super::{Cell, Cells, Row, json_cell};
use crate::error::Malformed;
use no_engine::event::{Event, Record};
use no_engine::id::TaskId;
use no_engine::payload::Payload;
use no_engine::task::NewTask;
use no_engine::time::Millis;
use std::sync::Arc;

const TABLE: &str = "events";

/// The columns.
pub(crate) const EVENT_COLUMNS: [&str; 6] = ["task", "n", "at", "kind", "data", "blob"];

/// What of a task's row its events need.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joined {
    /// The input.
    pub(crate) input: Option<Payload>,
    /// The output.
    pub(crate) output: Option<Payload>,
}

/// A record's cells, in the order of [`EVENT_COLUMNS`].
pub(crate) fn event_cells(record: &Record) -> Result<[Cell<'_>; 6], Malformed> {
    let event = &*record.event;
    let data = match event {
        Event::Succeeded { .. } | Event::Woken | Event::Cancelled | Event::Removed => Cell::Null,
        Event::Submitted { new, timeout_ms, max_attempts, budget, ready_seq } => {
            let new = Box::new(NewTask { input: nothing(), ..(**new).clone() });
            let (timeout_ms, max_attempts) = (*timeout_ms, *max_attempts);
            let (budget, ready_seq) = (*budget, *ready_seq);
            let slim = Event::Submitted { new, timeout_ms, max_attempts, budget, ready_seq };
            json_cell(&slim, TABLE, "data")?
        }
        _ => json_cell(event, TABLE, "data")?,
    };
    let blob = match event.payload() {
        Some(Payload::Blob(blob)) => Cell::Bytes(&blob.hash.0),
        _ => Cell::Null,
    };
    Ok([
        Cell::Bytes16(record.task.to_bytes()),
        Cell::small(record.n),
        Cell::bits(record.at.0),
        Cell::text(event.name()),
        data,
        blob,
    ])
}

/// A place-holder for the input that stands in the task's row.
fn nothing() -> Payload {
    thread_local! {
        static NOTHING: Payload = Payload::null();
    }
    NOTHING.with(Payload::clone)
}

/// The record of a row with [`EVENT_COLUMNS`].
pub(crate) fn record_of(row: &impl Row, joined: &Joined) -> Result<Record, Malformed> {
    let mut cells = Cells::new(row, TABLE, &EVENT_COLUMNS);
    let task = TaskId::from_bytes(cells.bytes()?).ok_or_else(|| cells.malformed())?;
    let n = cells.small()?;
    let at = Millis(cells.bits()?);
    let kind = cells.text()?;
    let data = cells.json_or_null::<Event>()?;
    let event = event_of(kind, data, joined).ok_or_else(|| cells.malformed())?;
    Ok(Record { task, n, at, event: Arc::new(event) })
}

fn event_of(kind: &str, data: Option<Event>, joined: &Joined) -> Option<Event> {
    let mut event = match data {
        Some(event) => event,
        None => match kind {
            "succeeded" => Event::Succeeded { output: joined.output.clone()? },
            "woken" => Event::Woken,
            "cancelled" => Event::Cancelled,
            "removed" => Event::Removed,
            _ => return None,
        },
    };
    if let Event::Submitted { new, .. } = &mut event {
        new.input = joined.input.clone()?;
    }
    (event.name() == kind).then_some(event)
}
