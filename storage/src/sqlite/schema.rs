//! One shard's file: its tables, how it is opened, and the cheap checks that tell a damaged, a
//! foreign or a newer one before anything is done to it.
//!
//! Pages of 8 KiB; write-ahead log; `synchronous=FULL`, so that a commit returns after its sync; no
//! automatic checkpoints (`checkpoint.rs` makes them). Each index costs something for every task,
//! so there are two, both partial: the open tasks by id (loading, listing), and the dead letters.
//! Both are keyed by id and not by partition: ids grow with time, so a batch touches one page of
//! the index at its end, where an index by partition would touch one page for each partition.
//!
//! Rows of `events` stand in the order in which they came, not by task: the loops that live at a
//! time then share the pages that a transaction touches, where a table by task has a page for each.
//! Files of the builds before have it by task; the statements are the same.
//!
//! `tasks.history` is the beginning of a task's history and `events` the rest of it, several events
//! to a row that is named by the number of its first (`rows/event.rs`). `named` are the hashes of
//! the large payloads that a stretch of history names, one after the other. `meta` has `clean`
//! (whether the stop was), `applied` (the journal's last frame in this file) and `journal` (the
//! identity of the journal's file).

use crate::error::{Error, Result};
use rusqlite::{Connection, OpenFlags, OptionalExtension, config::DbConfig};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version that this build writes, and the newest that it reads.
pub(crate) const SCHEMA: u32 = 3;

/// The oldest that it moves on to its own.
const OLDEST: u32 = 1;

/// "nO01" at offset 68 of the file: what `file` and we know it by.
const APPLICATION_ID: u32 = 0x6e4f_3031;

/// How long a connection waits for another one's lock: a checkpoint that restarts the log, at most.
const BUSY_WAIT: Duration = Duration::from_secs(30);

/// What an open task is, for the planner: the text must be the one of the index below.
pub(crate) const OPEN: &str = "state NOT IN ('succeeded','cancelled')";

/// What holds tasks and their histories.
pub(crate) const TASK_TABLES: &str = "
CREATE TABLE tasks (
  id BLOB PRIMARY KEY,
  partition INTEGER NOT NULL,
  agent TEXT NOT NULL,
  tenant TEXT NOT NULL,
  fairness_key TEXT,
  tags TEXT,
  created_at INTEGER NOT NULL,
  input TEXT,
  state TEXT NOT NULL,
  ended_at INTEGER,
  output TEXT,
  run TEXT,
  rest BLOB NOT NULL,
  history TEXT NOT NULL,
  named BLOB
) WITHOUT ROWID;
CREATE INDEX tasks_open ON tasks (id) WHERE state NOT IN ('succeeded','cancelled');
CREATE INDEX tasks_failed ON tasks (id) WHERE state = 'failed';
CREATE TABLE events (
  task BLOB NOT NULL,
  n INTEGER NOT NULL,
  data TEXT NOT NULL,
  named BLOB,
  UNIQUE (task, n)
);
";

/// All the rest.
const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE blobs (hash BLOB PRIMARY KEY, bytes BLOB NOT NULL, refs INTEGER NOT NULL);
CREATE TABLE keys (
  partition INTEGER NOT NULL,
  hash BLOB NOT NULL,
  fingerprint INTEGER NOT NULL,
  task BLOB NOT NULL,
  expires_at INTEGER,
  PRIMARY KEY (partition, hash)
) WITHOUT ROWID;
CREATE TABLE agents (name TEXT PRIMARY KEY, definition TEXT NOT NULL, paused INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TABLE schedules (name TEXT PRIMARY KEY, definition TEXT NOT NULL) WITHOUT ROWID;
";

/// What version 3 added.
pub(crate) const FEEDBACK_TABLE: &str = "
CREATE TABLE feedback (
  task BLOB PRIMARY KEY,
  partition INTEGER NOT NULL,
  agent TEXT NOT NULL,
  score INTEGER NOT NULL,
  at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX feedback_at ON feedback (at);
";

/// Where the file of a shard is.
pub(crate) fn shard_path(dir: &Path, shard: u16) -> PathBuf {
    dir.join(format!("shard-{shard:03}.db"))
}

/// Where the journal in front of a shard's file is.
pub(crate) fn journal_path(path: &Path) -> PathBuf {
    path.with_extension("journal")
}

/// Where the write-ahead log of a shard's file is.
pub(crate) fn log_path(path: &Path) -> PathBuf {
    path.with_extension("db-wal")
}

/// Makes a shard's file, or the rest of it where a crash left it half made. Does nothing to a whole
/// one.
pub(crate) fn create(path: &Path) -> Result<()> {
    let of_sqlite = |source| Error::of_sqlite(path, source);
    let db = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    set_writing(&db).map_err(of_sqlite)?;
    if user_version(&db).map_err(of_sqlite)? == SCHEMA {
        return Ok(());
    }
    let sql = format!(
        "BEGIN IMMEDIATE; {TASK_TABLES} {TABLES} {FEEDBACK_TABLE}
         INSERT INTO meta VALUES ('clean', 1), ('applied', 0);
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {SCHEMA};
         COMMIT;"
    );
    db.execute_batch(&sql).map_err(of_sqlite)
}

/// Opens a shard's file for writing, after the cheap checks.
pub(crate) fn open_writer(path: &Path) -> Result<Connection> {
    check_header(path)?;
    let db = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let of_sqlite = |source| Error::of_sqlite(path, source);
    set_writing(&db).map_err(of_sqlite)?;
    check_version(path, user_version(&db).map_err(of_sqlite)?)?;
    Ok(db)
}

/// Opens a shard's file of whatever version up to ours, for moving it on.
pub(crate) fn open_older(path: &Path) -> Result<(Connection, u32)> {
    check_header(path)?;
    let db = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let of_sqlite = |source| Error::of_sqlite(path, source);
    set_writing(&db).map_err(of_sqlite)?;
    let version = user_version(&db).map_err(of_sqlite)?;
    Ok((db, version))
}

/// Keeps this connection's end from copying the log into the file, which would sync both: also a
/// log whose last sync failed.
pub(crate) fn leave_log_on_close(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// Opens a shard's file for reading only.
pub(crate) fn open_reader(path: &Path) -> Result<Connection> {
    let db = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    db.execute_batch("PRAGMA query_only = 1; PRAGMA cache_size = -8192;")
        .map_err(|source| Error::of_sqlite(path, source))?;
    Ok(db)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let of_sqlite = |source| Error::of_sqlite(path, source);
    // One thread at a time has a connection, so SQLite need not lock it.
    let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(of_sqlite)?;
    db.busy_timeout(BUSY_WAIT).map_err(of_sqlite)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

fn set_writing(db: &Connection) -> rusqlite::Result<()> {
    // The page size counts only before the first table. The order of the others is free.
    db.execute_batch(
        "PRAGMA page_size = 8192;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA foreign_keys = 0;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -32768;",
    )
}

fn user_version(db: &Connection) -> rusqlite::Result<u32> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Looks at the first 100 bytes (SQLite's file format, section 1.3) before SQLite does, as it would
/// take an empty file for a new one.
fn check_header(path: &Path) -> Result<()> {
    let damaged = |why: &str| Error::Damaged { path: path.to_owned(), why: why.to_owned() };
    let mut header = [0_u8; 100];
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(damaged("the file is missing"));
        }
        Err(error) => return Err(Error::of_io(path, error)),
    };
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(damaged("the file is too short"));
        }
        Err(error) => return Err(Error::of_io(path, error)),
    }
    let number = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u32::from_be_bytes(bytes)
    };
    if &header[..16] != b"SQLite format 3\0" {
        return Err(damaged("its header is not SQLite's"));
    }
    // A file whose first transaction is still in the write-ahead log has neither number yet.
    let (version, application) = (number(60), number(68));
    if (version, application) == (0, 0) {
        return Ok(());
    }
    if application != APPLICATION_ID {
        return Err(damaged("it is the database of another program"));
    }
    check_version(path, version)
}

fn check_version(path: &Path, found: u32) -> Result<()> {
    match found {
        OLDEST..=SCHEMA => Ok(()),
        0 => Err(Error::Damaged { path: path.to_owned(), why: "it has no tables".into() }),
        _ => Err(Error::Newer { path: path.to_owned(), found, known: SCHEMA }),
    }
}

/// Whether nO stopped cleanly when it last had this file.
pub(crate) fn is_clean(db: &Connection) -> rusqlite::Result<bool> {
    let mark = "SELECT value FROM meta WHERE name = 'clean'";
    let value: i64 = db.query_row(mark, [], |row| row.get(0))?;
    Ok(value != 0)
}

/// Sets or clears the mark of a clean stop, durably.
pub(crate) fn set_clean(db: &Connection, clean: bool) -> rusqlite::Result<()> {
    db.execute("UPDATE meta SET value = ?1 WHERE name = 'clean'", [i64::from(clean)])?;
    Ok(())
}

/// The number of the last frame of the journal that this file has taken over.
pub(crate) fn applied(db: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM meta WHERE name = 'applied'";
    db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// Notes that number, in the transaction that takes the frame over.
pub(crate) fn set_applied(db: &Connection, number: u64) -> rusqlite::Result<()> {
    let sql = "UPDATE meta SET value = ?1 WHERE name = 'applied'";
    db.prepare_cached(sql)?.execute([number.cast_signed()])?;
    Ok(())
}

/// The identity of the journal in front of this file; `None` before there was one.
pub(crate) fn journal(db: &Connection) -> rusqlite::Result<Option<[u8; 16]>> {
    let sql = "SELECT value FROM meta WHERE name = 'journal'";
    db.query_row(sql, [], |row| row.get(0)).optional()
}

/// Notes it, durably.
pub(crate) fn set_journal(db: &Connection, identity: [u8; 16]) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO meta VALUES ('journal', ?1)";
    db.execute(sql, [&identity[..]])?;
    Ok(())
}

/// Forgets it, durably.
pub(crate) fn forget_journal(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM meta WHERE name = 'journal'", [])?;
    Ok(())
}
