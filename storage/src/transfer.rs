//! Moving all that a store has into another of whatever kind: as values, the way a node writes
//! them, so that what is read again is what was there, whatever the tables look like.
//!
//! Tasks go newest first, a piece at a time, each with its whole history and its large payloads;
//! then keys, feedback and agents. Each piece is one commit. A task that is there already is left
//! alone, so a move that was broken off may begin again anywhere at or before where it was.
//!
//! Afterwards [`digest`] says of both whether they hold the same: it reads everything.

use crate::error::Malformed;
use crate::rows::{self, Cell, feedback_cells, key_cells, pack, task_cells};
use crate::writer::Finish;
use no_engine::control::placement;
use no_engine::event::{AgentRow, Batch, FeedbackRow, KeyRow, Record, TaskImage};
use no_engine::id::{PartitionId, Seq, ShardId, TaskId};
use no_engine::payload::{Payload, hash};
use no_engine::port::{Filter, Load, Reader};
use no_engine::task::Task;
use no_engine::time::Millis;
use std::sync::Arc;

/// Tasks of a piece.
const PIECE_TASKS: usize = 200;
/// Events of a piece: a longer history is cut.
const PIECE_EVENTS: usize = 2_000;
/// Keys or feedback of a piece.
const PIECE_ROWS: usize = 5_000;

/// One side: what reads a store that nobody writes meanwhile.
pub struct Side {
    /// Reads tasks and histories.
    pub reader: Box<dyn Reader>,
    /// Reads keys, feedback and agents, of some partitions each; agents from the first.
    pub loaders: Vec<(Vec<PartitionId>, Box<dyn Load>)>,
}

/// What writes the other side: a journal for each of its shards.
pub struct Writers {
    /// In the order of the shards.
    pub journals: Vec<Box<dyn Finish>>,
    /// Partitions of the store.
    pub partitions: u16,
    seq: u64,
}

/// How far a move is, and what a digest counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    /// Tasks.
    pub tasks: u64,
    /// Events.
    pub events: u64,
    /// Idempotency keys.
    pub keys: u64,
    /// Tasks of whose results something was said.
    pub feedback: u64,
    /// Agents.
    pub agents: u64,
    /// All tasks with this id or a greater one have been moved; `None` before the first.
    pub down_to: Option<TaskId>,
}

/// Why it did not go on, for whoever started it.
pub type Outcome<T> = Result<T, String>;

impl Writers {
    /// Journals that have written nothing yet.
    #[must_use]
    pub fn new(journals: Vec<Box<dyn Finish>>, partitions: u16) -> Writers {
        Writers { journals, partitions, seq: 0 }
    }

    fn shard(&self, partition: PartitionId) -> usize {
        usize::from(placement(partition, self.partitions, self.journals.len() as u16).0)
    }

    /// Commits to each shard what is its.
    fn commit(&mut self, batches: Vec<Batch>) -> Outcome<()> {
        for (shard, mut batch) in batches.into_iter().enumerate() {
            if batch.is_empty() && batch.tasks.is_empty() {
                continue;
            }
            self.seq += 1;
            batch.seq = Seq(self.seq);
            self.journals[shard].commit(&[batch]).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn empty(&self) -> Vec<Batch> {
        self.journals.iter().map(|_| Batch::default()).collect()
    }

    /// Leaves all journals in good order.
    ///
    /// # Errors
    /// What a journal said.
    pub fn finish(&mut self) -> Outcome<()> {
        let mut journals = self.journals.iter_mut();
        journals.try_for_each(|journal| journal.finish().map_err(|error| error.to_string()))
    }
}

/// Moves everything of `from`, tasks below `before` if that is given. `is_there` says up to which
/// event the other side has a task already; `on_piece` is told after each piece how far it is.
///
/// # Errors
/// What a store said; what was told before is moved.
pub fn copy(
    from: &mut Side,
    to: &mut Writers,
    before: Option<TaskId>,
    is_there: &mut dyn FnMut(TaskId) -> Outcome<Option<u32>>,
    on_piece: &mut dyn FnMut(&Moved) -> Outcome<()>,
) -> Outcome<Moved> {
    let mut moved = Moved::default();
    let (mut before, mut may_be_there) = (before, true);
    loop {
        let page = from.reader.list(&Filter::default(), before, PIECE_TASKS)?;
        for task in page.tasks {
            let id = task.id;
            // Only what the last piece of a broken-off move did can be there.
            let there = if may_be_there { is_there(id)? } else { None };
            moved.events += u64::from(task.events);
            copy_task(from, to, task, there)?;
            moved.tasks += 1;
            moved.down_to = Some(id);
        }
        may_be_there = false;
        on_piece(&moved)?;
        let Some(next) = page.next else { break };
        before = Some(next);
    }
    copy_rest(from, to, &mut moved)?;
    on_piece(&moved)?;
    Ok(moved)
}

/// A task with its history, in as many commits as that takes.
fn copy_task(from: &mut Side, to: &mut Writers, task: Task, there: Option<u32>) -> Outcome<()> {
    let (id, shard) = (task.id, to.shard(task.id.partition()));
    let (mut after, mut is_new) = (there.unwrap_or(0), there.is_none());
    while after < task.events {
        let mut records = from.reader.events(id, after, PIECE_EVENTS)?;
        let Some(last) = records.last().map(|record| record.n) else {
            return Err(format!("the history of task {id} ends at {after}"));
        };
        for record in &mut records {
            fetch(from, record)?;
        }
        let mut batches = to.empty();
        batches[shard].records = records;
        batches[shard].tasks.push(TaskImage { task: task.clone(), is_new });
        to.commit(batches)?;
        (after, is_new) = (last, false);
    }
    Ok(())
}

/// Puts the bytes of a large payload into the event that names it.
fn fetch(from: &mut Side, record: &mut Record) -> Outcome<()> {
    let Some(Payload::Blob(blob)) = record.event.payload() else { return Ok(()) };
    if blob.bytes.is_some() {
        return Ok(());
    }
    let bytes = sound_blob(from, record.task, blob.hash)?;
    let whole = Payload::blob(blob.hash, blob.bytes_len, Some(bytes));
    Arc::make_mut(&mut record.event).set_payload(whole);
    Ok(())
}

fn sound_blob(from: &mut Side, id: TaskId, of: no_engine::payload::Hash) -> Outcome<Arc<[u8]>> {
    let bytes = from.reader.blob(id, of)?;
    let bytes = bytes.ok_or_else(|| format!("the payload {of} of task {id} is missing"))?;
    if hash(&bytes) != of {
        return Err(format!("the payload {of} of task {id} does not fit its hash"));
    }
    Ok(bytes)
}

fn copy_rest(from: &mut Side, to: &mut Writers, moved: &mut Moved) -> Outcome<()> {
    let Rest { keys, feedback, agents } = rest(from)?;
    for piece in keys.chunks(PIECE_ROWS) {
        let mut batches = to.empty();
        for key in piece {
            batches[to.shard(key.partition)].keys.push(*key);
        }
        to.commit(batches)?;
        moved.keys += piece.len() as u64;
    }
    for piece in feedback.chunks(PIECE_ROWS) {
        let mut batches = to.empty();
        for row in piece {
            batches[to.shard(row.task.partition())].feedback.push(row.clone());
        }
        to.commit(batches)?;
        moved.feedback += piece.len() as u64;
    }
    let mut batches = to.empty();
    moved.agents += agents.len() as u64;
    batches[usize::from(ShardId(0).0)].agents = agents;
    to.commit(batches)
}

/// All but tasks, in an order that is the same for equal stores.
struct Rest {
    keys: Vec<KeyRow>,
    feedback: Vec<FeedbackRow>,
    agents: Vec<AgentRow>,
}

fn rest(of: &mut Side) -> Outcome<Rest> {
    let mut rest = Rest { keys: Vec::new(), feedback: Vec::new(), agents: Vec::new() };
    let text = |error: no_engine::Error| error.to_string();
    for (i, (partitions, load)) in of.loaders.iter_mut().enumerate() {
        load.keys(partitions, &mut |row| rest.keys.push(row)).map_err(text)?;
        let said = &mut |row| rest.feedback.push(row);
        load.feedback(partitions, Millis(0), said).map_err(text)?;
        if i == 0 {
            rest.agents = load.agents().map_err(text)?;
        }
    }
    rest.keys.sort_unstable_by_key(|row| (row.partition, row.hash));
    rest.feedback.sort_unstable_by_key(|row| row.task);
    Ok(rest)
}

/// What everything in a store comes to: counts, and a hash over all of it in a fixed order.
///
/// # Errors
/// What the store said; that a payload is missing or does not fit its hash.
pub fn digest(
    of: &mut Side,
    on_piece: &mut dyn FnMut(&Moved) -> Outcome<()>,
) -> Outcome<(Moved, [u8; 32])> {
    let (mut counted, mut hasher) = (Moved::default(), blake3::Hasher::new());
    let mut before = None;
    loop {
        let page = of.reader.list(&Filter::default(), before, PIECE_TASKS)?;
        for task in page.tasks {
            digest_task(of, &task, &mut hasher)?;
            counted.tasks += 1;
            counted.events += u64::from(task.events);
        }
        on_piece(&counted)?;
        let Some(next) = page.next else { break };
        before = Some(next);
    }
    let Rest { keys, feedback, agents } = rest(of)?;
    let mut add = |cells: &[Cell<'_>]| {
        let mut packed = Vec::new();
        cells.iter().for_each(|cell| pack(&mut packed, cell));
        hasher.update(&(packed.len() as u64).to_le_bytes()).update(&packed);
    };
    keys.iter().for_each(|key| add(&key_cells(key)));
    feedback.iter().for_each(|row| add(&feedback_cells(row)));
    for agent in &agents {
        add(&rows::agent_cells(agent).map_err(malformed)?);
    }
    counted.keys = keys.len() as u64;
    counted.feedback = feedback.len() as u64;
    counted.agents = agents.len() as u64;
    Ok((counted, *hasher.finalize().as_bytes()))
}

fn digest_task(of: &mut Side, task: &Task, hasher: &mut blake3::Hasher) -> Outcome<()> {
    let mut text = Vec::new();
    task_cells(task).map_err(malformed)?.iter().for_each(|cell| pack(&mut text, cell));
    let mut after = 0;
    while after < task.events {
        let records = of.reader.events(task.id, after, PIECE_EVENTS)?;
        let Some(last) = records.last() else {
            return Err(format!("the history of task {} ends at {after}", task.id));
        };
        after = last.n;
        for record in &records {
            rows::write_event(&mut text, record).map_err(malformed)?;
            if let Some(Payload::Blob(blob)) = record.event.payload() {
                sound_blob(of, task.id, blob.hash)?;
                text.extend_from_slice(&blob.hash.0);
            }
        }
    }
    hasher.update(&(text.len() as u64).to_le_bytes()).update(&text);
    Ok(())
}

fn malformed(malformed: Malformed) -> String {
    malformed.to_string()
}
