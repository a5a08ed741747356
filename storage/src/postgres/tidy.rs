//! Retention in the shared database (`retention.rs`): each journal removes what is due of its own
//! partitions.
//!
//! Looking is outside of the transaction that removes: a task that succeeded or was cancelled stays
//! so. All ids are walked, also those of others, as they stand in the order of time; it is their
//! keys only, a thousand to a round trip.

use crate::error::Malformed;
use crate::postgres::commit::{Committer, in_time};
use crate::postgres::fault::Fault;
use crate::postgres::pipeline::pipelined;
use crate::postgres::session::Session;
use crate::postgres::value::{Decoded, Param};
use crate::postgres::write::{TO_THE_END, Writing, partition_of};
use crate::retention::{Due, PIECE_EVENTS, PIECE_ROWS, PIECE_TASKS, Retention};
use no_engine::time::Millis;
use std::collections::HashMap;
use tokio_postgres::Row;

/// What one piece of a pass removes.
pub(crate) struct Piece {
    pub(crate) writing: Writing<'static>,
    after: [u8; 16],
    is_last: bool,
}

impl Piece {
    /// Notes that it was removed. Returns whether the pass goes on.
    pub(crate) fn done(self, retention: &mut Retention, now: Millis) -> bool {
        retention.after = self.after;
        if self.is_last {
            retention.end_pass(now);
        }
        !self.is_last
    }
}

/// What is next to be removed; `None` when that cannot be told now, as the database is away.
pub(crate) async fn look(
    committer: &mut Committer,
    retention: &Retention,
    now: Millis,
) -> Option<Piece> {
    let due = retention.due(now);
    match try_look(committer, retention.after, due).await {
        Ok(piece) => Some(piece),
        Err(fault) => {
            committer.disconnect();
            let why = fault.why();
            tracing::warn!(target: "journal", why, "nothing is removed for now");
            None
        }
    }
}

async fn try_look(committer: &mut Committer, after: [u8; 16], due: Due) -> Result<Piece, Fault> {
    let options = committer.options().clone();
    let seen = {
        let session = committer.session().await?;
        let sql = "SELECT id, state IN ('succeeded','cancelled') AND ended_at <= $1 \
                   FROM tasks WHERE $2 < id AND id < $3 ORDER BY id LIMIT $4";
        let params = [
            Param::bits(due.ended_by),
            Param::id(after),
            Param::id(due.until),
            Param::count(PIECE_ROWS),
        ];
        in_time(&options, ask(session, sql, &params)).await??
    };
    let mut piece = Piece { writing: Writing::default(), after, is_last: seen.len() < PIECE_ROWS };
    let mut tasks = Vec::new();
    for row in &seen {
        let (id, is_due) = id_and_flag(row).map_err(|error| Fault::Refused(error.to_string()))?;
        if PIECE_TASKS <= tasks.len() {
            piece.is_last = false;
            break;
        }
        if is_due && committer.owned().has(partition_of(&id)) {
            tasks.push(id);
        }
        piece.after = id;
    }
    if tasks.is_empty() {
        return Ok(piece);
    }
    let spans = {
        let session = committer.session().await?;
        let sql = "SELECT task, min(n), max(n) FROM events WHERE task = ANY($1) GROUP BY task";
        in_time(&options, ask(session, sql, &[Param::ids(&tasks)])).await??
    };
    let spans = spans.iter().map(span).collect::<Result<HashMap<_, _>, _>>();
    let spans = spans.map_err(|error| Fault::Refused(error.to_string()))?;
    cut(&mut piece, &tasks, &spans);
    Ok(piece)
}

/// Decides which tasks go, and how much of the one whose history is too long for one piece.
fn cut(piece: &mut Piece, tasks: &[[u8; 16]], spans: &HashMap<[u8; 16], (i64, i64)>) {
    let mut events_left = i64::from(PIECE_EVENTS);
    let (mut histories, mut gone) = (Vec::new(), Vec::new());
    let mut before = piece.after;
    for (i, id) in tasks.iter().enumerate() {
        if let Some((first, last)) = spans.get(id) {
            let events = last - first + 1;
            if events_left < events {
                if 0 < events_left {
                    histories.push((*id, first + events_left - 1));
                }
                // The next piece meets it again, with a shorter history.
                before = if i == 0 { before_id(id) } else { tasks[i - 1] };
                piece.is_last = false;
                break;
            }
            events_left -= events;
            histories.push((*id, TO_THE_END));
        }
        gone.push(*id);
    }
    piece.after = before;
    piece.writing.drop(&histories, &gone);
}

/// The id before that one.
fn before_id(id: &[u8; 16]) -> [u8; 16] {
    u128::from_be_bytes(*id).saturating_sub(1).to_be_bytes()
}

async fn ask(session: &Session, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
    let statement = session.prepare(&[sql.to_owned()]).await.map_err(|broken| broken.fault())?;
    let asked = pipelined(vec![session.rows(&statement[0], params)]).await;
    Ok(asked.map_err(|broken| broken.fault())?.remove(0))
}

fn id_and_flag(row: &Row) -> Result<([u8; 16], bool), Malformed> {
    let row = Decoded::new(row);
    Ok((id_of(&row)?, row.int(1).is_ok_and(|flag| flag != 0)))
}

fn span(row: &Row) -> Result<([u8; 16], (i64, i64)), Malformed> {
    let row = Decoded::new(row);
    Ok((id_of(&row)?, (row.int(1)?, row.int(2)?)))
}

fn id_of(row: &Decoded<'_>) -> Result<[u8; 16], Malformed> {
    row.bytes(0)?.try_into().map_err(|_| Malformed { table: "tasks", column: "id" })
}
