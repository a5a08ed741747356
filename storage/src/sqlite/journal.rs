//! A shard's journal: batches as one transaction on the shard's own file.
//!
//! Invariants: `commit` returns `Ok` only after the sync. After any failure but a full disk the
//! journal is poisoned and refuses everything: retrying a sync proves nothing (Rebello et al., "Can
//! Applications Recover from fsync Failures?", 2020). A full disk rolls back and leaves no trace.
//!
//! Work per task decides what nO can carry, so a transaction writes each task once, however often
//! it changed in it, in the order of ids: neighbours share a page.

use crate::error::{Error, Malformed};
use crate::rows::{
    AGENT_COLUMNS, Cell, EVENT_COLUMNS, KEY_COLUMNS, TASK_COLUMNS, TASK_FIXED, agent_cells,
    event_cells, key_cells, key_name, task_cells,
};
use crate::sqlite::cell::{execute, insert_sql, update_sql};
use crate::sqlite::checkpoint::LogGauge;
use crate::sqlite::schema;
use crate::sqlite::tidy::{self, Retention};
use crate::writer::Finish;
use no_engine::event::{Batch, Record, TaskImage};
use no_engine::id::TaskId;
use no_engine::payload::Payload;
use no_engine::port::{CommitError, Journal};
use no_engine::task::Task;
use no_engine::time::Millis;
use rusqlite::{Connection, DEFAULT_NAME, ErrorCode, ffi, wal::CheckpointMode};
use std::path::PathBuf;

/// Events that one statement inserts.
const EVENTS_AT_ONCE: usize = 16;
/// Tasks that one statement inserts.
const TASKS_AT_ONCE: usize = 8;

/// The journal of one shard, on SQLite. Used by its journal thread alone.
pub struct SqliteJournal {
    db: Connection,
    path: PathBuf,
    sql: Sql,
    retention: Retention,
    gauge: LogGauge,
    poison: Option<String>,
}

/// The statements, made once of the column lists.
struct Sql {
    tasks: InsertSql,
    update_task: String,
    events: InsertSql,
    put_key: String,
    put_agent: String,
}

/// `INSERT` of one row, and of several at once.
struct InsertSql {
    one: String,
    many: String,
}

impl InsertSql {
    fn new(table: &str, columns: &[&str], at_once: usize) -> InsertSql {
        let (one, many) = (insert_sql(table, columns, 1), insert_sql(table, columns, at_once));
        InsertSql { one, many }
    }
}

/// What went wrong inside a transaction, before it is told to the engine.
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    Row(Malformed),
    /// A large payload came without its bytes, and the file does not have it.
    BlobMissing(TaskId),
    /// A task was to be updated that is not there.
    TaskMissing(TaskId),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        Fault::Sqlite(error)
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Fault {
        Fault::Row(malformed)
    }
}

impl Fault {
    /// A full disk wrote nothing that counts; all else leaves the journal in doubt.
    fn into_commit_error(self) -> CommitError {
        CommitError::Failed(match self {
            Fault::Sqlite(error) if is_full(&error) => return CommitError::Full,
            Fault::Sqlite(error) => error.to_string(),
            Fault::Row(malformed) => malformed.to_string(),
            Fault::BlobMissing(task) => format!("a large payload of task {task} has no bytes"),
            Fault::TaskMissing(task) => format!("task {task} changed but has no row"),
        })
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    // The log's index is a file too; growing it is the other place where a full disk shows.
    let index_full = error
        .sqlite_error()
        .is_some_and(|error| matches!(error.extended_code, ffi::SQLITE_IOERR_SHMSIZE));
    index_full || error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

impl SqliteJournal {
    pub(crate) fn new(
        mut db: Connection,
        path: PathBuf,
        retention_ms: u64,
        gauge: LogGauge,
    ) -> Result<SqliteJournal, Error> {
        let of_sqlite = |source| Error::of_sqlite(&path, source);
        db.wal_hook(Some(gauge.hook())).map_err(of_sqlite)?;
        let upsert = |table, columns: &[&str], key: &str| {
            let changes: Vec<String> =
                columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
            let changes = changes.join(",");
            format!("{} ON CONFLICT ({key}) DO UPDATE SET {changes}", insert_sql(table, columns, 1))
        };
        let sql = Sql {
            tasks: InsertSql::new("tasks", &TASK_COLUMNS, TASKS_AT_ONCE),
            update_task: update_sql("tasks", &TASK_COLUMNS, TASK_FIXED),
            events: InsertSql::new("events", &EVENT_COLUMNS, EVENTS_AT_ONCE),
            put_key: upsert("keys", &KEY_COLUMNS, "partition, hash"),
            put_agent: upsert("agents", &AGENT_COLUMNS, "name"),
        };
        let retention = Retention::new(retention_ms);
        Ok(SqliteJournal { db, path, sql, retention, gauge, poison: None })
    }

    /// Bounds the file to so many pages of 8 KiB: a full disk for tests.
    #[cfg(test)]
    pub(crate) fn set_pages_max(&self, pages: u32) -> Result<(), Error> {
        let sql = format!("PRAGMA max_page_count = {pages}");
        let done = self.db.query_row(&sql, [], |_| Ok(()));
        done.map_err(|source| Error::of_sqlite(&self.path, source))
    }

    /// Runs `work` in one transaction. Poisons the journal when it fails for more than a full disk.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Connection, &Sql, &mut Retention) -> Result<T, Fault>,
    ) -> Result<T, CommitError> {
        if self.poison.is_none() && self.gauge.has_failed() {
            self.poison = Some("a checkpoint failed".into());
        }
        if let Some(why) = &self.poison {
            return Err(CommitError::Failed(why.clone()));
        }
        let done: Result<T, Fault> = (|| {
            self.gauge.copy_rest(&self.db)?;
            self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let value = work(&self.db, &self.sql, &mut self.retention)?;
            self.db.prepare_cached("COMMIT")?.execute([])?;
            Ok(value)
        })();
        let mut error = match done {
            Ok(value) => return Ok(value),
            Err(fault) => fault.into_commit_error(),
        };
        // SQLite has rolled back by itself after some errors; then there is no transaction.
        if !self.db.is_autocommit() && self.db.execute_batch("ROLLBACK").is_err() {
            error = CommitError::Failed(format!("{error}, and could not be rolled back"));
        }
        if let CommitError::Failed(why) = &mut error {
            *why = format!("{}: {why}", self.path.display());
        }
        match &error {
            // The next try copies the log into the file first: then the log's own room is free.
            CommitError::Full => self.gauge.want_rest(),
            CommitError::Failed(why) => {
                self.poison = Some(why.clone());
                self.gauge.fail();
                if let Err(error) = schema::leave_log_on_close(&self.db) {
                    tracing::error!(target: "journal", %error, "the log may be synced again");
                }
            }
        }
        Err(error)
    }
}

impl Journal for SqliteJournal {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), CommitError> {
        self.transaction(|db, sql, _| write(db, sql, batches))
    }

    fn tidy(&mut self, now: Millis) -> Result<bool, CommitError> {
        if !self.retention.is_due(now) && !self.gauge.wants_rest() {
            return Ok(false);
        }
        self.transaction(|db, _, retention| tidy::piece(db, retention, now))
    }
}

impl Finish for SqliteJournal {
    fn finish(&mut self) -> Result<(), CommitError> {
        self.transaction(|db, _, _| Ok(schema::set_clean(db, true)?))?;
        // The log is empty after this, unless a reader is in it; then the next start reads it.
        match self.db.wal_checkpoint_v2(DEFAULT_NAME, CheckpointMode::TRUNCATE) {
            Ok(_) => Ok(()),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
            Err(error) if is_full(&error) => Ok(()),
            Err(error) => Err(CommitError::Failed(error.to_string())),
        }
    }
}

/// Writes all batches. What they remove is not written first.
fn write(db: &Connection, sql: &Sql, batches: &[Batch]) -> Result<(), Fault> {
    let mut gone: Vec<TaskId> = batches.iter().flat_map(|b| &b.tasks_gone).copied().collect();
    gone.sort_unstable();
    let stays = |id: TaskId| gone.is_empty() || gone.binary_search(&id).is_err();
    write_tasks(db, sql, batches, stays)?;
    write_records(db, sql, batches, stays)?;
    for id in &gone {
        remove_task(db, &id.to_bytes())?;
    }
    write_keys(db, sql, batches)?;
    write_agents(db, sql, batches)
}

/// The last image of each task, in the order of ids.
fn write_tasks(
    db: &Connection,
    sql: &Sql,
    batches: &[Batch],
    stays: impl Fn(TaskId) -> bool,
) -> Result<(), Fault> {
    let mut images: Vec<&TaskImage> = batches.iter().flat_map(|b| &b.tasks).collect();
    // Stable: of one task's images the last stays last.
    images.sort_by_key(|image| image.task.id);
    let (mut new, mut changed): (Vec<&Task>, Vec<&Task>) = (Vec::new(), Vec::new());
    for same in images.chunk_by(|a, b| a.task.id == b.task.id) {
        let task = &same[same.len() - 1].task;
        let is_new = same.iter().any(|image| image.is_new);
        if stays(task.id) {
            if is_new { new.push(task) } else { changed.push(task) }
        }
    }
    insert_all::<_, { TASK_COLUMNS.len() }, TASKS_AT_ONCE>(db, &sql.tasks, &new, task_cells)?;
    let mut update = db.prepare_cached(&sql.update_task)?;
    for task in changed {
        let cells = task_cells(task)?;
        update.raw_bind_parameter(TASK_COLUMNS.len() - TASK_FIXED + 1, &cells[0])?;
        if execute(&mut update, &cells[TASK_FIXED..])? != 1 {
            return Err(Fault::TaskMissing(task.id));
        }
    }
    Ok(())
}

fn write_records(
    db: &Connection,
    sql: &Sql,
    batches: &[Batch],
    stays: impl Fn(TaskId) -> bool,
) -> Result<(), Fault> {
    let mut records: Vec<&Record> = batches.iter().flat_map(|b| &b.records).collect();
    records.retain(|record| stays(record.task));
    records.sort_unstable_by_key(|record| (record.task, record.n));
    for record in &records {
        if let Some(payload @ Payload::Blob(_)) = record.event.payload() {
            add_blob(db, record.task, payload)?;
        }
    }
    insert_all::<_, { EVENT_COLUMNS.len() }, EVENTS_AT_ONCE>(db, &sql.events, &records, event_cells)
}

/// Inserts a row of `N` cells for each item, `AT_ONCE` of them by one statement where there are so
/// many: starting a statement costs as much as a row.
fn insert_all<'a, T, const N: usize, const AT_ONCE: usize>(
    db: &Connection,
    sql: &InsertSql,
    items: &[&'a T],
    cells: impl Fn(&'a T) -> Result<[Cell<'a>; N], Malformed>,
) -> Result<(), Fault> {
    let (many, few) = items.as_chunks::<AT_ONCE>();
    let mut insert = db.prepare_cached(&sql.many)?;
    for items in many {
        let mut rows = [const { [const { Cell::Null }; N] }; AT_ONCE];
        for (row, item) in rows.iter_mut().zip(items) {
            *row = cells(item)?;
        }
        execute(&mut insert, rows.as_flattened())?;
    }
    let mut insert = db.prepare_cached(&sql.one)?;
    for item in few {
        execute(&mut insert, &cells(item)?)?;
    }
    Ok(())
}

/// Stores a large payload, or counts one more event that names it.
fn add_blob(db: &Connection, task: TaskId, payload: &Payload) -> Result<(), Fault> {
    let Payload::Blob(blob) = payload else { return Ok(()) };
    let (hash, bytes) = (&blob.hash, &blob.bytes);
    let known = "UPDATE blobs SET refs = refs + 1 WHERE hash = ?1";
    if db.prepare_cached(known)?.execute([&hash.0[..]])? == 1 {
        return Ok(());
    }
    let Some(bytes) = bytes else { return Err(Fault::BlobMissing(task)) };
    let new = "INSERT INTO blobs (hash, bytes, refs) VALUES (?1, ?2, 1)";
    db.prepare_cached(new)?.execute((&hash.0[..], &bytes[..]))?;
    Ok(())
}

/// Removes a task's row, its history, and what that alone named.
pub(crate) fn remove_task(db: &Connection, id: &[u8]) -> rusqlite::Result<()> {
    remove_history(db, id, u32::MAX)?;
    db.prepare_cached("DELETE FROM tasks WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Removes a task's events up to number `through`, and what they alone named.
pub(crate) fn remove_history(db: &Connection, id: &[u8], through: u32) -> rusqlite::Result<()> {
    let named = "SELECT blob FROM events WHERE task = ?1 AND n <= ?2 AND blob IS NOT NULL";
    let mut named = db.prepare_cached(named)?;
    let hashes = named.query_map((id, through), |row| row.get::<_, Vec<u8>>(0))?;
    for hash in hashes.collect::<rusqlite::Result<Vec<_>>>()? {
        let less = "UPDATE blobs SET refs = refs - 1 WHERE hash = ?1";
        db.prepare_cached(less)?.execute([&hash])?;
        let last = "DELETE FROM blobs WHERE hash = ?1 AND refs <= 0";
        db.prepare_cached(last)?.execute([&hash])?;
    }
    let events = "DELETE FROM events WHERE task = ?1 AND n <= ?2";
    db.prepare_cached(events)?.execute((id, through))?;
    Ok(())
}

/// Keys batch by batch, as one may come again after it was forgotten.
fn write_keys(db: &Connection, sql: &Sql, batches: &[Batch]) -> Result<(), Fault> {
    for batch in batches {
        if !batch.keys_gone.is_empty() {
            let gone = "DELETE FROM keys WHERE partition = ?1 AND hash = ?2";
            let mut gone = db.prepare_cached(gone)?;
            for (partition, hash) in &batch.keys_gone {
                execute(&mut gone, &key_name(*partition, *hash))?;
            }
        }
        if !batch.keys.is_empty() {
            let mut put = db.prepare_cached(&sql.put_key)?;
            for key in &batch.keys {
                execute(&mut put, &key_cells(key))?;
            }
        }
    }
    Ok(())
}

fn write_agents(db: &Connection, sql: &Sql, batches: &[Batch]) -> Result<(), Fault> {
    for batch in batches {
        for name in &batch.agents_gone {
            let gone = "DELETE FROM agents WHERE name = ?1";
            db.prepare_cached(gone)?.execute([&**name])?;
        }
        for agent in &batch.agents {
            let mut put = db.prepare_cached(&sql.put_agent)?;
            execute(&mut put, &agent_cells(agent)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: i32, is_full: bool) {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let error = Fault::Sqlite(error).into_commit_error();
        assert_eq!(error == CommitError::Full, is_full, "{error:?}");
    }

    #[test]
    fn only_a_full_disk_may_be_tried_again() {
        check(ffi::SQLITE_FULL, true);
        check(ffi::SQLITE_IOERR_SHMSIZE, true);
        let others = [
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_CONSTRAINT,
        ];
        others.into_iter().for_each(|code| check(code, false));
    }
}
