//! The embedded store: for each shard a journal and an index behind it, a SQLite file, in one
//! folder.
//!
//! A commit is durable once it is in the journal; the index takes it over a moment later, and it is
//! the index that is read and loaded. [`Store::open`] refuses what is not a sound store of this
//! build's kind, moves an older one on, has the indexes take over what their journals still hold,
//! settles the number of files, and then gives out the parts that threads own: a journal and a
//! loader for each shard, readers, and the checkpoint thread. The store itself holds the folder's
//! lock: keep it until all parts are gone.

mod backup;
mod cell;
mod checkpoint;
mod contents;
mod folder;
mod follower;
mod index;
mod inspect;
mod journal;
mod load;
mod meeting;
mod migrate;
mod read;
mod replay;
mod reshard;
mod restore;
mod schema;
mod tidy;
mod write;

#[cfg(test)]
mod tests;

pub use backup::Cut;
pub use checkpoint::Checkpoints;
pub use contents::{Contents, check_copy};
pub use follower::{StoreReading, StoreWatch};
pub use inspect::{FrameSeen, JournalSeen, inspect};
pub use journal::{Following, SqliteJournal};
pub use load::SqliteLoad;
pub use read::SqliteReader;
pub use reshard::{OnProgress, Progress};
pub use restore::Restoring;

use crate::error::{Error, Result};
use crate::journal::JournalFile;
use checkpoint::{LogGauge, Shared};
use folder::Marker;
use follower::Followed;
use index::Index;
use no_engine::id::ShardId;
use no_engine::limits::{PARTITIONS, PARTITIONS_MAX, RETENTION_MS, SHARDS_MAX};
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, DEFAULT_NAME};
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A journal's bound where none is given: about half a second at the highest rates, which the index
/// may fall behind by before commits wait for it.
pub const JOURNAL_BYTES: u64 = 64 << 20;

/// What a store is to be like.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Its partitions: fixed when it is created, and must be the same ever after.
    pub partitions: u16,
    /// Its shards, 1 to the number of partitions. May change from start to start.
    pub shards: u16,
    /// How long tasks that succeeded or were cancelled are kept, in ms.
    pub retention_ms: u64,
    /// The most that a shard's journal takes on the disk, in bytes: whole blocks of 4 KiB.
    pub journal_bytes: u64,
    /// Who takes the journal's frames over into the index.
    pub following: Following,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions {
            partitions: PARTITIONS,
            shards: 1,
            retention_ms: RETENTION_MS,
            journal_bytes: JOURNAL_BYTES,
            following: Following::Thread,
        }
    }
}

/// An open store. Its lock on the folder ends with it.
pub struct Store {
    partitions: u16,
    paths: Vec<PathBuf>,
    /// The writing connections and the journals' files, until their journals are asked for.
    writers: Vec<Option<(Connection, JournalFile)>>,
    followed: Vec<Arc<Followed>>,
    shared: Arc<Shared>,
    retention_ms: u64,
    following: Following,
    was_clean: bool,
    fences_from: u64,
    _lock: File,
}

impl Store {
    /// Opens the store in `dir`, or makes one there if the folder is empty or missing.
    ///
    /// Panics when `options` names no partition, no shard, or more shards than partitions.
    ///
    /// # Errors
    /// Each variant of [`Error`] that says what to do about the folder.
    pub fn open(dir: &Path, options: &OpenOptions) -> Result<Store> {
        Store::open_with_progress(dir, options, &mut |_| ControlFlow::Continue(()))
    }

    /// Likewise; `on_progress` is told how far a move between files is, and may break it off.
    ///
    /// # Errors
    /// As [`Store::open`], and [`Error::Interrupted`].
    pub fn open_with_progress(
        dir: &Path,
        options: &OpenOptions,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<Store> {
        let &OpenOptions { partitions, shards, retention_ms, journal_bytes, following } = options;
        assert!((1..=PARTITIONS_MAX).contains(&partitions), "the configuration was checked");
        assert!(
            (1..=SHARDS_MAX.min(partitions)).contains(&shards),
            "the configuration was checked"
        );
        folder::enter(dir)?;
        let lock = folder::lock(dir)?;
        let mut marker = match Marker::read(dir)? {
            Some(marker) => marker,
            None => {
                let marker = Marker::new(partitions, shards);
                marker.write(dir)?;
                marker
            }
        };
        if marker.partitions != partitions {
            let (dir, found) = (dir.to_owned(), marker.partitions);
            return Err(Error::PartitionsDiffer { dir, found, asked: partitions });
        }
        restore::clear(dir)?;
        let fences_from = marker.fences_from;
        migrate::settle(dir, &mut marker)?;
        replay::settle(dir, &marker)?;
        reshard::settle(dir, marker, shards, on_progress)?;
        let paths: Vec<PathBuf> = (0..shards).map(|shard| schema::shard_path(dir, shard)).collect();
        let writers = paths.iter().map(|path| schema::open_writer(path));
        let writers = writers.collect::<Result<Vec<_>>>()?;
        let files = replay::journals(dir, &paths, &writers, journal_bytes)?;
        let was_clean = take_clean_marks(&paths, &writers)?;
        let followed = paths.iter().zip(&writers).map(|(path, db)| {
            let applied = schema::applied(db).map_err(|source| Error::of_sqlite(path, source))?;
            Ok(Followed::new(applied, journal_bytes))
        });
        let followed = followed.collect::<Result<Vec<_>>>()?;
        let writers = writers.into_iter().zip(files).map(Some).collect();
        let shared = Shared::new(shards);
        Ok(Store {
            partitions,
            paths,
            writers,
            followed,
            shared,
            retention_ms,
            following,
            was_clean,
            fences_from,
            _lock: lock,
        })
    }

    /// The lowest fence that may be given: above all that were before the store was restored.
    #[must_use]
    pub fn fences_from(&self) -> u64 {
        self.fences_from
    }

    /// Partitions, fixed when the store was created.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Shards, and files.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.paths.len() as u16
    }

    /// Whether nO stopped cleanly when it last had this store; `true` for a new one. If not, what
    /// was running then crashed.
    #[must_use]
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// The journal of a shard, for its journal thread.
    ///
    /// Panics when it is asked for twice.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn journal(&mut self, shard: ShardId) -> Result<SqliteJournal> {
        let i = usize::from(shard.0);
        let (db, file) = self.writers[i].take().expect("a shard has one journal");
        let gauge = LogGauge::new(&self.shared, shard.0);
        let path = &self.paths[i];
        let index = Index::new(db, path.clone(), self.retention_ms, gauge)?;
        SqliteJournal::new(file, index, path, Arc::clone(&self.followed[i]), self.following)
    }

    /// A loader of a shard's partitions, as they were when the store was opened: to be used before
    /// the shard's first commit. Agents are in shard 0's.
    ///
    /// # Errors
    /// Those of opening a file.
    pub fn loader(&self, shard: ShardId) -> Result<SqliteLoad> {
        SqliteLoad::new(self.paths[usize::from(shard.0)].clone())
    }

    /// A reader over all shards, for one thread.
    ///
    /// # Errors
    /// Those of opening a file.
    pub fn reader(&self) -> Result<SqliteReader> {
        SqliteReader::new(&self.paths, &self.followed, self.partitions)
    }

    /// Its tasks, counted, as they were when it was opened.
    ///
    /// # Errors
    /// Those of reading a file.
    pub fn tasks(&self) -> Result<u64> {
        let count = |path: &PathBuf| {
            let db = schema::open_reader(path)?;
            let count = db.query_row("SELECT count(*) FROM tasks", [], |row| row.get::<_, i64>(0));
            count.map(i64::cast_unsigned).map_err(|source| Error::of_sqlite(path, source))
        };
        self.paths.iter().map(count).sum()
    }

    /// What the folder's store is: partitions, shards.
    ///
    /// # Errors
    /// [`Error::NoStore`], and those of reading its marker.
    pub fn shape(dir: &Path) -> Result<(u16, u16)> {
        let marker = Marker::read(dir)?.ok_or_else(|| Error::NoStore { dir: dir.to_owned() })?;
        Ok((marker.partitions, marker.shards))
    }

    /// Looks at what journals and indexes do.
    #[must_use]
    pub fn watch(&self) -> StoreWatch {
        StoreWatch(self.followed.iter().map(Arc::clone).collect())
    }

    /// Starts the thread that makes checkpoints. Drop it after the journals have ended.
    ///
    /// # Errors
    /// Those of opening a file or of starting a thread.
    pub fn checkpoints(&self) -> Result<Checkpoints> {
        Checkpoints::start(Arc::clone(&self.shared), &self.paths)
    }
}

/// After a crash the log may hold pages whose sync had failed: they are read from the system's
/// cache as if they were on the disk. Copying all of it into the file writes and syncs them anew,
/// so that what is loaded is what a power cut would leave.
fn settle(db: &Connection) -> rusqlite::Result<()> {
    db.wal_checkpoint_v2(DEFAULT_NAME, CheckpointMode::TRUNCATE).map(drop)
}

/// Whether all files carry the mark of a clean stop; takes it from them, durably, because from now
/// on a stop is a crash until the journals end in good order.
fn take_clean_marks(paths: &[PathBuf], writers: &[Connection]) -> Result<bool> {
    let mut was_clean = true;
    for (path, db) in paths.iter().zip(writers) {
        let of_sqlite = |source| Error::of_sqlite(path, source);
        let is_clean = schema::is_clean(db).map_err(of_sqlite)?;
        if !is_clean {
            settle(db).map_err(of_sqlite)?;
        }
        was_clean &= is_clean;
        schema::set_clean(db, false).map_err(of_sqlite)?;
    }
    Ok(was_clean)
}
