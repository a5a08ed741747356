//! Retention in a shard's file (`retention.rs`).

use crate::retention::{Due, PIECE_EVENTS, PIECE_ROWS, PIECE_TASKS, Retention};
use crate::sqlite::index::Fault;
use crate::sqlite::write::{remove_history, remove_task};
use no_engine::time::Millis;
use rusqlite::Connection;

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
    retention.end_pass(now);
    Ok(false)
}

/// Rows in the order of their ids, each with whether it is due.
struct Seen {
    rows: Vec<([u8; 16], bool)>,
    is_last: bool,
}

fn walk(db: &Connection, retention: &Retention, now: Millis) -> rusqlite::Result<Seen> {
    let Due { ended_by, until } = retention.due(now);
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
