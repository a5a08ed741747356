//! Retention, whatever the database: finished tasks go some time after they ended, in small pieces
//! while nothing else waits.
//!
//! A cursor walks the ids, which grow with time, from the oldest to the newest that can be due (no
//! task ends before it was made). One pass meets each old row once; live tasks and dead letters are
//! passed over, as the engine removes dead letters itself. No index is needed, and none is paid
//! for.

use no_engine::id::{PartitionId, TaskId};
use no_engine::time::Millis;

/// Rows that one piece looks at: well under a millisecond.
pub(crate) const PIECE_ROWS: usize = 1_024;
/// Tasks that one piece removes: about a millisecond, and one sync.
pub(crate) const PIECE_TASKS: usize = 128;
/// Events that one piece removes: a long history goes in slices.
pub(crate) const PIECE_EVENTS: u32 = 1_024;
/// The shortest and the longest pause between two passes, in ms.
const PAUSE_MS: (u64, u64) = (1_000, 600_000);

/// Where the walk is.
pub(crate) struct Retention {
    kept_ms: u64,
    /// The last id that was looked at.
    pub(crate) after: [u8; 16],
    next_pass_at: Millis,
}

/// What is due.
#[derive(Clone, Copy)]
pub(crate) struct Due {
    /// Tasks that ended by then, in ms.
    pub(crate) ended_by: u64,
    /// No id from this one on can be due.
    pub(crate) until: [u8; 16],
}

impl Retention {
    pub(crate) fn new(kept_ms: u64) -> Retention {
        Retention { kept_ms, after: [0; 16], next_pass_at: Millis(0) }
    }

    /// Whether there may be something to remove.
    pub(crate) fn is_due(&self, now: Millis) -> bool {
        self.next_pass_at <= now || now + PAUSE_MS.1 < self.next_pass_at
    }

    /// What is due now.
    pub(crate) fn due(&self, now: Millis) -> Due {
        let ended_by = now.0.saturating_sub(self.kept_ms);
        Due { ended_by, until: TaskId::new(ended_by, 0, PartitionId(0)).to_bytes() }
    }

    /// The pass met its last row: the next one begins later, at the oldest.
    pub(crate) fn end_pass(&mut self, now: Millis) {
        let pause_ms = (self.kept_ms / 128).clamp(PAUSE_MS.0, PAUSE_MS.1);
        (self.after, self.next_pass_at) = ([0; 16], now + pause_ms);
    }
}
