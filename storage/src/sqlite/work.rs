//! What a group of frames comes to, and how it is written: of each task, key and agent only the
//! last state, in the order of their names; of a history all of it.

use crate::error::Malformed;
use crate::journal::Frame;
use crate::journal::entry::{Entries, Entry, Stretch};
use crate::rows::{
    AGENT_COLUMNS, Cell, HISTORY_FIRST, KEY_COLUMNS, TASK_COLUMNS, TASK_FIXED, Unpack, pack,
};
use crate::sqlite::cell::execute;
use crate::sqlite::index::{Fault, Sql};
use rusqlite::{Connection, Statement};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Events that one row of `events` holds, at most: what a read of one event parses.
const ROW_EVENTS_MAX: u32 = 64;
/// Bytes of text after which a row takes no further stretch.
const ROW_TEXT_BYTES_MAX: usize = 16 << 10;

/// What a group of frames comes to: of each thing only its last state.
#[derive(Default)]
pub(crate) struct Work<'a> {
    tasks: Vec<Image<'a>>,
    stretches: Vec<Stretch<'a>>,
    payloads: BTreeMap<&'a [u8], &'a [u8]>,
    tasks_gone: Vec<[u8; 16]>,
    /// By the packed name: the row's cells, or nothing when the key went.
    keys: BTreeMap<Vec<u8>, Option<&'a [u8]>>,
    agents: BTreeMap<&'a [u8], Option<&'a [u8]>>,
}

/// Tasks that a transaction wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// That came with it.
    pub(crate) new: usize,
    /// That had a row before.
    pub(crate) known: usize,
}

struct Image<'a> {
    id: [u8; 16],
    is_new: bool,
    cells: &'a [u8],
}

impl<'a> Work<'a> {
    /// Adds the entries of one more frame.
    pub(crate) fn take(&mut self, frame: &'a Frame) -> Result<(), Malformed> {
        for entry in Entries::new(frame.entries()) {
            match entry? {
                Entry::Task { id, is_new, cells } => self.tasks.push(Image { id, is_new, cells }),
                Entry::History(stretch) => self.stretches.push(stretch),
                Entry::Payload { hash, bytes } => {
                    self.payloads.insert(hash, bytes);
                }
                Entry::Key { cells } => {
                    let name = packed_name::<2>(cells)?;
                    self.keys.insert(name, Some(cells));
                }
                Entry::KeyGone { cells } => {
                    self.keys.insert(packed_name::<2>(cells)?, None);
                }
                Entry::TaskGone { id } => self.tasks_gone.push(id),
                Entry::Agent { cells } => {
                    let Some(Cell::Text(Cow::Borrowed(name))) = Unpack::new(cells).cell() else {
                        return Err(MALFORMED);
                    };
                    self.agents.insert(name, Some(cells));
                }
                Entry::AgentGone { name } => {
                    self.agents.insert(name, None);
                }
            }
        }
        Ok(())
    }

    /// Writes it all, and says which tasks it was. What is removed is not written first.
    pub(crate) fn write(mut self, db: &Connection, sql: &Sql) -> Result<Written, Fault> {
        self.tasks_gone.sort_unstable();
        let gone = std::mem::take(&mut self.tasks_gone);
        if !gone.is_empty() {
            self.tasks.retain(|image| gone.binary_search(&image.id).is_err());
            self.stretches.retain(|stretch| gone.binary_search(&stretch.id).is_err());
        }
        let written = self.write_tasks(db, sql)?;
        for id in &gone {
            remove_task(db, id)?;
        }
        self.write_keys(db, sql)?;
        self.write_agents(db, sql)?;
        Ok(written)
    }

    /// The last image of each task with the events that came, in the order of ids.
    fn write_tasks(&mut self, db: &Connection, sql: &Sql) -> Result<Written, Fault> {
        // Stable: of one task's images the last stays last.
        self.tasks.sort_by_key(|image| image.id);
        self.stretches.sort_unstable_by_key(|stretch| (stretch.id, stretch.first));
        let mut insert = db.prepare_cached(&sql.insert_task)?;
        let mut update = db.prepare_cached(&sql.update_task)?;
        let mut stretches = &self.stretches[..];
        let (mut text, mut written) = (Vec::new(), Written::default());
        for same in self.tasks.chunk_by(|a, b| a.id == b.id) {
            let last = &same[same.len() - 1];
            let own = stretches.iter().take_while(|stretch| stretch.id == last.id).count();
            let (mut events, rest) = stretches.split_at(own);
            stretches = rest;
            check_order(same, events)?;
            for stretch in events {
                self.add_payloads(db, stretch)?;
            }
            if same.iter().any(|image| image.is_new) {
                written.new += 1;
                let (head, more) = head_of(events);
                events = more;
                join(head, &mut text);
                let named = named_by(head);
                bind_packed(&mut insert, last.cells, 0)?;
                bind_row(&mut insert, TASK_COLUMNS.len() + 1, &text, &named)?;
                insert.raw_execute()?;
            } else {
                written.known += 1;
                bind_packed(&mut update, last.cells, TASK_FIXED)?;
                update.raw_bind_parameter(TASK_COLUMNS.len() - TASK_FIXED + 1, &last.id[..])?;
                if update.raw_execute()? != 1 {
                    return Err(missing(last.id));
                }
            }
            write_events(db, events, &mut text)?;
        }
        // Each fact comes with an image of its task.
        if stretches.is_empty() { Ok(written) } else { Err(Fault::Row(MALFORMED)) }
    }

    /// Stores the large payloads that a stretch names, or counts one more event that does.
    fn add_payloads(&self, db: &Connection, stretch: &Stretch<'_>) -> Result<(), Fault> {
        for hash in stretch.named.chunks_exact(32) {
            let known = "UPDATE blobs SET refs = refs + 1 WHERE hash = ?1";
            if db.prepare_cached(known)?.execute([hash])? == 1 {
                continue;
            }
            let Some(bytes) = self.payloads.get(hash) else { return Err(Fault::PayloadMissing) };
            let new = "INSERT INTO blobs (hash, bytes, refs) VALUES (?1, ?2, 1)";
            db.prepare_cached(new)?.execute((hash, bytes))?;
        }
        Ok(())
    }

    fn write_keys(&self, db: &Connection, sql: &Sql) -> Result<(), Fault> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let gone = "DELETE FROM keys WHERE partition = ?1 AND hash = ?2";
        let (mut gone, mut put) = (db.prepare_cached(gone)?, db.prepare_cached(&sql.put_key)?);
        for (name, cells) in &self.keys {
            match cells {
                Some(cells) => {
                    execute(&mut put, &unpacked::<{ KEY_COLUMNS.len() }>(cells)?)?;
                }
                None => {
                    execute(&mut gone, &unpacked::<2>(name)?)?;
                }
            }
        }
        Ok(())
    }

    fn write_agents(&self, db: &Connection, sql: &Sql) -> Result<(), Fault> {
        for (name, cells) in &self.agents {
            match cells {
                Some(cells) => {
                    let mut put = db.prepare_cached(&sql.put_agent)?;
                    execute(&mut put, &unpacked::<{ AGENT_COLUMNS.len() }>(cells)?)?;
                }
                None => {
                    let mut gone = db.prepare_cached("DELETE FROM agents WHERE name = ?1")?;
                    execute(&mut gone, [&Cell::Text(Cow::Borrowed(*name))])?;
                }
            }
        }
        Ok(())
    }
}

/// A task comes once, and its events follow each other: all else would be lost in one row.
fn check_order(images: &[Image<'_>], events: &[Stretch<'_>]) -> Result<(), Malformed> {
    let comes = images.iter().filter(|image| image.is_new).count();
    let follow = events.windows(2).all(|two| two[0].first + two[0].events == two[1].first);
    if comes <= 1 && follow { Ok(()) } else { Err(MALFORMED) }
}

const MALFORMED: Malformed = Malformed { table: "journal", column: "entry" };

fn unpacked<const N: usize>(cells: &[u8]) -> Result<[Cell<'_>; N], Malformed> {
    Unpack::new(cells).cells().ok_or(MALFORMED)
}

/// The first `N` cells as they are packed: the name of a row.
fn packed_name<const N: usize>(cells: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut unpack = Unpack::new(cells);
    let mut name = Vec::with_capacity(24);
    for _ in 0..N {
        pack(&mut name, &unpack.cell().ok_or(MALFORMED)?);
    }
    Ok(name)
}

fn missing(id: [u8; 16]) -> Fault {
    no_engine::id::TaskId::from_bytes(id).map_or(Fault::Row(MALFORMED), Fault::TaskMissing)
}

/// The stretches that go into a new task's own row, and the others.
fn head_of<'s, 'a>(events: &'s [Stretch<'a>]) -> (&'s [Stretch<'a>], &'s [Stretch<'a>]) {
    let is_first = events.first().is_some_and(|first| first.first == HISTORY_FIRST);
    events.split_at(if is_first { row_len(events) } else { 0 })
}

/// How many of the first stretches one row takes: at least one.
fn row_len(events: &[Stretch<'_>]) -> usize {
    let (mut count, mut bytes) = (0, 0);
    let fits = |stretch: &&Stretch<'_>| {
        count += stretch.events;
        bytes += stretch.text.len();
        count <= ROW_EVENTS_MAX && bytes <= ROW_TEXT_BYTES_MAX
    };
    events.iter().take_while(fits).count().max(1).min(events.len())
}

/// The JSON array of the stretches' events.
fn join(stretches: &[Stretch<'_>], text: &mut Vec<u8>) {
    text.clear();
    text.push(b'[');
    for (i, stretch) in stretches.iter().enumerate() {
        if 0 < i {
            text.push(b',');
        }
        text.extend_from_slice(stretch.text);
    }
    text.push(b']');
}

fn named_by<'a>(stretches: &[Stretch<'a>]) -> Cow<'a, [u8]> {
    match stretches {
        [one] => Cow::Borrowed(one.named),
        _ => stretches.iter().flat_map(|stretch| stretch.named).copied().collect(),
    }
}

/// Rows of `events`, several stretches in each.
fn write_events(
    db: &Connection,
    mut events: &[Stretch<'_>],
    text: &mut Vec<u8>,
) -> Result<(), Fault> {
    while !events.is_empty() {
        let (row, rest) = events.split_at(row_len(events));
        events = rest;
        join(row, text);
        let mut insert = db.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)")?;
        insert.raw_bind_parameter(1, &row[0].id[..])?;
        insert.raw_bind_parameter(2, row[0].first)?;
        bind_row(&mut insert, 3, text, &named_by(row))?;
        insert.raw_execute()?;
    }
    Ok(())
}

/// Binds a task's packed cells behind the first `skipped` ones.
fn bind_packed(statement: &mut Statement<'_>, cells: &[u8], skipped: usize) -> Result<(), Fault> {
    let mut unpack = Unpack::new(cells);
    for i in 0..TASK_COLUMNS.len() {
        let cell = unpack.cell().ok_or(MALFORMED)?;
        if skipped <= i {
            statement.raw_bind_parameter(i - skipped + 1, &cell)?;
        }
    }
    Ok(())
}

fn bind(statement: &mut Statement<'_>, cells: &[Cell<'_>], first: usize) -> rusqlite::Result<()> {
    for (i, cell) in (first..).zip(cells) {
        statement.raw_bind_parameter(i, cell)?;
    }
    Ok(())
}

/// Binds a stretch of history: its text, and the payloads that it names if there are any.
fn bind_row(
    statement: &mut Statement<'_>,
    first: usize,
    text: &[u8],
    named: &[u8],
) -> rusqlite::Result<()> {
    let named = if named.is_empty() { Cell::Null } else { Cell::Bytes(Cow::Borrowed(named)) };
    bind(statement, &[Cell::Text(Cow::Borrowed(text)), named], first)
}

/// Removes a task's row, its history, and what that alone named.
pub(crate) fn remove_task(db: &Connection, id: &[u8]) -> rusqlite::Result<()> {
    remove_history(db, id, u32::MAX)?;
    let named = "SELECT named FROM tasks WHERE id = ?1 AND named IS NOT NULL";
    remove_named(db, named, (id,))?;
    db.prepare_cached("DELETE FROM tasks WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Removes the rows of a task's later history that begin up to number `through`, and what they
/// alone named.
pub(crate) fn remove_history(db: &Connection, id: &[u8], through: u32) -> rusqlite::Result<()> {
    let named = "SELECT named FROM events WHERE task = ?1 AND n <= ?2 AND named IS NOT NULL";
    remove_named(db, named, (id, through))?;
    let events = "DELETE FROM events WHERE task = ?1 AND n <= ?2";
    db.prepare_cached(events)?.execute((id, through))?;
    Ok(())
}

/// Counts one event less for each payload that the selected rows name.
fn remove_named(
    db: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<()> {
    let mut named = db.prepare_cached(sql)?;
    let hashes = named.query_map(parameters, |row| row.get::<_, Vec<u8>>(0))?;
    for hashes in hashes.collect::<rusqlite::Result<Vec<_>>>()? {
        for hash in hashes.chunks_exact(32) {
            let less = "UPDATE blobs SET refs = refs - 1 WHERE hash = ?1";
            db.prepare_cached(less)?.execute([hash])?;
            let last = "DELETE FROM blobs WHERE hash = ?1 AND refs <= 0";
            db.prepare_cached(last)?.execute([hash])?;
        }
    }
    Ok(())
}
