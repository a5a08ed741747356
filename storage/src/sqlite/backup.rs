//! A backup's cut: all shards of a store as they are at one moment, taken beside a node that goes
//! on or without one, and copied to files that stand alone.
//!
//! Everything that was acknowledged before [`Cut::take`] began is in the cut. Of each shard the
//! journal's file is read first, and then a snapshot of the index is begun. What the file then
//! lacks of what was durable, the index has (`journal/seen.rs`); so the snapshot and the frames
//! behind it, up to the first that is missing, are all of it. A gap with frames behind it tells
//! that the writer overtook the reading, and the cut is taken anew; one that stays is damage.
//!
//! Shard 0, where agents are, comes last: no task of the cut has an agent that is not in it. Files
//! that are made or moved by a start change the folder's marker, which is looked at before and
//! after. No lock is taken, so a node may stop and start meanwhile.
//!
//! A snapshot holds the index's write-ahead log, which grows until the shard is copied and is cut
//! after that.

use crate::error::{Error, Result};
use crate::journal::Frame;
use crate::journal::file::damaged;
use crate::journal::seen::Seen;
use crate::sqlite::checkpoint::{LogGauge, Shared};
use crate::sqlite::folder::{MARKER, Marker};
use crate::sqlite::index::Index;
use crate::sqlite::schema::{self, SCHEMA, journal_path, shard_path};
use no_engine::port::CommitError;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a cut is tried while the store changes under it.
const TRIES: u32 = 100;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(5);
/// Pages of 8 KiB that are copied between two looks at progress.
const STEP_PAGES: i32 = 512;
/// Frames that one transaction takes over.
const GROUP_FRAMES: usize = 64;

/// A store at one moment. Used by one thread.
pub struct Cut {
    marker: Marker,
    /// By their numbers; taken out once copied.
    shards: Vec<Option<ShardCut>>,
}

struct ShardCut {
    path: PathBuf,
    /// Inside a reading transaction.
    index: Connection,
    /// Behind what the index has.
    frames: Vec<Arc<Frame>>,
}

/// Why a cut has to be taken anew.
enum Again {
    /// The store's files changed as a whole.
    Moved,
    /// The reading was overtaken; unless it happens each time.
    Overtaken(Error),
}

impl Cut {
    /// Takes one of the store in `dir`, of a running node or not.
    ///
    /// # Errors
    /// [`Error::NoStore`], [`Error::Older`], [`Error::Newer`]; [`Error::Unsettled`] when the files
    /// are being made or moved; [`Error::Damaged`]; those of reading a file.
    pub fn take(dir: &Path) -> Result<Cut> {
        let mut last = Error::Unsettled { dir: dir.to_owned() };
        for _ in 0..TRIES {
            match Cut::try_take(dir)? {
                Ok(cut) => return Ok(cut),
                Err(Again::Moved) => {}
                Err(Again::Overtaken(error)) => last = error,
            }
            std::thread::sleep(PAUSE);
        }
        Err(last)
    }

    fn try_take(dir: &Path) -> Result<std::result::Result<Cut, Again>> {
        let before = stamp(dir)?;
        let marker = Marker::read(dir)?.ok_or_else(|| Error::NoStore { dir: dir.to_owned() })?;
        if marker.schema() < SCHEMA {
            return Err(Error::Older { dir: dir.to_owned(), found: marker.schema() });
        }
        if marker.moving_from.is_some() {
            return Ok(Err(Again::Moved));
        }
        let mut shards = Vec::new();
        for shard in (0..marker.shards).rev() {
            match ShardCut::take(shard_path(dir, shard)) {
                Ok(Ok(cut)) => shards.push(Some(cut)),
                Ok(Err(again)) => return Ok(Err(again)),
                Err(_) if stamp(dir)? != before => return Ok(Err(Again::Moved)),
                Err(error) => return Err(error),
            }
        }
        shards.reverse();
        let is_same = stamp(dir)? == before;
        Ok(if is_same { Ok(Cut { marker, shards }) } else { Err(Again::Moved) })
    }

    /// Partitions of the store.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.marker.partitions
    }

    /// Shards of the store, each to be copied to a file of its own.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.marker.shards
    }

    /// The schema of its files.
    #[must_use]
    pub fn schema(&self) -> u32 {
        self.marker.schema()
    }

    /// Bytes that the copies will take, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let bytes = self.shards.iter().flatten().map(|cut| {
            let pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
            let index = cut.index.query_row(pages, [], |row| row.get::<_, i64>(0)).unwrap_or(0);
            let frames: usize = cut.frames.iter().map(|frame| frame.bytes().len()).sum();
            index.cast_unsigned() + frames as u64
        });
        bytes.sum()
    }

    /// Copies a shard to the file `to`, which must not hold anything, and lets go of its snapshot.
    /// The copy has no journal and counts as left in good order: what ran in it did not crash.
    /// `on_bytes` is told how many of the index's bytes are copied.
    ///
    /// Panics when a shard is copied twice.
    ///
    /// # Errors
    /// Those of writing the file; [`Error::Damaged`] when frames do not fit the index.
    pub fn copy(&mut self, shard: u16, to: &Path, on_bytes: &mut dyn FnMut(u64)) -> Result<()> {
        let cut = self.shards[usize::from(shard)].take().expect("a shard is copied once");
        cut.copy_index(to, on_bytes)?;
        take_over(to, &cut.frames)?;
        let db = schema::open_writer(to)?;
        let of_sqlite = |source| Error::of_sqlite(to, source);
        schema::forget_journal(&db).map_err(of_sqlite)?;
        schema::set_clean(&db, true).map_err(of_sqlite)?;
        // Closing moves the log into the file and takes it away.
        db.close().map_err(|(_, source)| of_sqlite(source))
    }
}

impl ShardCut {
    fn take(path: PathBuf) -> Result<std::result::Result<ShardCut, Again>> {
        let at = journal_path(&path);
        // In this order: see the head of this file.
        let seen = Seen::read(&at)?;
        if !path.exists() {
            return Err(damaged(&path, "the file is missing"));
        }
        let index = schema::open_reader(&path)?;
        let of_sqlite = |source| Error::of_sqlite(&path, source);
        index.execute_batch("BEGIN").map_err(of_sqlite)?;
        let applied = schema::applied(&index).map_err(of_sqlite)?;
        let Some(identity) = schema::journal(&index).map_err(of_sqlite)? else {
            // Nothing was ever committed since it was made, or restored.
            return Ok(Ok(ShardCut { path, index, frames: Vec::new() }));
        };
        let overtaken = |why| Ok(Err(Again::Overtaken(damaged(&at, why))));
        let Some(seen) = seen else { return overtaken("the file is missing") };
        if seen.identity != identity {
            return overtaken("it is the journal of another store");
        }
        let (places, missing) = seen.after(applied);
        if missing.is_some() {
            return overtaken("a part of it is missing");
        }
        let frames = places.iter().filter_map(|place| seen.frame(*place)).map(Arc::new).collect();
        Ok(Ok(ShardCut { path, index, frames }))
    }

    /// Copies the snapshot, by the online backup of SQLite.
    fn copy_index(&self, to: &Path, on_bytes: &mut dyn FnMut(u64)) -> Result<()> {
        let of_sqlite = |source| Error::of_sqlite(to, source);
        let mut copy = Connection::open(to).map_err(of_sqlite)?;
        // A copy that is broken off is thrown away, so nothing needs to be kept in order meanwhile.
        copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            .map_err(of_sqlite)?;
        let page_bytes: i64 = self
            .index
            .query_row("PRAGMA page_size", [], |row| row.get(0))
            .map_err(|source| Error::of_sqlite(&self.path, source))?;
        // Nobody else has the copy, so this file's end, which ends locks on it, ends nothing.
        let file = File::open(to).map_err(|error| Error::of_io(to, error))?;
        let backup = Backup::new(&self.index, &mut copy).map_err(of_sqlite)?;
        loop {
            let step = backup.step(STEP_PAGES).map_err(of_sqlite)?;
            // A node's syncs wait for what others have yet to write (as ext4 orders it): let that
            // be little at any time.
            file.sync_data().map_err(|error| Error::of_io(to, error))?;
            let progress = backup.progress();
            let pages = i64::from(progress.pagecount - progress.remaining);
            on_bytes((pages * page_bytes).cast_unsigned());
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                // Somebody else has a lock on the copy, or a moment's lock on the index.
                _ => std::thread::sleep(PAUSE),
            }
        }
        drop(backup);
        copy.close().map_err(|(_, source)| of_sqlite(source))
    }
}

/// Has the copy take over what was behind its index, by the same path as ever.
fn take_over(copy: &Path, frames: &[Arc<Frame>]) -> Result<()> {
    if frames.is_empty() {
        return Ok(());
    }
    let db = schema::open_writer(copy)?;
    let gauge = LogGauge::new(&Shared::new(1), 0);
    let mut index = Index::new(db, copy.to_owned(), 0, gauge)?;
    frames.chunks(GROUP_FRAMES).try_for_each(|group| index.apply(group)).map_err(|error| {
        let path = copy.to_owned();
        match error {
            CommitError::Full => Error::Full { path },
            CommitError::Failed(why) => Error::Damaged { path, why },
        }
    })
}

/// What tells one marker of the folder from the next, even with the same words in it.
fn stamp(dir: &Path) -> Result<Option<(u64, i64, i64)>> {
    let path = dir.join(MARKER);
    match std::fs::metadata(&path) {
        Ok(meta) => Ok(Some((meta.ino(), meta.ctime(), meta.ctime_nsec()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::of_io(&path, error)),
    }
}
