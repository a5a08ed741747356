//! What a start does with the journals: the indexes take over what the last run left in them, by
//! the same path as ever, and each index gets the journal's file that belongs to it.
//!
//! The file is tied to its index by an identity that both know. An index that was not left in good
//! order needs its journal: a missing or foreign one is damage and not an empty one.

use crate::error::{Error, Result};
use crate::journal::{Frame, JournalFile};
use crate::sqlite::checkpoint::{LogGauge, Shared};
use crate::sqlite::folder::{Marker, sync_folder};
use crate::sqlite::index::Index;
use crate::sqlite::schema::{self, journal_path, shard_path};
use no_engine::port::CommitError;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;

/// Frames that one transaction takes over.
const GROUP_FRAMES: usize = 64;

/// Has every index of the folder take over what its journal still holds.
pub(crate) fn settle(dir: &Path, marker: &Marker) -> Result<()> {
    // A file that a move is about to fill has no journal yet, and may be half made.
    let shards = marker.moving_from.unwrap_or(marker.shards);
    (0..shards).map(|shard| shard_path(dir, shard)).try_for_each(|path| {
        let db = schema::open_writer(&path)?;
        take_over(&path, db)
    })
}

fn take_over(path: &Path, db: Connection) -> Result<()> {
    let of_sqlite = |source| Error::of_sqlite(path, source);
    let Some(identity) = schema::journal(&db).map_err(of_sqlite)? else { return Ok(()) };
    if schema::is_clean(&db).map_err(of_sqlite)? {
        return Ok(());
    }
    let at = journal_path(path);
    let damaged = |why: &str| Error::Damaged { path: at.clone(), why: why.to_owned() };
    let file = JournalFile::open(&at)?.ok_or_else(|| damaged("the file is missing"))?;
    if file.identity() != identity {
        return Err(damaged("it is the journal of another store"));
    }
    let applied = schema::applied(&db).map_err(of_sqlite)?;
    let frames: Vec<Arc<Frame>> =
        file.frames_after(&at, applied)?.into_iter().map(Arc::new).collect();
    if frames.is_empty() {
        return Ok(());
    }
    tracing::info!(target: "journal", path = %at.display(), frames = frames.len(), "taking over");
    let mut index = Index::new(db, path.to_owned(), 0, LogGauge::new(&Shared::new(1), 0))?;
    frames.chunks(GROUP_FRAMES).try_for_each(|group| index.apply(group)).map_err(
        |error| match error {
            CommitError::Full => Error::Full { path: path.to_owned() },
            CommitError::Failed(why) => damaged(&why),
        },
    )
}

/// The journals' files of the indexes `paths`, each of at most `bytes`; a new one where there was
/// none, or one of another size. Nothing is in them that the indexes do not have.
pub(crate) fn journals(
    dir: &Path,
    paths: &[std::path::PathBuf],
    indexes: &[Connection],
    bytes: u64,
) -> Result<Vec<JournalFile>> {
    let files = paths.iter().zip(indexes).map(|(path, db)| journal(path, db, bytes));
    let files = files.collect::<Result<Vec<_>>>()?;
    sync_folder(dir)?;
    Ok(files)
}

fn journal(path: &Path, db: &Connection, bytes: u64) -> Result<JournalFile> {
    let of_sqlite = |source| Error::of_sqlite(path, source);
    let at = journal_path(path);
    let known = schema::journal(db).map_err(of_sqlite)?;
    if let Some(identity) = known
        && let Some(file) = JournalFile::open(&at)?
        && file.identity() == identity
        && file.bytes_max() == bytes
    {
        return Ok(file);
    }
    // In this order: a crash in between leaves an index that knows of no journal.
    schema::forget_journal(db).map_err(of_sqlite)?;
    let file = JournalFile::create(&at, bytes)?;
    schema::set_journal(db, file.identity()).map_err(of_sqlite)?;
    Ok(file)
}
