//! Settling a folder before it is opened: files are made, and when the number of shards is another
//! than last time, the rows of the partitions that moved go to their new file.
//!
//! It may be killed at any point and started again. The marker says from how many files to how many
//! the move goes until it is done; a later wish for yet another number waits until then. Tasks move
//! in small pieces: copied into the new file in one transaction, then removed from the old one in
//! another. A copy that is already there (killed in between) is not made twice, and the counts of
//! large payloads go with the copy. Files that nothing is left in go last.

use crate::error::{Error, Result};
use crate::sqlite::folder::{Marker, sync_folder};
use crate::sqlite::schema::{self, journal_path, shard_path};
use crate::sqlite::write::remove_task;
use no_engine::control::placement;
use no_engine::id::PartitionId;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

/// Tasks that are looked at between two pieces.
const PIECE_TASKS: i64 = 512;

/// How far a move is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files that were gone through, of `files`.
    pub files_done: u16,
    /// Files whose tasks move.
    pub files: u16,
    /// Tasks that were moved by this start.
    pub tasks_moved: u64,
}

/// What is told after each piece; `Break` stops, to go on with the next start.
pub type OnProgress<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// Brings the folder to `shards` files and returns its marker.
pub(crate) fn settle(
    dir: &Path,
    mut marker: Marker,
    shards: u16,
    on_progress: &mut OnProgress<'_>,
) -> Result<Marker> {
    loop {
        if let Some(from) = marker.moving_from {
            make_files(dir, from, marker.shards)?;
            let mut mover = Mover { dir, marker: &marker, progress: Progress::default() };
            mover.move_all(from, on_progress)?;
            marker.moving_from = None;
            marker.write(dir)?;
        }
        remove_empty_files(dir, marker.shards)?;
        if marker.shards == shards {
            return Ok(marker);
        }
        (marker.moving_from, marker.shards) = (Some(marker.shards), shards);
        marker.write(dir)?;
    }
}

/// Makes the files that a move to `shards` needs and that did not exist before.
fn make_files(dir: &Path, from: u16, shards: u16) -> Result<()> {
    (from..shards).try_for_each(|shard| schema::create(&shard_path(dir, shard)))?;
    sync_folder(dir)
}

/// Removes the files of shards that are no more, after a look that nothing is in them.
fn remove_empty_files(dir: &Path, shards: u16) -> Result<()> {
    let mut shard = shards;
    while shard_path(dir, shard).exists() {
        let path = shard_path(dir, shard);
        let db = schema::open_writer(&path)?;
        let used = "SELECT EXISTS (SELECT 1 FROM tasks) OR EXISTS (SELECT 1 FROM keys)";
        let used: bool = db
            .query_row(used, [], |row| row.get(0))
            .map_err(|source| Error::of_sqlite(&path, source))?;
        if used {
            let why = "it holds tasks although no.json counts fewer files".to_owned();
            return Err(Error::Damaged { path, why });
        }
        // Closing takes the log away, so the file can go alone.
        drop(db);
        let journal = journal_path(&path);
        for file in [&path, &journal].into_iter().filter(|file| file.exists()) {
            std::fs::remove_file(file).map_err(|error| Error::of_io(file, error))?;
        }
        shard += 1;
    }
    sync_folder(dir)
}

struct Mover<'a> {
    dir: &'a Path,
    marker: &'a Marker,
    progress: Progress,
}

impl Mover<'_> {
    fn move_all(&mut self, from: u16, on_progress: &mut OnProgress<'_>) -> Result<()> {
        self.progress.files = from;
        for shard in 0..from {
            self.move_out_of(shard, on_progress)?;
            self.progress.files_done += 1;
            tell(self.progress, on_progress)?;
        }
        Ok(())
    }

    /// Where a partition belongs.
    fn home(&self, partition: u16) -> u16 {
        placement(PartitionId(partition), self.marker.partitions, self.marker.shards).0
    }

    /// Moves all that does not belong into the file of `shard`.
    fn move_out_of(&mut self, shard: u16, on_progress: &mut OnProgress<'_>) -> Result<()> {
        let path = shard_path(self.dir, shard);
        let db = schema::open_writer(&path)?;
        let of_sqlite = |source| Error::of_sqlite(&path, source);
        let mut after = vec![0_u8; 16];
        loop {
            let seen = tasks_after(&db, &after).map_err(of_sqlite)?;
            let Some((last, _)) = seen.last() else { break };
            after.clone_from(last);
            let mut leaving: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
            for (id, partition) in seen {
                let home = self.home(partition);
                if home != shard {
                    leaving.entry(home).or_default().push(id);
                }
            }
            for (home, ids) in leaving {
                attach(&db, &shard_path(self.dir, home)).map_err(of_sqlite)?;
                copy_tasks(&db, &ids).map_err(of_sqlite)?;
                tell(self.progress, on_progress)?;
                remove_tasks(&db, &ids).map_err(of_sqlite)?;
                detach(&db).map_err(of_sqlite)?;
                self.progress.tasks_moved += ids.len() as u64;
                tell(self.progress, on_progress)?;
            }
        }
        for partition in 0..self.marker.partitions {
            let home = self.home(partition);
            if home != shard && has_keys(&db, partition).map_err(of_sqlite)? {
                attach(&db, &shard_path(self.dir, home)).map_err(of_sqlite)?;
                copy_keys(&db, partition).map_err(of_sqlite)?;
                tell(self.progress, on_progress)?;
                let gone = "DELETE FROM main.keys WHERE partition = ?1";
                db.execute(gone, [partition]).map_err(of_sqlite)?;
                detach(&db).map_err(of_sqlite)?;
                tell(self.progress, on_progress)?;
            }
        }
        db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").map_err(of_sqlite)
    }
}

fn tell(progress: Progress, on_progress: &mut OnProgress<'_>) -> Result<()> {
    match on_progress(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    }
}

fn tasks_after(db: &Connection, after: &[u8]) -> rusqlite::Result<Vec<(Vec<u8>, u16)>> {
    let sql = "SELECT id, partition FROM main.tasks WHERE ?1 < id ORDER BY id LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map((after, PIECE_TASKS), |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn attach(db: &Connection, path: &Path) -> rusqlite::Result<()> {
    db.execute("ATTACH ?1 AS home", [path.to_string_lossy()])?;
    db.execute_batch("PRAGMA home.synchronous = FULL")
}

fn detach(db: &Connection) -> rusqlite::Result<()> {
    // Statements that were prepared for one file must not be run on another.
    db.flush_prepared_statement_cache();
    db.execute_batch("DETACH home")
}

fn has_keys(db: &Connection, partition: u16) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM main.keys WHERE partition = ?1)";
    db.query_row(sql, [partition], |row| row.get(0))
}

/// Copies tasks with their histories and payloads; those that are there already are left alone.
/// Writes to one file only, so it is atomic.
fn copy_tasks(db: &Connection, ids: &[Vec<u8>]) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    for id in ids {
        let task = "INSERT OR IGNORE INTO home.tasks SELECT * FROM main.tasks WHERE id = ?1";
        if db.prepare_cached(task)?.execute([id])? == 0 {
            continue;
        }
        let events = "INSERT INTO home.events SELECT * FROM main.events WHERE task = ?1";
        db.prepare_cached(events)?.execute([id])?;
        let said = "INSERT INTO home.feedback SELECT * FROM main.feedback WHERE task = ?1";
        db.prepare_cached(said)?.execute([id])?;
        copy_payloads(db, id)?;
    }
    transaction.commit()
}

/// Copies the large payloads that a task's history names, or counts them once more.
fn copy_payloads(db: &Connection, id: &[u8]) -> rusqlite::Result<()> {
    let named = "SELECT named FROM main.tasks WHERE id = ?1 AND named IS NOT NULL UNION ALL \
                 SELECT named FROM main.events WHERE task = ?1 AND named IS NOT NULL";
    let mut named = db.prepare_cached(named)?;
    let mut rows = named.query([id])?;
    while let Some(row) = rows.next()? {
        for hash in row.get_ref(0)?.as_blob()?.chunks_exact(32) {
            let copy = "INSERT INTO home.blobs (hash, bytes, refs) \
                        SELECT hash, bytes, 1 FROM main.blobs WHERE hash = ?1 \
                        ON CONFLICT (hash) DO UPDATE SET refs = refs + 1";
            db.prepare_cached(copy)?.execute([hash])?;
        }
    }
    Ok(())
}

fn remove_tasks(db: &Connection, ids: &[Vec<u8>]) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    for id in ids {
        remove_task(db, id)?;
    }
    transaction.commit()
}

fn copy_keys(db: &Connection, partition: u16) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO home.keys SELECT * FROM main.keys WHERE partition = ?1";
    db.execute(sql, [partition])?;
    Ok(())
}
