//! Loading at start: the open tasks (live ones and dead letters), keys and agents of a shard's
//! file, each handed over as it is read: neighbours in the file are of all partitions, and nothing
//! of them is kept here. Two threads read while the shard's own puts what they read in its place:
//! reading is most of the work, and at start cores are idle. Of the tasks one thread goes up from
//! the first and the other down from the last until they meet (`meeting.rs`), as nobody knows how
//! many there are, nor which is in the middle.

use crate::error::{Error, Malformed, Result};
use crate::rows::{self, AGENT_COLUMNS, FEEDBACK_COLUMNS, KEY_COLUMNS, Names, TASK_COLUMNS};
use crate::sqlite::meeting::{Meeting, Way};
use crate::sqlite::schema::{self, OPEN};
use no_engine::event::{AgentRow, FeedbackRow, KeyRow};
use no_engine::id::PartitionId;
use no_engine::port::Load;
use no_engine::task::Task;
use no_engine::time::Millis;
use rusqlite::Connection;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::ScopedJoinHandle;

/// Tasks handed from the reading thread to the shard's at a time.
const PIECE_TASKS: usize = 256;
/// Keys likewise: they are small.
const PIECE_KEYS: usize = 1_024;
/// Pieces that may wait between them.
const PIECES_WAITING: usize = 16;

/// Reads what one shard needs to start. Its connection ends with it.
pub struct SqliteLoad {
    db: Connection,
    path: PathBuf,
    names: Names,
}

impl SqliteLoad {
    pub(crate) fn new(path: PathBuf) -> Result<SqliteLoad> {
        let db = schema::open_reader(&path)?;
        Ok(SqliteLoad { db, path, names: Names::default() })
    }

    fn of_sqlite(&self, source: rusqlite::Error) -> Error {
        Error::of_sqlite(&self.path, source)
    }

    /// Hands the open tasks to `take` in pieces, in one walk along the index, until it meets the
    /// walk from the other end or `take` has enough.
    fn walk_tasks(
        &mut self,
        way: Way,
        meeting: &Meeting,
        mut take: impl FnMut(Vec<Task>) -> ControlFlow<()>,
    ) -> Result<()> {
        let columns = TASK_COLUMNS.join(",");
        let order = way.sql();
        let sql = format!(
            "SELECT {columns} FROM tasks INDEXED BY tasks_open WHERE {OPEN} ORDER BY id {order}"
        );
        let of_sqlite = |source| Error::of_sqlite(&self.path, source);
        let mut statement = self.db.prepare(&sql).map_err(of_sqlite)?;
        let mut rows = statement.query([]).map_err(of_sqlite)?;
        let mut piece = Vec::with_capacity(PIECE_TASKS);
        loop {
            let row = rows.next().map_err(of_sqlite)?;
            let is_last = row.is_none();
            if let Some(row) = row {
                let task = rows::task_of(row, &mut self.names);
                piece.push(task.map_err(|malformed| Error::of_row(&self.path, malformed))?);
            }
            if is_last || PIECE_TASKS <= piece.len() {
                let next = Vec::with_capacity(if is_last { 0 } else { PIECE_TASKS });
                let mut piece = std::mem::replace(&mut piece, next);
                let has_met = meeting.claim(way, &mut piece, |task| task.id);
                if take(piece).is_break() || has_met || is_last {
                    return Ok(());
                }
            }
        }
    }

    /// Hands the keys of these partitions to `take` in pieces, until it has enough.
    fn walk_keys(
        &mut self,
        partitions: Range<u16>,
        mut take: impl FnMut(Vec<KeyRow>) -> ControlFlow<()>,
    ) -> Result<()> {
        let columns = KEY_COLUMNS.join(",");
        let sql = format!("SELECT {columns} FROM keys WHERE ?1 <= partition AND partition < ?2");
        let of_sqlite = |source| Error::of_sqlite(&self.path, source);
        let mut statement = self.db.prepare(&sql).map_err(of_sqlite)?;
        let range = (partitions.start, partitions.end);
        let mut rows = statement.query(range).map_err(of_sqlite)?;
        let mut piece = Vec::with_capacity(PIECE_KEYS);
        while let Some(row) = rows.next().map_err(of_sqlite)? {
            let key = rows::key_of(row);
            piece.push(key.map_err(|malformed| Error::of_row(&self.path, malformed))?);
            if PIECE_KEYS <= piece.len()
                && take(std::mem::replace(&mut piece, Vec::with_capacity(PIECE_KEYS))).is_break()
            {
                return Ok(());
            }
        }
        let _ = take(piece);
        Ok(())
    }

    /// Hands every row that `sql` gives to `read`.
    fn each(
        &self,
        sql: &str,
        mut read: impl FnMut(&rusqlite::Row<'_>) -> std::result::Result<(), Malformed>,
    ) -> Result<()> {
        let mut statement = self.db.prepare(sql).map_err(|source| self.of_sqlite(source))?;
        let mut rows = statement.query([]).map_err(|source| self.of_sqlite(source))?;
        while let Some(row) = rows.next().map_err(|source| self.of_sqlite(source))? {
            read(row).map_err(|malformed| Error::of_row(&self.path, malformed))?;
        }
        Ok(())
    }
}

/// Whether a row is of a partition that was asked for. A shard asks for all that its file has.
fn is_asked(partitions: &[PartitionId], id: PartitionId) -> bool {
    partitions.binary_search(&id).is_ok()
}

/// Where a reading thread hands its pieces on; `Break` when nobody takes them any more.
type HandOn<'s, T> = dyn FnMut(Vec<T>) -> ControlFlow<()> + 's;

/// Has a thread run each reader, and hands what they read to `take` on this one.
fn read_by_two<T: Send>(
    readers: [impl FnOnce(&mut HandOn<'_, T>) -> Result<()> + Send; 2],
    mut take: impl FnMut(T),
) -> Result<()> {
    let (send, pieces) = mpsc::sync_channel::<Vec<T>>(PIECES_WAITING);
    std::thread::scope(|scope| {
        // The end of the readers must end the channel: the senders move in and go with them.
        let threads = readers.map(|read| {
            let send = send.clone();
            scope.spawn(move || {
                read(&mut |piece| match send.send(piece) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                })
            })
        });
        drop(send);
        pieces.iter().flatten().for_each(&mut take);
        let join = |thread: ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.map(join).into_iter().collect()
    })
}

fn failed(error: &Error) -> no_engine::Error {
    no_engine::Error::LoadFailed { why: error.to_string() }
}

impl Load for SqliteLoad {
    fn tasks(
        &mut self,
        partitions: &[PartitionId],
        take: &mut dyn FnMut(Task),
    ) -> no_engine::Result<()> {
        assert!(partitions.is_sorted());
        let mut other = SqliteLoad::new(self.path.clone()).map_err(|error| failed(&error))?;
        let meeting = &Meeting::default();
        let readers = [(&mut *self, Way::Up), (&mut other, Way::Down)];
        let readers = readers
            .map(|(load, way)| move |send: &mut HandOn<Task>| load.walk_tasks(way, meeting, send));
        let read = read_by_two(readers, |task: Task| {
            if is_asked(partitions, task.id.partition()) {
                take(task);
            }
        });
        read.map_err(|error| failed(&error))
    }

    fn keys(
        &mut self,
        partitions: &[PartitionId],
        take: &mut dyn FnMut(KeyRow),
    ) -> no_engine::Result<()> {
        assert!(partitions.is_sorted());
        let [Some(first), Some(last)] = [partitions.first(), partitions.last()] else {
            return Ok(());
        };
        let mut other = SqliteLoad::new(self.path.clone()).map_err(|error| failed(&error))?;
        // They are spread evenly over their partitions.
        let middle = partitions[partitions.len() / 2].0;
        let halves = [(&mut *self, first.0..middle), (&mut other, middle..last.0 + 1)];
        let readers = halves
            .map(|(load, range)| move |send: &mut HandOn<KeyRow>| load.walk_keys(range, send));
        let read = read_by_two(readers, |row: KeyRow| {
            if is_asked(partitions, row.partition) {
                take(row);
            }
        });
        read.map_err(|error| failed(&error))
    }

    fn feedback(
        &mut self,
        partitions: &[PartitionId],
        since: Millis,
        take: &mut dyn FnMut(FeedbackRow),
    ) -> no_engine::Result<()> {
        let columns = FEEDBACK_COLUMNS.join(",");
        let sql = format!("SELECT {columns} FROM feedback WHERE {} <= at", since.0.cast_signed());
        let mut names = Names::default();
        let read = self.each(&sql, |row| {
            let row = rows::feedback_of(row, &mut names)?;
            if is_asked(partitions, row.task.partition()) {
                take(row);
            }
            Ok(())
        });
        read.map_err(|error| failed(&error))
    }

    fn agents(&mut self) -> no_engine::Result<Vec<AgentRow>> {
        let columns = AGENT_COLUMNS.join(",");
        let sql = format!("SELECT {columns} FROM agents ORDER BY name");
        let (mut names, mut agents) = (Names::default(), Vec::new());
        let read = self.each(&sql, |row| {
            agents.push(rows::agent_of(row, &mut names)?);
            Ok(())
        });
        read.map_err(|error| failed(&error))?;
        Ok(agents)
    }
}
