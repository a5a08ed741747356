//! Loading at start: the open tasks (live ones and dead letters), keys and agents of a shard's
//! file, each handed over as it is read: neighbours in the file are of all partitions, and nothing
//! of them is kept here. Tasks are read by two threads, each one half of the ids, while the shard's
//! own puts them in their places: decoding is most of the work, and at start cores are idle.

use crate::error::{Error, Malformed, Result};
use crate::rows::{self, AGENT_COLUMNS, KEY_COLUMNS, Names, TASK_COLUMNS};
use crate::sqlite::schema::{self, OPEN};
use no_engine::event::{AgentRow, KeyRow};
use no_engine::id::PartitionId;
use no_engine::port::Load;
use no_engine::task::Task;
use rusqlite::Connection;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::ScopedJoinHandle;

/// Tasks handed from the reading thread to the shard's at a time.
const PIECE_TASKS: usize = 256;
/// Pieces that may wait between them.
const PIECES_WAITING: usize = 16;

/// Above every id: an id has a version and a variant, not all bits.
const LAST_ID: [u8; 16] = [0xff; 16];

/// Reads what one shard needs to start. Its connection ends with it.
pub struct SqliteLoad {
    db: Connection,
    path: PathBuf,
    names: Names,
    survey: Option<Survey>,
}

/// What a walk along the index of open tasks tells.
#[derive(Clone, Copy)]
struct Survey {
    len: usize,
    /// An id with about half of them below it.
    middle: [u8; 16],
}

impl SqliteLoad {
    pub(crate) fn new(path: PathBuf) -> Result<SqliteLoad> {
        let db = schema::open_reader(&path)?;
        Ok(SqliteLoad { db, path, names: Names::default(), survey: None })
    }

    fn of_sqlite(&self, source: rusqlite::Error) -> Error {
        Error::of_sqlite(&self.path, source)
    }

    /// How many open tasks there are and where their middle is: one walk along the index alone,
    /// made once.
    fn survey(&mut self) -> Result<Survey> {
        if let Some(survey) = self.survey {
            return Ok(survey);
        }
        let of_sqlite = |source| Error::of_sqlite(&self.path, source);
        let sql = format!("SELECT id FROM tasks INDEXED BY tasks_open WHERE {OPEN} ORDER BY id");
        let mut statement = self.db.prepare(&sql).map_err(of_sqlite)?;
        let mut rows = statement.query([]).map_err(of_sqlite)?;
        let (mut len, mut marks) = (0, Vec::new());
        while let Some(row) = rows.next().map_err(of_sqlite)? {
            if len % PIECE_TASKS == 0 {
                marks.push(row.get(0).map_err(of_sqlite)?);
            }
            len += 1;
        }
        let middle = marks.get(marks.len() / 2).copied().unwrap_or(LAST_ID);
        Ok(*self.survey.insert(Survey { len, middle }))
    }

    /// Hands the open tasks with ids from `from` to below `until` to `take` in pieces, in one walk
    /// along the index; until it has enough.
    fn walk_tasks(
        &mut self,
        (from, until): ([u8; 16], [u8; 16]),
        mut take: impl FnMut(Vec<Task>) -> ControlFlow<()>,
    ) -> Result<()> {
        let columns = TASK_COLUMNS.join(",");
        let sql = format!(
            "SELECT {columns} FROM tasks INDEXED BY tasks_open \
             WHERE {OPEN} AND ?1 <= id AND id < ?2 ORDER BY id"
        );
        let of_sqlite = |source| Error::of_sqlite(&self.path, source);
        let mut statement = self.db.prepare(&sql).map_err(of_sqlite)?;
        let mut rows = statement.query((from, until)).map_err(of_sqlite)?;
        let mut piece = Vec::with_capacity(PIECE_TASKS);
        while let Some(row) = rows.next().map_err(of_sqlite)? {
            let task = rows::task_of(row, &mut self.names);
            piece.push(task.map_err(|malformed| Error::of_row(&self.path, malformed))?);
            if PIECE_TASKS <= piece.len()
                && take(std::mem::replace(&mut piece, Vec::with_capacity(PIECE_TASKS))).is_break()
            {
                return Ok(());
            }
        }
        let _ = take(piece);
        Ok(())
    }

    /// Hands each key to `take`.
    fn walk_keys(&self, mut take: impl FnMut(KeyRow)) -> Result<()> {
        let columns = KEY_COLUMNS.join(",");
        self.each(&format!("SELECT {columns} FROM keys"), |row| {
            take(rows::key_of(row)?);
            Ok(())
        })
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

fn failed(error: &Error) -> no_engine::Error {
    no_engine::Error::LoadFailed { why: error.to_string() }
}

impl Load for SqliteLoad {
    fn tasks_len(&mut self) -> no_engine::Result<usize> {
        Ok(self.survey().map_err(|error| failed(&error))?.len)
    }

    fn tasks(
        &mut self,
        partitions: &[PartitionId],
        take: &mut dyn FnMut(Task),
    ) -> no_engine::Result<()> {
        assert!(partitions.is_sorted());
        let middle = self.survey().map_err(|error| failed(&error))?.middle;
        let mut other = SqliteLoad::new(self.path.clone()).map_err(|error| failed(&error))?;
        let (send, pieces) = mpsc::sync_channel(PIECES_WAITING);
        let walked = std::thread::scope(|scope| {
            // The end of the walks must end the channel: the senders move in and go with them.
            let walkers = [(&mut *self, [0; 16], middle), (&mut other, middle, LAST_ID)];
            let walkers = walkers.map(|(load, from, until)| {
                let send = send.clone();
                scope.spawn(move || {
                    load.walk_tasks((from, until), |piece| match send.send(piece) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    })
                })
            });
            drop(send);
            for task in pieces.iter().flatten() {
                if is_asked(partitions, task.id.partition()) {
                    take(task);
                }
            }
            let join = |walker: ScopedJoinHandle<'_, Result<()>>| {
                walker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            walkers.map(join).into_iter().collect::<Result<()>>()
        });
        walked.map_err(|error| failed(&error))
    }

    fn keys(
        &mut self,
        partitions: &[PartitionId],
        take: &mut dyn FnMut(KeyRow),
    ) -> no_engine::Result<()> {
        assert!(partitions.is_sorted());
        let walked = self.walk_keys(|row| {
            if is_asked(partitions, row.partition) {
                take(row);
            }
        });
        walked.map_err(|error| failed(&error))
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
