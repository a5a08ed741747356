//! Retention: finished tasks go some time after they ended, in small pieces while nothing else waits.
//!
//! A cursor walks the ids, which grow with time, from the oldest to the newest that can be due (no
//! task ends before it was made). One pass meets each old row once; live tasks and dead letters are
//! passed over, as the engine removes dead letters itself. No index is needed, and none is paid for.

use crate::sqlite::journal::{Fault, remove_task};
use no_engine::id::{PartitionId, TaskId};
use no_engine::time::Millis;
use rusqlite::Connection;

/// Rows that one piece looks at: well under a millisecond.
const PIECE_ROWS: usize = 1_024;
/// Tasks that one piece removes: about a millisecond, and one sync.
const PIECE_TASKS: usize = 128;
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
    let ended_by = now.0.saturating_sub(retention.kept_ms);
    let until = TaskId::new(ended_by, 0, PartitionId(0)).to_bytes();
    let walk = "SELECT id, state IN ('succeeded','cancelled') AND ended_at <= ?1 \
                FROM tasks WHERE ?2 < id AND id < ?3 ORDER BY id LIMIT ?4";
    let mut walk = db.prepare_cached(walk)?;
    let limit = PIECE_ROWS as i64;
    let mut rows = walk.query((ended_by.cast_signed(), &retention.after[..], &until[..], limit))?;
    let (mut after, mut seen, mut due) = (retention.after, 0, Vec::new());
    while due.len() < PIECE_TASKS
        && let Some(row) = rows.next()?
    {
        (after, seen) = (row.get(0)?, seen + 1);
        if row.get::<_, Option<bool>>(1)? == Some(true) {
            due.extend(TaskId::from_bytes(after));
        }
    }
    drop(rows);
    for id in &due {
        remove_task(db, &id.to_bytes())?;
    }
    let goes_on = due.len() == PIECE_TASKS || seen == PIECE_ROWS;
    if goes_on {
        retention.after = after;
    } else {
        let pause_ms = (retention.kept_ms / 128).clamp(PAUSE_MS.0, PAUSE_MS.1);
        (retention.after, retention.next_pass_at) = ([0; 16], now + pause_ms);
    }
    Ok(goes_on)
}
