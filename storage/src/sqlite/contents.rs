//! What a shard's file holds, read through to the last row: the proof that a copy is good.

use crate::blob;
use crate::error::{Error, Result};
use crate::rows::{self, AGENT_COLUMNS, FEEDBACK_COLUMNS, KEY_COLUMNS, Names, TASK_COLUMNS};
use crate::sqlite::schema;
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Counts of what a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Tasks by their state's name.
    pub tasks: BTreeMap<String, u64>,
    /// Events of their histories, by the state of their task.
    pub events: BTreeMap<String, u64>,
    /// Idempotency keys.
    pub keys: u64,
    /// Tasks of whose results something was said.
    pub feedback: u64,
    /// Agents; in shard 0 alone.
    pub agents: u64,
    /// Large payloads.
    pub payloads: u64,
}

impl Contents {
    /// Adds those of another file.
    pub fn add(&mut self, other: &Contents) {
        let add = |to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>| {
            from.iter().for_each(|(state, count)| *to.entry(state.clone()).or_default() += count);
        };
        add(&mut self.tasks, &other.tasks);
        add(&mut self.events, &other.events);
        self.keys += other.keys;
        self.feedback += other.feedback;
        self.agents += other.agents;
        self.payloads += other.payloads;
    }
}

/// Checks a copy of a shard's file that nobody else has open: SQLite's own check of pages and
/// indexes, every row of tasks, keys, agents and feedback, and every payload against its hash.
///
/// # Errors
/// [`Error::Damaged`] with what is wrong; [`Error::Newer`]; those of reading a file.
pub fn check_copy(path: &Path) -> Result<Contents> {
    let db = schema::open_writer(path)?;
    let of_sqlite = |source| Error::of_sqlite(path, source);
    let said: String =
        db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(of_sqlite)?;
    if said != "ok" {
        return Err(Error::Damaged { path: path.to_owned(), why: said });
    }
    let contents = count(path, &db)?;
    db.close().map_err(|(_, source)| of_sqlite(source))?;
    Ok(contents)
}

fn count(path: &Path, db: &Connection) -> Result<Contents> {
    let mut contents = Contents::default();
    let mut names = Names::default();
    let of_row = |malformed| Error::of_row(path, malformed);
    let sql = format!("SELECT {} FROM tasks", TASK_COLUMNS.join(","));
    each(path, db, &sql, |row| {
        let task = rows::task_of(row, &mut names).map_err(of_row)?;
        let state = task.state.name();
        *contents.tasks.entry(state.to_owned()).or_default() += 1;
        *contents.events.entry(state.to_owned()).or_default() += u64::from(task.events);
        Ok(())
    })?;
    let sql = format!("SELECT {} FROM keys", KEY_COLUMNS.join(","));
    each(path, db, &sql, |row| {
        contents.keys += 1;
        rows::key_of(row).map(drop).map_err(of_row)
    })?;
    let sql = format!("SELECT {} FROM agents", AGENT_COLUMNS.join(","));
    each(path, db, &sql, |row| {
        contents.agents += 1;
        rows::agent_of(row, &mut names).map(drop).map_err(of_row)
    })?;
    let sql = format!("SELECT {} FROM feedback", FEEDBACK_COLUMNS.join(","));
    each(path, db, &sql, |row| {
        contents.feedback += 1;
        rows::feedback_of(row, &mut names).map(drop).map_err(of_row)
    })?;
    each(path, db, "SELECT hash, bytes FROM blobs", |row| {
        contents.payloads += 1;
        let read = |column| row.get_ref(column).and_then(|value| Ok(value.as_blob()?));
        let of_sqlite = |source| Error::of_sqlite(path, source);
        let (hash, bytes) = (read(0).map_err(of_sqlite)?, read(1).map_err(of_sqlite)?);
        if blob::hash(bytes).0[..] == *hash {
            return Ok(());
        }
        let why = "a large payload does not fit its hash".to_owned();
        Err(Error::Damaged { path: path.to_owned(), why })
    })?;
    Ok(contents)
}

/// Hands every row that `sql` gives to `read`.
fn each(
    path: &Path,
    db: &Connection,
    sql: &str,
    mut read: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    let of_sqlite = |source| Error::of_sqlite(path, source);
    let mut statement = db.prepare(sql).map_err(of_sqlite)?;
    let mut rows = statement.query([]).map_err(of_sqlite)?;
    while let Some(row) = rows.next().map_err(of_sqlite)? {
        read(row)?;
    }
    Ok(())
}
