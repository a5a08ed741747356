//! Loading at start: the open tasks (live ones and dead letters), keys and agents of a shard's
//! file.
//!
//! The first call reads the open tasks of all partitions in one walk along the index and puts them
//! in a box for each, as neighbours in the file are of all partitions: 64 walks would read each
//! page 64 times. A partition that is asked for again is read on its own.

use crate::error::{Error, Malformed, Result};
use crate::rows::{self, AGENT_COLUMNS, KEY_COLUMNS, Names, TASK_COLUMNS};
use crate::sqlite::schema::{self, OPEN};
use no_engine::event::AgentRow;
use no_engine::id::PartitionId;
use no_engine::port::{Load, Loaded};
use no_engine::task::Task;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Reads what one shard needs to start. Its connection ends with it.
pub struct SqliteLoad {
    db: Connection,
    path: PathBuf,
    names: Names,
    /// Partitions that the file holds.
    partitions: usize,
    /// Read and not asked for yet; `None` before the first walk.
    boxes: Option<BTreeMap<PartitionId, Vec<Task>>>,
}

impl SqliteLoad {
    pub(crate) fn new(path: PathBuf, partitions: usize) -> Result<SqliteLoad> {
        let db = schema::open_reader(&path)?;
        Ok(SqliteLoad { db, path, names: Names::default(), partitions, boxes: None })
    }

    fn of_sqlite(&self, source: rusqlite::Error) -> Error {
        Error::of_sqlite(&self.path, source)
    }

    /// Open tasks; counted along the index alone.
    fn count(&self) -> Result<usize> {
        let sql = format!("SELECT count(*) FROM tasks INDEXED BY tasks_open WHERE {OPEN}");
        let count = self.db.query_row(&sql, [], |row| row.get::<_, u32>(0));
        Ok(count.map_err(|source| self.of_sqlite(source))? as usize)
    }

    /// Hands each open task to `take`.
    fn walk(&mut self, mut take: impl FnMut(Task)) -> Result<()> {
        let columns = TASK_COLUMNS.join(",");
        let sql = format!("SELECT {columns} FROM tasks INDEXED BY tasks_open WHERE {OPEN}");
        let of_sqlite = |source| Error::of_sqlite(&self.path, source);
        let mut statement = self.db.prepare(&sql).map_err(of_sqlite)?;
        let mut rows = statement.query([]).map_err(of_sqlite)?;
        while let Some(row) = rows.next().map_err(of_sqlite)? {
            let task = rows::task_of(row, &mut self.names);
            take(task.map_err(|malformed| Error::of_row(&self.path, malformed))?);
        }
        Ok(())
    }

    fn tasks(&mut self, partition: PartitionId) -> Result<Vec<Task>> {
        if let Some(boxes) = &mut self.boxes {
            if let Some(tasks) = boxes.remove(&partition) {
                return Ok(tasks);
            }
            let mut tasks = Vec::new();
            self.walk(|task| tasks.extend((task.id.partition() == partition).then_some(task)))?;
            return Ok(tasks);
        }
        // Tasks are large, so growing a box step by step would copy them about.
        let share = self.count()? / self.partitions;
        let room = share + share / 8;
        let mut boxes: BTreeMap<PartitionId, Vec<Task>> = BTreeMap::new();
        self.walk(|task| {
            let tasks = boxes.entry(task.id.partition());
            tasks.or_insert_with(|| Vec::with_capacity(room)).push(task);
        })?;
        let tasks = boxes.remove(&partition).unwrap_or_default();
        self.boxes = Some(boxes);
        Ok(tasks)
    }

    /// All rows that `sql` gives, each made a value by `read`.
    fn all<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        mut read: impl FnMut(&rusqlite::Row<'_>) -> std::result::Result<T, Malformed>,
    ) -> Result<Vec<T>> {
        let mut statement = self.db.prepare(sql).map_err(|source| self.of_sqlite(source))?;
        let mut rows = statement.query(parameters).map_err(|source| self.of_sqlite(source))?;
        let mut values = Vec::new();
        while let Some(row) = rows.next().map_err(|source| self.of_sqlite(source))? {
            values.push(read(row).map_err(|malformed| Error::of_row(&self.path, malformed))?);
        }
        Ok(values)
    }
}

impl Load for SqliteLoad {
    fn load(&mut self, partition: PartitionId) -> no_engine::Result<Loaded> {
        let failed =
            |error: Error| no_engine::Error::LoadFailed { partition, why: error.to_string() };
        let tasks = self.tasks(partition).map_err(failed)?;
        let columns = KEY_COLUMNS.join(",");
        let sql = format!("SELECT {columns} FROM keys WHERE partition = ?1");
        let keys = self.all(&sql, [partition.0], |row| rows::key_of(row)).map_err(failed)?;
        Ok(Loaded { tasks, keys })
    }

    fn agents(&mut self) -> no_engine::Result<Vec<AgentRow>> {
        let columns = AGENT_COLUMNS.join(",");
        let sql = format!("SELECT {columns} FROM agents ORDER BY name");
        let mut names = Names::default();
        self.all(&sql, [], |row| rows::agent_of(row, &mut names)).map_err(|error| {
            no_engine::Error::LoadFailed { partition: PartitionId(0), why: error.to_string() }
        })
    }
}
