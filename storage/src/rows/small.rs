//! Idempotency keys, agents and feedback as rows.

use super::{Cell, Cells, Names, Row, json_cell};
use crate::error::Malformed;
use no_engine::event::{AgentRow, FeedbackRow, KeyRow};
use no_engine::id::{PartitionId, TaskId};
use no_engine::time::Millis;

/// The columns of `keys`; the first two name a row.
pub(crate) const KEY_COLUMNS: [&str; 5] =
    ["partition", "hash", "fingerprint", "task", "expires_at"];

/// The columns of `agents`; the first names a row.
pub(crate) const AGENT_COLUMNS: [&str; 3] = ["name", "definition", "paused"];

/// The columns of `feedback`; the first names a row.
pub(crate) const FEEDBACK_COLUMNS: [&str; 5] = ["task", "partition", "agent", "score", "at"];

/// A key's cells, in the order of [`KEY_COLUMNS`].
pub(crate) fn key_cells(key: &KeyRow) -> [Cell<'_>; 5] {
    let [partition, hash] = key_name(key.partition, key.hash);
    [
        partition,
        hash,
        Cell::bits(key.fingerprint),
        Cell::Bytes16(key.task.to_bytes()),
        Cell::bits_or_null(key.expires_at.map(|at| at.0)),
    ]
}

/// The cells that name a key's row.
pub(crate) fn key_name<'a>(partition: PartitionId, hash: u128) -> [Cell<'a>; 2] {
    [Cell::small(partition.0), Cell::Bytes16(hash.to_be_bytes())]
}

/// The key of a row with [`KEY_COLUMNS`].
pub(crate) fn key_of(row: &impl Row) -> Result<KeyRow, Malformed> {
    let mut cells = Cells::new(row, "keys", &KEY_COLUMNS);
    Ok(KeyRow {
        partition: PartitionId(cells.small()?),
        hash: u128::from_be_bytes(cells.bytes()?),
        fingerprint: cells.bits()?,
        task: TaskId::from_bytes(cells.bytes()?).ok_or_else(|| cells.malformed())?,
        expires_at: cells.bits_or_null()?.map(Millis),
    })
}

/// An agent's cells, in the order of [`AGENT_COLUMNS`].
pub(crate) fn agent_cells(row: &AgentRow) -> Result<[Cell<'_>; 3], Malformed> {
    Ok([
        Cell::text(&row.name),
        json_cell(&row.agent, "agents", "definition")?,
        Cell::small(u8::from(row.paused)),
    ])
}

/// The agent of a row with [`AGENT_COLUMNS`].
pub(crate) fn agent_of(row: &impl Row, names: &mut Names) -> Result<AgentRow, Malformed> {
    let mut cells = Cells::new(row, "agents", &AGENT_COLUMNS);
    Ok(AgentRow {
        name: names.get(cells.text()?),
        agent: cells.json_or_null()?.ok_or_else(|| cells.malformed())?,
        paused: cells.flag()?,
    })
}

/// The cells of a piece of feedback, in the order of [`FEEDBACK_COLUMNS`].
pub(crate) fn feedback_cells(row: &FeedbackRow) -> [Cell<'_>; 5] {
    [
        Cell::Bytes16(row.task.to_bytes()),
        Cell::small(row.task.partition().0),
        Cell::text(&row.agent),
        Cell::small(row.score),
        Cell::bits(row.at.0),
    ]
}

/// The feedback of a row with [`FEEDBACK_COLUMNS`].
pub(crate) fn feedback_of(row: &impl Row, names: &mut Names) -> Result<FeedbackRow, Malformed> {
    let mut cells = Cells::new(row, "feedback", &FEEDBACK_COLUMNS);
    let task = TaskId::from_bytes(cells.bytes()?).ok_or_else(|| cells.malformed())?;
    cells.small::<u16>()?;
    Ok(FeedbackRow {
        task,
        agent: names.get(cells.text()?),
        score: cells.small()?,
        at: Millis(cells.bits()?),
    })
}
