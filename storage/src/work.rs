//! What commits come to, whatever the database: of each task, key and agent only the last state, in
//! the order of their names; of a history all of it, joined to rows of several events.
//!
//! A store takes the entries of all commits of a transaction into a [`Work`], settles it, and
//! writes what is [`Settled`]. Nothing is copied: all is borrowed from the entries.

use crate::error::Malformed;
use crate::journal::entry::{Entries, Entry, Stretch};
use crate::rows::{Cell, HISTORY_FIRST, Unpack, pack};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Events that one row of `events` holds, at most: what a read of one event parses.
const ROW_EVENTS_MAX: u32 = 64;
/// Bytes of text after which a row takes no further stretch.
const ROW_TEXT_BYTES_MAX: usize = 16 << 10;

/// Entries that are being taken.
#[derive(Default)]
pub(crate) struct Work<'a>(Settled<'a>);

/// What is to be written. What is removed is not written first.
#[derive(Default)]
pub(crate) struct Settled<'a> {
    images: Vec<Image<'a>>,
    stretches: Vec<Stretch<'a>>,
    payloads: BTreeMap<&'a [u8], &'a [u8]>,
    /// Tasks that go, in order.
    pub(crate) tasks_gone: Vec<[u8; 16]>,
    /// By the packed name: the row's cells, or nothing when the key goes.
    pub(crate) keys: BTreeMap<Vec<u8>, Option<&'a [u8]>>,
    /// By the name: the row's cells, or nothing when the agent goes.
    pub(crate) agents: BTreeMap<&'a [u8], Option<&'a [u8]>>,
    /// By the packed task: the row's cells.
    pub(crate) feedback: BTreeMap<Vec<u8>, &'a [u8]>,
}

struct Image<'a> {
    id: [u8; 16],
    is_new: bool,
    cells: &'a [u8],
}

/// One task's last image, with the events that came.
pub(crate) struct Change<'s, 'a> {
    pub(crate) id: [u8; 16],
    /// Whether it came: a row to insert, not to update.
    pub(crate) is_new: bool,
    /// The row's cells, packed.
    pub(crate) cells: &'a [u8],
    /// In order, without gaps.
    pub(crate) events: &'s [Stretch<'a>],
}

/// What is wrong with entries that make no sense.
pub(crate) const MALFORMED: Malformed = Malformed { table: "journal", column: "entry" };

impl<'a> Work<'a> {
    /// Adds the entries of one more commit.
    pub(crate) fn take(&mut self, entries: &'a [u8]) -> Result<(), Malformed> {
        let Work(work) = self;
        for entry in Entries::new(entries) {
            match entry? {
                Entry::Task { id, is_new, cells } => work.images.push(Image { id, is_new, cells }),
                Entry::History(stretch) => work.stretches.push(stretch),
                Entry::Payload { hash, bytes } => {
                    work.payloads.insert(hash, bytes);
                }
                Entry::Key { cells } => {
                    let name = packed_name::<2>(cells)?;
                    work.keys.insert(name, Some(cells));
                }
                Entry::KeyGone { cells } => {
                    work.keys.insert(packed_name::<2>(cells)?, None);
                }
                Entry::TaskGone { id } => work.tasks_gone.push(id),
                Entry::Agent { cells } => {
                    let Some(Cell::Text(Cow::Borrowed(name))) = Unpack::new(cells).cell() else {
                        return Err(MALFORMED);
                    };
                    work.agents.insert(name, Some(cells));
                }
                Entry::AgentGone { name } => {
                    work.agents.insert(name, None);
                }
                Entry::Feedback { cells } => {
                    work.feedback.insert(packed_name::<1>(cells)?, cells);
                }
            }
        }
        Ok(())
    }

    /// Ends the taking: what goes is left out of what is written, and all is put in order.
    pub(crate) fn settle(self) -> Settled<'a> {
        let Work(mut work) = self;
        work.tasks_gone.sort_unstable();
        let gone = &work.tasks_gone;
        if !gone.is_empty() {
            work.images.retain(|image| gone.binary_search(&image.id).is_err());
            work.stretches.retain(|stretch| gone.binary_search(&stretch.id).is_err());
        }
        // Stable: of one task's images the last stays last.
        work.images.sort_by_key(|image| image.id);
        work.stretches.sort_unstable_by_key(|stretch| (stretch.id, stretch.first));
        work
    }
}

impl<'a> Settled<'a> {
    /// The changed tasks, in the order of their ids.
    pub(crate) fn changes(&self) -> Changes<'_, 'a> {
        Changes { images: &self.images, stretches: &self.stretches }
    }

    /// The bytes of a large payload that came with a commit.
    pub(crate) fn payload(&self, hash: &[u8]) -> Option<&'a [u8]> {
        self.payloads.get(hash).copied()
    }
}

/// Goes through the changed tasks. An error where events came without an image of their task, or
/// would be lost in one row.
pub(crate) struct Changes<'s, 'a> {
    images: &'s [Image<'a>],
    stretches: &'s [Stretch<'a>],
}

impl<'s, 'a> Iterator for Changes<'s, 'a> {
    type Item = Result<Change<'s, 'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(first) = self.images.first() else {
            let left_over = std::mem::take(&mut self.stretches);
            return if left_over.is_empty() { None } else { Some(Err(MALFORMED)) };
        };
        let id = first.id;
        let count = self.images.iter().take_while(|image| image.id == id).count();
        let (same, rest) = self.images.split_at(count);
        self.images = rest;
        let own = self.stretches.iter().take_while(|stretch| stretch.id == id).count();
        let (events, rest) = self.stretches.split_at(own);
        self.stretches = rest;
        if let Err(malformed) = check_order(same, events) {
            return Some(Err(malformed));
        }
        let is_new = same.iter().any(|image| image.is_new);
        Some(Ok(Change { id, is_new, cells: same[count - 1].cells, events }))
    }
}

impl<'s, 'a> Change<'s, 'a> {
    /// The stretches that go into a new task's own row, and the others.
    pub(crate) fn split(&self) -> (&'s [Stretch<'a>], &'s [Stretch<'a>]) {
        let is_first = self.events.first().is_some_and(|first| first.first == HISTORY_FIRST);
        let in_row = self.is_new && is_first;
        self.events.split_at(if in_row { row_len(self.events) } else { 0 })
    }
}

/// A task comes once, and its events follow each other: all else would be lost in one row.
fn check_order(images: &[Image<'_>], events: &[Stretch<'_>]) -> Result<(), Malformed> {
    let comes = images.iter().filter(|image| image.is_new).count();
    let follow = events.windows(2).all(|two| two[0].first + two[0].events == two[1].first);
    if comes <= 1 && follow { Ok(()) } else { Err(MALFORMED) }
}

/// The stretches of each row of `events`.
pub(crate) fn rows<'s, 'a>(
    mut events: &'s [Stretch<'a>],
) -> impl Iterator<Item = &'s [Stretch<'a>]> {
    std::iter::from_fn(move || {
        let (row, rest) = events.split_at(row_len(events));
        events = rest;
        (!row.is_empty()).then_some(row)
    })
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
pub(crate) fn join(stretches: &[Stretch<'_>], text: &mut Vec<u8>) {
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

/// The hashes of the large payloads that the stretches name, one after the other, if any.
pub(crate) fn named_by<'a>(stretches: &[Stretch<'a>]) -> Cell<'a> {
    let named = match stretches {
        [one] => Cow::Borrowed(one.named),
        _ => stretches.iter().flat_map(|stretch| stretch.named).copied().collect(),
    };
    if named.is_empty() { Cell::Null } else { Cell::Bytes(named) }
}

/// The `N` cells of a row.
pub(crate) fn unpacked<const N: usize>(cells: &[u8]) -> Result<[Cell<'_>; N], Malformed> {
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
