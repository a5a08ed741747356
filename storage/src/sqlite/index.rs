//! A shard's index: its SQLite file as the writer sees it. Takes over the frames of the journal,
//! several in one transaction, and removes what retention lets go.
//!
//! Invariants: a transaction takes over whole frames and notes the number of the last in the same
//! file, so that no frame is applied twice or left out, whenever the process is killed. `apply`
//! returns `Ok` only after the sync, so the journal may then reuse the frames' blocks. After any
//! failure but a full disk the index is poisoned and refuses everything: retrying a sync proves
//! nothing (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). A full disk
//! rolls back and leaves no trace.
//!
//! Work per task decides what nO can carry. So a transaction writes each task once, however often
//! it changed in it, in the order of ids (neighbours share a page), and a task that came with its
//! first events is one row.

use crate::error::{Error, Malformed};
use crate::journal::Frame;
use crate::retention::Retention;
use crate::rows::{AGENT_COLUMNS, FEEDBACK_COLUMNS, KEY_COLUMNS, TASK_COLUMNS, TASK_FIXED};
use crate::sqlite::cell::{insert_sql, update_sql};
use crate::sqlite::checkpoint::LogGauge;
use crate::sqlite::schema;
use crate::sqlite::tidy;
use crate::sqlite::write::{Written, write};
use crate::work::Work;
use no_engine::port::CommitError;
use no_engine::time::Millis;
use rusqlite::{Connection, DEFAULT_NAME, ErrorCode, ffi, wal::CheckpointMode};
use std::path::PathBuf;
use std::sync::Arc;

/// The index of one shard. Used by one thread.
pub(crate) struct Index {
    db: Connection,
    path: PathBuf,
    sql: Sql,
    retention: Retention,
    gauge: LogGauge,
    applied: u64,
    written: Written,
    poison: Option<String>,
}

/// The statements, made once of the column lists.
pub(crate) struct Sql {
    pub(crate) insert_task: String,
    pub(crate) update_task: String,
    pub(crate) put_key: String,
    pub(crate) put_agent: String,
    pub(crate) put_feedback: String,
}

impl Sql {
    pub(crate) fn new() -> Sql {
        let upsert = |table, columns: &[&str], key: &str| {
            let changes: Vec<String> =
                columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
            let changes = changes.join(",");
            format!("{} ON CONFLICT ({key}) DO UPDATE SET {changes}", insert_sql(table, columns))
        };
        let mut new = TASK_COLUMNS.to_vec();
        new.extend(["history", "named"]);
        Sql {
            insert_task: insert_sql("tasks", &new),
            update_task: update_sql("tasks", &TASK_COLUMNS, TASK_FIXED),
            put_key: upsert("keys", &KEY_COLUMNS, "partition, hash"),
            put_feedback: upsert("feedback", &FEEDBACK_COLUMNS, "task"),
            put_agent: upsert("agents", &AGENT_COLUMNS, "name"),
        }
    }
}

/// What went wrong inside a transaction, before it is told to the engine.
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    Row(Malformed),
    /// A task was to be updated that is not there.
    TaskMissing(no_engine::id::TaskId),
    /// A payload is named whose bytes never came.
    PayloadMissing,
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
    /// A full disk wrote nothing that counts; all else leaves the index in doubt.
    pub(crate) fn into_commit_error(self) -> CommitError {
        CommitError::Failed(match self {
            Fault::Sqlite(error) if is_full(&error) => return CommitError::Full,
            Fault::Sqlite(error) => error.to_string(),
            Fault::Row(malformed) => malformed.to_string(),
            Fault::TaskMissing(task) => format!("task {task} changed but has no row"),
            Fault::PayloadMissing => "a large payload has no bytes".to_owned(),
        })
    }
}

pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    // The log's index is a file too; growing it is the other place where a full disk shows.
    let index_full = error
        .sqlite_error()
        .is_some_and(|error| matches!(error.extended_code, ffi::SQLITE_IOERR_SHMSIZE));
    index_full || error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

impl Index {
    pub(crate) fn new(
        mut db: Connection,
        path: PathBuf,
        retention_ms: u64,
        gauge: LogGauge,
    ) -> Result<Index, Error> {
        let of_sqlite = |source| Error::of_sqlite(&path, source);
        db.wal_hook(Some(gauge.hook())).map_err(of_sqlite)?;
        // Closing would sync the log again, also one whose last sync failed.
        schema::leave_log_on_close(&db).map_err(of_sqlite)?;
        let applied = schema::applied(&db).map_err(of_sqlite)?;
        let sql = Sql::new();
        let retention = Retention::new(retention_ms);
        Ok(Index {
            db,
            path,
            sql,
            retention,
            gauge,
            applied,
            written: Written::default(),
            poison: None,
        })
    }

    /// The number of the last frame that was taken over.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// Bounds the file to so many pages of 8 KiB: a full disk for tests.
    #[cfg(test)]
    pub(crate) fn set_pages_max(&self, pages: u32) -> Result<(), Error> {
        let sql = format!("PRAGMA max_page_count = {pages}");
        let done = self.db.query_row(&sql, [], |_| Ok(()));
        done.map_err(|source| Error::of_sqlite(&self.path, source))
    }

    /// Takes over `frames`, which follow the last one that was, durably and as a whole.
    ///
    /// # Errors
    /// See [`CommitError`]. Never retried by itself.
    pub(crate) fn apply(&mut self, frames: &[Arc<Frame>]) -> Result<(), CommitError> {
        let Some(last) = frames.last() else { return Ok(()) };
        assert_eq!(frames[0].number, self.applied + 1, "a frame was left out");
        let number = last.number;
        self.written = self.transaction(|db, sql, _| {
            let mut work = Work::default();
            for frame in frames {
                work.take(frame.entries())?;
            }
            let written = write(db, sql, &work.settle())?;
            schema::set_applied(db, number)?;
            Ok(written)
        })?;
        self.applied = number;
        Ok(())
    }

    /// The tasks that the last group wrote.
    pub(crate) fn written(&self) -> Written {
        self.written
    }

    /// Up to a few ms of retention. Returns whether there is more to do.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub(crate) fn tidy(&mut self, now: Millis) -> Result<bool, CommitError> {
        if !self.is_tidy_due(now) {
            return Ok(false);
        }
        self.transaction(|db, _, retention| tidy::piece(db, retention, now))
    }

    /// Whether [`Index::tidy`] would do anything.
    pub(crate) fn is_tidy_due(&self, now: Millis) -> bool {
        self.retention.is_due(now) || self.gauge.wants_rest()
    }

    /// Gives the memory of its page cache back.
    pub(crate) fn rest(&self) {
        if let Err(error) = self.db.execute_batch("PRAGMA shrink_memory") {
            tracing::warn!(target: "journal", %error, "the index keeps its page cache");
        }
    }

    /// Notes durably that the stop was clean, and empties SQLite's log.
    ///
    /// # Errors
    /// See [`CommitError`]; the next start will take the stop for a crash.
    pub(crate) fn finish(&mut self) -> Result<(), CommitError> {
        self.transaction(|db, _, _| Ok(schema::set_clean(db, true)?))?;
        // The log is empty after this, unless a reader is in it; then the next start reads it.
        match self.db.wal_checkpoint_v2(DEFAULT_NAME, CheckpointMode::TRUNCATE) {
            Ok(_) => Ok(()),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
            Err(error) if is_full(&error) => Ok(()),
            Err(error) => Err(CommitError::Failed(error.to_string())),
        }
    }

    /// Runs `work` in one transaction. Poisons the index when it fails for more than a full disk.
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
            }
        }
        Err(error)
    }
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
