//! Looking at a shard's journal without its node, or beside it: what is in its file, how far the
//! index is, and whether anything between them is missing. Nothing is written.

use crate::error::{Error, Result};
use crate::journal::entry::{Entries, Entry};
use crate::journal::file::damaged;
use crate::journal::seen::{Place, Seen};
use crate::sqlite::folder::Marker;
use crate::sqlite::schema::{self, SCHEMA, journal_path, shard_path};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Looks until a gap counts as damage: the second sees what the writer wrote behind the first.
const LOOKS: u32 = 3;

/// What a shard's journal holds.
#[derive(Clone, Debug)]
pub struct JournalSeen {
    /// Its file.
    pub path: PathBuf,
    /// What the file takes, in bytes; 0 when it is not there.
    pub file_bytes: u64,
    /// The most that it may take.
    pub bytes_max: u64,
    /// The mark: the last frame that the index has.
    pub applied: u64,
    /// The last whole frame; the mark, when all are older.
    pub last: u64,
    /// Whole frames, in the order of their numbers; those up to the mark are only leftovers.
    pub frames: Vec<FrameSeen>,
    /// Where a newest frame begins that is not whole: it is being written, or a crash came, and
    /// nobody was told that it is durable.
    pub torn_at: Option<u64>,
    /// Whether the last stop was clean, and the node is not running.
    pub is_clean: bool,
    /// What is wrong and where.
    pub damage: Option<String>,
}

/// One whole frame.
#[derive(Clone, Debug)]
pub struct FrameSeen {
    /// Its number.
    pub number: u64,
    /// Where it begins in the file, in bytes.
    pub at: u64,
    /// Its length in the file, in bytes.
    pub bytes: u64,
    /// Its entries by kind. Only of frames behind the mark.
    pub entries: BTreeMap<&'static str, u64>,
}

/// Looks at the journals of the store in `dir`, one for each shard.
///
/// # Errors
/// [`Error::NoStore`], [`Error::Older`], [`Error::Unsettled`]; those of reading an index. What is
/// wrong with a journal's file is in its [`JournalSeen::damage`].
pub fn inspect(dir: &Path) -> Result<Vec<JournalSeen>> {
    let marker = Marker::read(dir)?.ok_or_else(|| Error::NoStore { dir: dir.to_owned() })?;
    if marker.schema() < SCHEMA {
        return Err(Error::Older { dir: dir.to_owned(), found: marker.schema() });
    }
    if marker.moving_from.is_some() {
        return Err(Error::Unsettled { dir: dir.to_owned() });
    }
    (0..marker.shards).map(|shard| look(&shard_path(dir, shard))).collect()
}

fn look(index: &Path) -> Result<JournalSeen> {
    let mut seen = look_once(index)?;
    for _ in 1..LOOKS {
        if seen.damage.is_none() {
            break;
        }
        seen = look_once(index)?;
    }
    Ok(seen)
}

fn look_once(path: &Path) -> Result<JournalSeen> {
    let at = journal_path(path);
    // The file first: what it then lacks the index has (`journal/seen.rs`).
    let read = Seen::read(&at);
    if !path.exists() {
        return Err(damaged(path, "the file is missing"));
    }
    let db = schema::open_reader(path)?;
    let of_sqlite = |source| Error::of_sqlite(path, source);
    db.execute_batch("BEGIN").map_err(of_sqlite)?;
    let applied = schema::applied(&db).map_err(of_sqlite)?;
    let identity = schema::journal(&db).map_err(of_sqlite)?;
    let mut seen = JournalSeen {
        path: at,
        file_bytes: 0,
        bytes_max: 0,
        applied,
        last: applied,
        frames: Vec::new(),
        torn_at: None,
        is_clean: schema::is_clean(&db).map_err(of_sqlite)?,
        damage: None,
    };
    match read {
        // A store that no node has had since it was restored has none.
        Ok(None) if identity.is_none() => {}
        Ok(None) => seen.damage = Some("the file is missing".to_owned()),
        Ok(Some(file)) => {
            describe(&mut seen, &file);
            if identity.is_some_and(|identity| identity != file.identity) {
                seen.damage = Some("it is the journal of another store".to_owned());
            }
        }
        Err(Error::Damaged { why, .. }) => seen.damage = Some(why),
        Err(error) => return Err(error),
    }
    Ok(seen)
}

fn describe(seen: &mut JournalSeen, file: &Seen) {
    let header = u64::try_from(crate::journal::frame::BLOCK_BYTES).unwrap_or(0);
    seen.file_bytes = header + file.circle.len() as u64;
    seen.bytes_max = header + file.bytes_max;
    let (waiting, missing) = file.after(seen.applied);
    seen.last = waiting.last().map_or(seen.applied, |place| place.number);
    let at = |place: &Place| header + place.start as u64;
    let newest = seen.last + 1;
    let torn = file.broken.iter().find(|place| place.number == newest);
    match (missing, torn) {
        (Some(number), Some(place)) => {
            seen.damage = Some(format!("frame {number} at byte {} is broken", at(place)));
        }
        (Some(number), None) => seen.damage = Some(format!("frame {number} is missing")),
        (None, torn) => seen.torn_at = torn.map(at),
    }
    for place in &file.frames {
        let mut entries = BTreeMap::new();
        if seen.applied < place.number
            && let Some(frame) = file.frame(*place)
        {
            for entry in Entries::new(frame.entries()) {
                let Ok(entry) = entry else {
                    let why = format!("frame {} at byte {} has no sense", place.number, at(place));
                    seen.damage.get_or_insert(why);
                    break;
                };
                *entries.entry(kind(&entry)).or_default() += 1;
            }
        }
        let bytes = place.bytes as u64;
        seen.frames.push(FrameSeen { number: place.number, at: at(place), bytes, entries });
    }
}

fn kind(entry: &Entry<'_>) -> &'static str {
    match entry {
        Entry::Task { is_new: true, .. } => "task_new",
        Entry::Task { is_new: false, .. } => "task_changed",
        Entry::History(_) => "history",
        Entry::Payload { .. } => "payload",
        Entry::Key { .. } => "key",
        Entry::KeyGone { .. } => "key_gone",
        Entry::TaskGone { .. } => "task_gone",
        Entry::Agent { .. } => "agent",
        Entry::AgentGone { .. } => "agent_gone",
        Entry::Feedback { .. } => "feedback",
    }
}
