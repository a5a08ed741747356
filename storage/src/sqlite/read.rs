//! Reading what is durable, for requests: one task, its history, lists. On connections of its own,
//! which neither wait for commits nor hold them up.
//!
//! A list looks at a bounded number of rows and then answers with what it has and where to go on,
//! so that a filter that fits nothing costs the same as any other.

use crate::error::{Error, Result};
use crate::rows::{self, HISTORY_FIRST, Names, TASK_COLUMNS};
use crate::sqlite::follower::Followed;
use crate::sqlite::schema::{self, OPEN};
use no_engine::control::placement;
use no_engine::event::Record;
use no_engine::id::TaskId;
use no_engine::limits::{LIST_LEN_MAX, LIST_ROWS_SCANNED_MAX};
use no_engine::payload::Hash;
use no_engine::port::{Filter, Page, Reader};
use no_engine::task::{State, Task};
use rusqlite::{Connection, OptionalExtension};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reads all shards' files. One for each reading thread.
pub struct SqliteReader {
    files: Vec<File>,
    partitions: u16,
}

struct File {
    db: Connection,
    path: PathBuf,
    followed: Arc<Followed>,
    task_sql: String,
}

/// Why something cannot be read now.
const BEHIND: &str = "the index is behind the journal; the disk may be full";

/// What one file gives for a list.
struct Found {
    /// Ids that fit, newest first.
    ids: Vec<TaskId>,
    /// All rows from this id upwards were looked at; `None` when there are no more.
    down_to: Option<TaskId>,
}

impl SqliteReader {
    pub(crate) fn new(
        paths: &[PathBuf],
        followed: &[Arc<Followed>],
        partitions: u16,
    ) -> Result<SqliteReader> {
        let files = paths.iter().zip(followed);
        let files = files.map(|(path, followed)| File::open(path, Arc::clone(followed)));
        let files = files.collect::<Result<Vec<_>>>()?;
        Ok(SqliteReader { files, partitions })
    }

    fn file(&self, id: TaskId) -> Option<&File> {
        // A client may name a partition that does not exist; then there is no such task.
        let partition = id.partition();
        let shards = u16::try_from(self.files.len()).ok()?;
        let known = partition.0 < self.partitions;
        known.then(|| &self.files[usize::from(placement(partition, self.partitions, shards).0)])
    }

    /// A page, after a look at `scanned_max` rows of each file at most.
    pub(crate) fn page_within(
        &self,
        filter: &Filter,
        before: Option<TaskId>,
        limit: usize,
        scanned_max: usize,
    ) -> Result<Page> {
        let (mut ids, mut down_to): (Vec<(TaskId, &File)>, Option<TaskId>) = (Vec::new(), None);
        for file in &self.files {
            let found = file.scan(filter, before, limit, scanned_max)?;
            ids.extend(found.ids.into_iter().map(|id| (id, file)));
            down_to = down_to.max(found.down_to);
        }
        // Below the highest id at which a file stopped, another file's rows would be out of order.
        ids.retain(|(id, _)| down_to.is_none_or(|down_to| down_to <= *id));
        ids.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        let next = if limit < ids.len() { Some(ids[limit - 1].0) } else { down_to };
        ids.truncate(limit);
        let mut tasks = Vec::with_capacity(ids.len());
        let mut names = Names::default();
        for (id, file) in ids {
            // It may have been removed since.
            tasks.extend(file.task(id, &mut names)?);
        }
        Ok(Page { tasks, next })
    }
}

impl File {
    fn open(path: &Path, followed: Arc<Followed>) -> Result<File> {
        let columns = TASK_COLUMNS.join(",");
        let task_sql = format!("SELECT {columns}, history FROM tasks WHERE id = ?1");
        Ok(File { db: schema::open_reader(path)?, path: path.to_owned(), followed, task_sql })
    }

    fn of_sqlite(&self, source: rusqlite::Error) -> Error {
        Error::of_sqlite(&self.path, source)
    }

    fn task(&self, id: TaskId, names: &mut Names) -> Result<Option<Task>> {
        let id = id.to_bytes();
        let statement = self.db.prepare_cached(&self.task_sql);
        let mut statement = statement.map_err(|source| self.of_sqlite(source))?;
        let mut rows = statement.query([&id[..]]).map_err(|source| self.of_sqlite(source))?;
        let row = rows.next().map_err(|source| self.of_sqlite(source))?;
        let task = row.map(|row| rows::task_of(row, names)).transpose();
        task.map_err(|malformed| Error::of_row(&self.path, malformed))
    }

    /// The ids below `before` that fit, from the newest down.
    fn scan(
        &self,
        filter: &Filter,
        before: Option<TaskId>,
        limit: usize,
        scanned_max: usize,
    ) -> Result<Found> {
        let of_sqlite = |source| self.of_sqlite(source);
        // Open tasks may be few among many, so their own indexes are walked.
        let walk = match filter.state {
            Some(State::Failed) => "tasks INDEXED BY tasks_failed WHERE state = 'failed'".into(),
            Some(state) if !state.is_ended() => {
                format!("tasks INDEXED BY tasks_open WHERE {OPEN}")
            }
            _ => "tasks WHERE 1".to_owned(),
        };
        let sql = format!(
            "SELECT id, tenant, agent, state, fairness_key, tags FROM {walk} AND id < ?1 \
             ORDER BY id DESC"
        );
        let before = before.map_or([0xff; 16], TaskId::to_bytes);
        let mut statement = self.db.prepare_cached(&sql).map_err(of_sqlite)?;
        let mut rows = statement.query([&before[..]]).map_err(of_sqlite)?;
        let mut found = Found { ids: Vec::new(), down_to: None };
        let mut scanned = 0;
        while let Some(row) = rows.next().map_err(of_sqlite)? {
            let id = row.get(0).map_err(of_sqlite)?;
            let Some(id) = TaskId::from_bytes(id) else {
                let why = "a task's id is none".to_owned();
                return Err(Error::Damaged { path: self.path.clone(), why });
            };
            if fits(filter, row).map_err(of_sqlite)? {
                found.ids.push(id);
            }
            scanned += 1;
            if found.ids.len() == limit || scanned == scanned_max {
                found.down_to = Some(id);
                break;
            }
        }
        Ok(found)
    }

    fn events(&self, id: TaskId, after: u32, limit: usize) -> Result<Vec<Record>> {
        let of_sqlite = |source| self.of_sqlite(source);
        let of_row = |malformed| Error::of_row(&self.path, malformed);
        // One moment for both tables.
        let moment = self.db.unchecked_transaction().map_err(of_sqlite)?;
        let mut records = Vec::new();
        let mut take = |task: &Task, first: u32, text: &str| {
            let stretch = rows::records_of(text, first, task).map_err(of_row)?;
            records.extend(stretch.into_iter().filter(|record| after < record.n));
            Ok(limit <= records.len())
        };
        self.walk_history(&id.to_bytes(), after, &mut take)?;
        moment.finish().map_err(of_sqlite)?;
        records.truncate(limit);
        Ok(records)
    }

    /// Hands `take` the rows of a history from the one with the event behind `after` on, until it
    /// says that it has enough.
    fn walk_history(
        &self,
        id: &[u8],
        after: u32,
        take: &mut impl FnMut(&Task, u32, &str) -> Result<bool>,
    ) -> Result<()> {
        let of_sqlite = |source| self.of_sqlite(source);
        let mut statement = self.db.prepare_cached(&self.task_sql).map_err(of_sqlite)?;
        let mut rows = statement.query([id]).map_err(of_sqlite)?;
        let Some(row) = rows.next().map_err(of_sqlite)? else { return Ok(()) };
        let task = rows::task_of(row, &mut Names::default());
        let task = task.map_err(|malformed| Error::of_row(&self.path, malformed))?;
        let text = |row: &rusqlite::Row<'_>, column| {
            let text =
                row.get_ref(column).and_then(|value| Ok(value.as_str().map(str::to_owned)?));
            text.map_err(of_sqlite)
        };
        if take(&task, HISTORY_FIRST, &text(row, TASK_COLUMNS.len())?)? {
            return Ok(());
        }
        let sql = "SELECT n, data FROM events WHERE task = ?1 AND coalesce(\
                   (SELECT max(n) FROM events WHERE task = ?1 AND n <= ?2), 0) <= n ORDER BY n";
        let mut statement = self.db.prepare_cached(sql).map_err(of_sqlite)?;
        let next = i64::from(after) + 1;
        let mut rows = statement.query((id, next)).map_err(of_sqlite)?;
        while let Some(row) = rows.next().map_err(of_sqlite)? {
            let first = row.get(0).map_err(of_sqlite)?;
            if take(&task, first, &text(row, 1)?)? {
                break;
            }
        }
        Ok(())
    }

    fn blob(&self, hash: Hash) -> Result<Option<Arc<[u8]>>> {
        let sql = "SELECT bytes FROM blobs WHERE hash = ?1";
        let bytes = self.db.prepare_cached(sql).and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| Ok(Arc::from(row.get_ref(0)?.as_blob()?));
            statement.query_row([&hash.0[..]], read).optional()
        });
        bytes.map_err(|source| self.of_sqlite(source))
    }
}

/// Whether a row of a scan is one that the list shows.
fn fits(filter: &Filter, row: &rusqlite::Row<'_>) -> rusqlite::Result<bool> {
    let has = |wanted: Option<&str>, column: usize| -> rusqlite::Result<bool> {
        let Some(wanted) = wanted else { return Ok(true) };
        Ok(row.get_ref(column)?.as_str_or_null()? == Some(wanted))
    };
    if !has(filter.tenant.as_deref(), 1)?
        || !has(filter.agent.as_deref(), 2)?
        || !has(filter.state.map(State::name), 3)?
        || !has(filter.fairness_key.as_deref(), 4)?
    {
        return Ok(false);
    }
    let Some(wanted) = filter.tag.as_deref() else { return Ok(true) };
    let Some(tags) = row.get_ref(5)?.as_str_or_null()? else { return Ok(false) };
    let tags = serde_json::from_str::<Vec<Box<str>>>(tags).unwrap_or_default();
    Ok(tags.iter().any(|tag| **tag == *wanted))
}

impl Reader for SqliteReader {
    fn task(&mut self, id: TaskId) -> std::result::Result<Option<Task>, String> {
        let Some(file) = self.file(id) else { return Ok(None) };
        let is_up = file.followed.catch_up();
        let task = file.task(id, &mut Names::default()).map_err(|error| error.to_string())?;
        if task.is_none() && !is_up { Err(BEHIND.to_owned()) } else { Ok(task) }
    }

    fn events(
        &mut self,
        id: TaskId,
        after: u32,
        limit: usize,
    ) -> std::result::Result<Vec<Record>, String> {
        let Some(file) = self.file(id) else { return Ok(Vec::new()) };
        if !file.followed.catch_up() {
            return Err(BEHIND.to_owned());
        }
        file.events(id, after, limit).map_err(|error| error.to_string())
    }

    fn list(
        &mut self,
        filter: &Filter,
        before: Option<TaskId>,
        limit: usize,
    ) -> std::result::Result<Page, String> {
        // What a full disk holds back is not in the list until there is room.
        for file in &self.files {
            file.followed.catch_up();
        }
        let limit = limit.clamp(1, LIST_LEN_MAX);
        let scanned_max = LIST_ROWS_SCANNED_MAX / self.files.len();
        let page = self.page_within(filter, before, limit, scanned_max);
        page.map_err(|error| error.to_string())
    }

    fn blob(&mut self, id: TaskId, hash: Hash) -> std::result::Result<Option<Arc<[u8]>>, String> {
        let Some(file) = self.file(id) else { return Ok(None) };
        if !file.followed.catch_up() {
            return Err(BEHIND.to_owned());
        }
        file.blob(hash).map_err(|error| error.to_string())
    }
}
