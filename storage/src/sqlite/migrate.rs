//! Moving an older store on to this build's schema, at its first start: each file in one
//! transaction, then the folder's marker.
//!
//! Version 1 had no journal, a column for each field of a task, and a row for each event. Its rows
//! are read and written anew the way a journal's frame is taken over. Version 2 had no feedback.

use crate::error::{Error, Malformed, Result};
use crate::journal::entry::write_batch;
use crate::journal::frame::Draft;
use crate::rows::{self, Names, V1_EVENT_COLUMNS, V1_TASK_COLUMNS};
use crate::sqlite::folder::Marker;
use crate::sqlite::index::{Fault, Sql};
use crate::sqlite::schema::{self, FEEDBACK_TABLE, SCHEMA, TASK_TABLES, shard_path};
use crate::work::Work;
use no_engine::event::{Batch, TaskImage};
use no_engine::port::CommitError;
use rusqlite::Connection;
use std::path::Path;

/// Tasks that are read and written as one piece.
const PIECE_TASKS: usize = 256;

/// Moves the folder's files on, if they are older.
pub(crate) fn settle(dir: &Path, marker: &mut Marker) -> Result<()> {
    if marker.schema() == SCHEMA {
        return Ok(());
    }
    for path in (0..).map(|shard| shard_path(dir, shard)).take_while(|path| path.exists()) {
        let (db, version) = schema::open_older(&path)?;
        if version == 1 {
            tracing::info!(target: "journal", path = %path.display(), "moving to a newer schema");
            from_1(&db).map_err(|fault| failed(&path, fault))?;
        }
        if version < SCHEMA {
            from_2(&db).map_err(|source| Error::of_sqlite(&path, source))?;
        }
    }
    marker.set_schema();
    marker.write(dir)
}

fn failed(path: &Path, fault: Fault) -> Error {
    match fault {
        Fault::Sqlite(source) => Error::of_sqlite(path, source),
        Fault::Row(malformed) => Error::of_row(path, malformed),
        other => match other.into_commit_error() {
            CommitError::Full => Error::Full { path: path.to_owned() },
            CommitError::Failed(why) => Error::Damaged { path: path.to_owned(), why },
        },
    }
}

fn from_1(db: &Connection) -> std::result::Result<(), Fault> {
    let transaction = db.unchecked_transaction()?;
    // Each event that names a payload is counted again as it is written.
    db.execute_batch(&format!(
        "DROP INDEX tasks_open;
         DROP INDEX tasks_failed;
         ALTER TABLE tasks RENAME TO tasks_1;
         ALTER TABLE events RENAME TO events_1;
         UPDATE blobs SET refs = 0;
         {TASK_TABLES}
         INSERT INTO meta VALUES ('applied', 0);"
    ))?;
    let sql = Sql::new();
    let mut names = Names::default();
    let columns = V1_TASK_COLUMNS.join(",");
    let mut tasks = db.prepare(&format!("SELECT {columns} FROM tasks_1 ORDER BY id"))?;
    let mut rows = tasks.query([])?;
    let mut piece = Batch::default();
    while let Some(row) = rows.next()? {
        let task = rows::v1_task_of(row, &mut names)?;
        add_records(db, &task, &mut piece)?;
        piece.tasks.push(TaskImage { task, is_new: true });
        if PIECE_TASKS <= piece.tasks.len() {
            write(db, &sql, &std::mem::take(&mut piece))?;
        }
    }
    write(db, &sql, &piece)?;
    drop(rows);
    drop(tasks);
    db.execute_batch("DROP TABLE tasks_1; DROP TABLE events_1;")?;
    db.pragma_update(None, "user_version", 2)?;
    transaction.commit()?;
    Ok(())
}

fn from_2(db: &Connection) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    db.execute_batch(FEEDBACK_TABLE)?;
    db.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()
}

/// The whole history of a task, as version 1 has it.
fn add_records(
    db: &Connection,
    task: &no_engine::task::Task,
    piece: &mut Batch,
) -> std::result::Result<(), Fault> {
    let columns = V1_EVENT_COLUMNS.join(",");
    let sql = format!("SELECT {columns} FROM events_1 WHERE task = ?1 ORDER BY n");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query([&task.id.to_bytes()[..]])?;
    while let Some(row) = rows.next()? {
        piece.records.push(rows::v1_record_of(row, task)?);
    }
    Ok(())
}

fn write(db: &Connection, sql: &Sql, piece: &Batch) -> std::result::Result<(), Fault> {
    let mut draft = Draft::new(Vec::new());
    write_batch(&mut draft, piece).map_err(|malformed: Malformed| Fault::Row(malformed))?;
    let mut work = Work::default();
    work.take(draft.entries())?;
    crate::sqlite::write::write(db, sql, &work.settle()).map(|_| ())
}
