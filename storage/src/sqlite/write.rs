//! How what commits come to is written into a shard's file: one statement for each row, prepared
//! once, values bound without a copy.

use crate::journal::entry::Stretch;
use crate::rows::{
    AGENT_COLUMNS, Cell, FEEDBACK_COLUMNS, KEY_COLUMNS, TASK_COLUMNS, TASK_FIXED, Unpack,
};
use crate::sqlite::cell::execute;
use crate::sqlite::index::{Fault, Sql};
use crate::work::{MALFORMED, Settled, join, named_by, rows, unpacked};
use rusqlite::{Connection, Statement};
use std::borrow::Cow;

/// Tasks that a transaction wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// That came with it.
    pub(crate) new: usize,
    /// That had a row before.
    pub(crate) known: usize,
}

/// Writes it all, and says which tasks it was.
pub(crate) fn write(db: &Connection, sql: &Sql, work: &Settled<'_>) -> Result<Written, Fault> {
    let written = write_tasks(db, sql, work)?;
    for id in &work.tasks_gone {
        remove_task(db, id)?;
    }
    write_keys(db, sql, work)?;
    write_agents(db, sql, work)?;
    for cells in work.feedback.values() {
        let mut put = db.prepare_cached(&sql.put_feedback)?;
        execute(&mut put, &unpacked::<{ FEEDBACK_COLUMNS.len() }>(cells)?)?;
    }
    Ok(written)
}

/// The last image of each task with the events that came, in the order of ids.
fn write_tasks(db: &Connection, sql: &Sql, work: &Settled<'_>) -> Result<Written, Fault> {
    let mut insert = db.prepare_cached(&sql.insert_task)?;
    let mut update = db.prepare_cached(&sql.update_task)?;
    let (mut text, mut written) = (Vec::new(), Written::default());
    for change in work.changes() {
        let change = change?;
        for stretch in change.events {
            add_payloads(db, work, stretch)?;
        }
        let (head, more) = change.split();
        if change.is_new {
            written.new += 1;
            join(head, &mut text);
            bind_packed(&mut insert, change.cells, 0)?;
            bind_row(&mut insert, TASK_COLUMNS.len() + 1, &text, named_by(head))?;
            insert.raw_execute()?;
        } else {
            written.known += 1;
            bind_packed(&mut update, change.cells, TASK_FIXED)?;
            update.raw_bind_parameter(TASK_COLUMNS.len() - TASK_FIXED + 1, &change.id[..])?;
            if update.raw_execute()? != 1 {
                return Err(missing(change.id));
            }
        }
        write_events(db, more, &mut text)?;
    }
    Ok(written)
}

/// Stores the large payloads that a stretch names, or counts one more event that does.
fn add_payloads(db: &Connection, work: &Settled<'_>, stretch: &Stretch<'_>) -> Result<(), Fault> {
    for hash in stretch.named.chunks_exact(32) {
        let known = "UPDATE blobs SET refs = refs + 1 WHERE hash = ?1";
        if db.prepare_cached(known)?.execute([hash])? == 1 {
            continue;
        }
        let Some(bytes) = work.payload(hash) else { return Err(Fault::PayloadMissing) };
        let new = "INSERT INTO blobs (hash, bytes, refs) VALUES (?1, ?2, 1)";
        db.prepare_cached(new)?.execute((hash, bytes))?;
    }
    Ok(())
}

fn write_keys(db: &Connection, sql: &Sql, work: &Settled<'_>) -> Result<(), Fault> {
    if work.keys.is_empty() {
        return Ok(());
    }
    let gone = "DELETE FROM keys WHERE partition = ?1 AND hash = ?2";
    let (mut gone, mut put) = (db.prepare_cached(gone)?, db.prepare_cached(&sql.put_key)?);
    for (name, cells) in &work.keys {
        match cells {
            Some(cells) => execute(&mut put, &unpacked::<{ KEY_COLUMNS.len() }>(cells)?)?,
            None => execute(&mut gone, &unpacked::<2>(name)?)?,
        };
    }
    Ok(())
}

fn write_agents(db: &Connection, sql: &Sql, work: &Settled<'_>) -> Result<(), Fault> {
    for (name, cells) in &work.agents {
        match cells {
            Some(cells) => {
                let mut put = db.prepare_cached(&sql.put_agent)?;
                execute(&mut put, &unpacked::<{ AGENT_COLUMNS.len() }>(cells)?)?;
            }
            None => {
                let mut gone = db.prepare_cached("DELETE FROM agents WHERE name = ?1")?;
                execute(&mut gone, [&Cell::Text(Cow::Borrowed(*name))])?;
            }
        }
    }
    Ok(())
}

fn missing(id: [u8; 16]) -> Fault {
    no_engine::id::TaskId::from_bytes(id).map_or(Fault::Row(MALFORMED), Fault::TaskMissing)
}

/// Rows of `events`, several stretches in each.
fn write_events(db: &Connection, events: &[Stretch<'_>], text: &mut Vec<u8>) -> Result<(), Fault> {
    for row in rows(events) {
        join(row, text);
        let mut insert = db.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)")?;
        insert.raw_bind_parameter(1, &row[0].id[..])?;
        insert.raw_bind_parameter(2, row[0].first)?;
        bind_row(&mut insert, 3, text, named_by(row))?;
        insert.raw_execute()?;
    }
    Ok(())
}

/// Binds a task's packed cells behind the first `skipped` ones.
fn bind_packed(statement: &mut Statement<'_>, cells: &[u8], skipped: usize) -> Result<(), Fault> {
    let mut unpack = Unpack::new(cells);
    for i in 0..TASK_COLUMNS.len() {
        let cell = unpack.cell().ok_or(MALFORMED)?;
        if skipped <= i {
            statement.raw_bind_parameter(i - skipped + 1, &cell)?;
        }
    }
    Ok(())
}

/// Binds a stretch of history: its text, and the payloads that it names if there are any.
fn bind_row(
    statement: &mut Statement<'_>,
    first: usize,
    text: &[u8],
    named: Cell<'_>,
) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(first, Cell::Text(Cow::Borrowed(text)))?;
    statement.raw_bind_parameter(first + 1, named)
}

/// Removes a task's row, its history, and what that alone named.
pub(crate) fn remove_task(db: &Connection, id: &[u8]) -> rusqlite::Result<()> {
    remove_history(db, id, u32::MAX)?;
    let named = "SELECT named FROM tasks WHERE id = ?1 AND named IS NOT NULL";
    remove_named(db, named, (id,))?;
    db.prepare_cached("DELETE FROM tasks WHERE id = ?1")?.execute([id])?;
    db.prepare_cached("DELETE FROM feedback WHERE task = ?1")?.execute([id])?;
    Ok(())
}

/// Removes the rows of a task's later history that begin up to number `through`, and what they
/// alone named.
pub(crate) fn remove_history(db: &Connection, id: &[u8], through: u32) -> rusqlite::Result<()> {
    let named = "SELECT named FROM events WHERE task = ?1 AND n <= ?2 AND named IS NOT NULL";
    remove_named(db, named, (id, through))?;
    let events = "DELETE FROM events WHERE task = ?1 AND n <= ?2";
    db.prepare_cached(events)?.execute((id, through))?;
    Ok(())
}

/// Counts one event less for each payload that the selected rows name.
fn remove_named(
    db: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<()> {
    let mut named = db.prepare_cached(sql)?;
    let hashes = named.query_map(parameters, |row| row.get::<_, Vec<u8>>(0))?;
    for hashes in hashes.collect::<rusqlite::Result<Vec<_>>>()? {
        for hash in hashes.chunks_exact(32) {
            let less = "UPDATE blobs SET refs = refs - 1 WHERE hash = ?1";
            db.prepare_cached(less)?.execute([hash])?;
            let last = "DELETE FROM blobs WHERE hash = ?1 AND refs <= 0";
            db.prepare_cached(last)?.execute([hash])?;
        }
    }
    Ok(())
}
