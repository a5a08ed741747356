//! What a batch writes, as bytes: the entries of a frame, in the order in which they happened.
//!
//! ```text
//! kind 1, length 4 (little endian), content:
//!   1 a new task, 2 a changed task    its row's cells, packed
//!   3 history    task 16, first event's number 4, events 4, payloads 2, their hashes 32 each,
//!                the events as text (`rows/event.rs`), commas between
//!   4 payload    hash 32, bytes
//!   5 key        its row's cells, packed      6 key gone    its name's cells, packed
//!   7 task gone  id 16
//!   8 agent      its row's cells, packed      9 agent gone  its name
//!  10 feedback   its row's cells, packed
//! ```

use super::frame::Draft;
use crate::error::Malformed;
use crate::rows::{self, Cell, agent_cells, feedback_cells, key_cells, key_name, pack, task_cells};
use no_engine::event::{Batch, Record};
use no_engine::id::TaskId;
use no_engine::payload::{Hash, Payload};

/// One entry, borrowed from its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry<'a> {
    Task { id: [u8; 16], is_new: bool, cells: &'a [u8] },
    History(Stretch<'a>),
    Payload { hash: &'a [u8], bytes: &'a [u8] },
    Key { cells: &'a [u8] },
    KeyGone { cells: &'a [u8] },
    TaskGone { id: [u8; 16] },
    Agent { cells: &'a [u8] },
    AgentGone { name: &'a [u8] },
    Feedback { cells: &'a [u8] },
}

/// Events of one task that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch<'a> {
    pub(crate) id: [u8; 16],
    /// The number of the first.
    pub(crate) first: u32,
    pub(crate) events: u32,
    /// Hashes of 32 bytes, one for each event that names a large payload.
    pub(crate) named: &'a [u8],
    /// Elements of a JSON array, with commas between them.
    pub(crate) text: &'a [u8],
}

const TASK_NEW: u8 = 1;
const TASK_CHANGED: u8 = 2;
const HISTORY: u8 = 3;
const PAYLOAD: u8 = 4;
const KEY: u8 = 5;
const KEY_GONE: u8 = 6;
const TASK_GONE: u8 = 7;
const AGENT: u8 = 8;
const AGENT_GONE: u8 = 9;
const FEEDBACK: u8 = 10;

/// Events of one entry of a history, at most: a row is made of whole ones.
const STRETCH_EVENTS_MAX: usize = 32;

/// The head of an entry: its kind and the length of its content.
const HEAD_BYTES: usize = 5;

/// Appends all that `batch` writes.
pub(crate) fn write_batch(draft: &mut Draft, batch: &Batch) -> Result<(), Malformed> {
    let out = draft.entries_mut();
    for image in &batch.tasks {
        let kind = if image.is_new { TASK_NEW } else { TASK_CHANGED };
        let cells = task_cells(&image.task)?;
        entry(out, kind, |out| cells.iter().for_each(|cell| pack(out, cell)));
    }
    write_records(out, &batch.records)?;
    for (partition, hash) in &batch.keys_gone {
        let cells = key_name(*partition, *hash);
        entry(out, KEY_GONE, |out| cells.iter().for_each(|cell| pack(out, cell)));
    }
    for key in &batch.keys {
        let cells = key_cells(key);
        entry(out, KEY, |out| cells.iter().for_each(|cell| pack(out, cell)));
    }
    for id in &batch.tasks_gone {
        entry(out, TASK_GONE, |out| out.extend_from_slice(&id.to_bytes()));
    }
    for name in &batch.agents_gone {
        entry(out, AGENT_GONE, |out| out.extend_from_slice(name.as_bytes()));
    }
    for agent in &batch.agents {
        let cells = agent_cells(agent)?;
        entry(out, AGENT, |out| cells.iter().for_each(|cell| pack(out, cell)));
    }
    for row in &batch.feedback {
        let cells = feedback_cells(row);
        entry(out, FEEDBACK, |out| cells.iter().for_each(|cell| pack(out, cell)));
    }
    Ok(())
}

/// A history entry for each run of one task's records, large payloads before it.
fn write_records(out: &mut Vec<u8>, records: &[Record]) -> Result<(), Malformed> {
    let runs = records.chunk_by(|a, b| a.task == b.task);
    for run in runs.flat_map(|run| run.chunks(STRETCH_EVENTS_MAX)) {
        let mut named = Vec::new();
        for record in run {
            let Some(Payload::Blob(blob)) = record.event.payload() else { continue };
            named.extend_from_slice(&blob.hash.0);
            if let Some(bytes) = &blob.bytes {
                entry(out, PAYLOAD, |out| {
                    out.extend_from_slice(&blob.hash.0);
                    out.extend_from_slice(bytes);
                });
            }
        }
        let payloads = (named.len() / 32) as u16;
        let mut written = Ok(());
        entry(out, HISTORY, |out| {
            out.extend_from_slice(&run[0].task.to_bytes());
            out.extend_from_slice(&run[0].n.to_le_bytes());
            out.extend_from_slice(&(run.len() as u32).to_le_bytes());
            out.extend_from_slice(&payloads.to_le_bytes());
            out.extend_from_slice(&named);
            for (i, record) in run.iter().enumerate() {
                if 0 < i {
                    out.push(b',');
                }
                written = written.and_then(|()| rows::write_event(out, record));
            }
        });
        written?;
    }
    Ok(())
}

/// Appends an entry whose content `content` appends.
fn entry(out: &mut Vec<u8>, kind: u8, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[kind, 0, 0, 0, 0]);
    content(out);
    let len = u32::try_from(out.len() - start - HEAD_BYTES).expect("bounded by limits");
    out[start + 1..start + HEAD_BYTES].copy_from_slice(&len.to_le_bytes());
}

/// The payloads that `batch` names without bringing their bytes, with whose they are.
pub(crate) fn named_only(batch: &Batch) -> impl Iterator<Item = (TaskId, Hash)> {
    batch.records.iter().filter_map(|record| match record.event.payload() {
        Some(Payload::Blob(blob)) if blob.bytes.is_none() => Some((record.task, blob.hash)),
        _ => None,
    })
}

/// The payloads whose bytes `batch` brings.
pub(crate) fn brought(batch: &Batch) -> impl Iterator<Item = Hash> {
    batch.records.iter().filter_map(|record| match record.event.payload() {
        Some(Payload::Blob(blob)) if blob.bytes.is_some() => Some(blob.hash),
        _ => None,
    })
}

/// Goes through the entries of a frame.
pub(crate) struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    pub(crate) fn new(entries: &'a [u8]) -> Entries<'a> {
        Entries(entries)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = split(self.0);
        let Some((kind, content, rest)) = split else {
            self.0 = &[];
            return Some(Err(MALFORMED));
        };
        self.0 = rest;
        Some(read(kind, content).ok_or(MALFORMED))
    }
}

const MALFORMED: Malformed = Malformed { table: "journal", column: "entry" };

fn split(entries: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = entries.split_at_checked(HEAD_BYTES)?;
    let len = u32::from_le_bytes(head[1..].try_into().ok()?);
    let (content, rest) = rest.split_at_checked(len as usize)?;
    Some((head[0], content, rest))
}

fn read(kind: u8, content: &[u8]) -> Option<Entry<'_>> {
    match kind {
        TASK_NEW | TASK_CHANGED => {
            // The id is the row's first cell.
            let cell = rows::Unpack::new(content).cell()?;
            let Cell::Bytes(id) = cell else { return None };
            let id = id[..].try_into().ok()?;
            Some(Entry::Task { id, is_new: kind == TASK_NEW, cells: content })
        }
        HISTORY => {
            let (id, rest) = content.split_at_checked(16)?;
            let (first, rest) = rest.split_at_checked(4)?;
            let (events, rest) = rest.split_at_checked(4)?;
            let (payloads, rest) = rest.split_at_checked(2)?;
            let payloads = u16::from_le_bytes(payloads.try_into().ok()?);
            let (named, text) = rest.split_at_checked(32 * usize::from(payloads))?;
            Some(Entry::History(Stretch {
                id: id.try_into().ok()?,
                first: u32::from_le_bytes(first.try_into().ok()?),
                events: u32::from_le_bytes(events.try_into().ok()?),
                named,
                text,
            }))
        }
        PAYLOAD => {
            let (hash, bytes) = content.split_at_checked(32)?;
            Some(Entry::Payload { hash, bytes })
        }
        KEY => Some(Entry::Key { cells: content }),
        KEY_GONE => Some(Entry::KeyGone { cells: content }),
        TASK_GONE => Some(Entry::TaskGone { id: content.try_into().ok()? }),
        AGENT => Some(Entry::Agent { cells: content }),
        AGENT_GONE => Some(Entry::AgentGone { name: content }),
        FEEDBACK => Some(Entry::Feedback { cells: content }),
        _ => None,
    }
}
