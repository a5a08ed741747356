//! Retention: finished tasks go some time after they ended, in small pieces while nothing else
//! waits.
//!
//! A cursor walks the ids, which grow with time, from the oldest to the newest that can be due (no
//! task ends before it was made). One pass meets each old row once; live tasks and dead letters are
//! passed over, as the engine removes dead letters itself. No index is needed, and none is paid
//! for.

use crate::sqlite::index::Fault;
use crate::sqlite::work::{remove_history, remove_task};
use no_engine::id::{PartitionId, TaskId};
use no_engine::time::Millis;
use rusqlite::Connection;

/// Rows that one piece looks at: well under a millisecond.
const PIECE_ROWS: usize = 1_024;
/// Tasks that one piece removes: about a millisecond, and one sync.
const PIECE_TASKS: usize = 128;
/// Events that one piece removes: a long history goes in slices.
const PIECE_EVENTS: u32 = 1_024;
/// The shortest and the longest pause between two passes, in ms.
const PAUSE_MS: (u64, u64) = (1_000, 600_000);

/// Where the walk is.
pub(crate) struct Retention {
    kept_ms: u64,
    after: [u8; 16],
    next_pass_at: Millis,
}

impl Retention {
    pub(crate) fn new(kept_ms: u64) -> Retention {
        Retention { kept_ms, after: [0; 16], next_pass_at: Millis(0) }
    }

    /// Whether there may be something to remove.
    pub(crate) fn is_due(&self, now: Millis) -> bool {
        self.next_pass_at <= now || now + PAUSE_MS.1 < self.next_pass_at
    }
}

/// One piece of a pass, inside a transaction. Returns whether the pass goes on.
pub(crate) fn piece(
    db: &Connection,
    retention: &mut Retention,
    now: Millis,
) -> Result<bool, Fault> {
    let seen = walk(db, retention, now)?;
    let mut events_left = PIECE_EVENTS;
    for (id, due) in &seen.rows {
        if *due {
            let removed = remove(db, id, &mut events_left)?;
            if !removed {
                // The next piece meets it again, with a shorter history.
                return Ok(true);
            }
        }
        retention.after = *id;
    }
    if !seen.is_last {
        return Ok(true);
    }
    let pause_ms = (retention.kept_ms / 128).clamp(PAUSE_MS.0, PAUSE_MS.1);
    (retention.after, retention.next_pass_at) = ([0; 16], now + pause_ms);
    Ok(false)
}

/// Rows in the order of their ids, each with whether it is due.
struct Seen {
    rows: Vec<([u8; 16], bool)>,
    is_last: bool,
}

fn walk(db: &Connection, retention: &Retention, now: Millis) -> rusqlite::Result<Seen> {
    let ended_by = now.0.saturating_sub(retention.kept_ms);
    let until = TaskId::new(ended_by, 0, PartitionId(0)).to_bytes();
    let sql = "SELECT id, state IN ('succeeded','cancelled') AND ended_at <= ?1 \
               FROM tasks WHERE ?2 < id AND id < ?3 ORDER BY id LIMIT ?4";
    let mut statement = db.prepare_cached(sql)?;
    let limits = (ended_by.cast_signed(), &retention.after[..], &until[..], PIECE_ROWS as i64);
    let mut rows = statement.query(limits)?;
    let mut seen = Seen { rows: Vec::new(), is_last: false };
    let mut tasks = 0;
    while tasks < PIECE_TASKS
        && let Some(row) = rows.next()?
    {
        let due = row.get::<_, Option<bool>>(1)? == Some(true);
        tasks += usize::from(due);
        seen.rows.push((row.get(0)?, due));
    }
    seen.is_last = tasks < PIECE_TASKS && seen.rows.len() < PIECE_ROWS;
    Ok(seen)
}

/// Removes a task, or as much of its history as `events_left` allows. Returns whether it is gone.
fn remove(db: &Connection, id: &[u8], events_left: &mut u32) -> rusqlite::Result<bool> {
    let span = "SELECT min(n), max(n) FROM events WHERE task = ?1";
    let (first, last): (Option<u32>, Option<u32>) =
        db.prepare_cached(span)?.query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if let (Some(first), Some(last)) = (first, last) {
        let events = last.saturating_sub(first).saturating_add(1);
        if *events_left < events {
            let through = first.saturating_add(*events_left).saturating_sub(1);
            remove_history(db, id, through)?;
            *events_left = 0;
            return Ok(false);
        }
        *events_left -= events;
    }
    remove_task(db, id)?;
    Ok(true)
}
