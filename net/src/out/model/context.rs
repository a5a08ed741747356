//! The context cache: the messages of each loop's last model call, so that the next call only adds.
//!
//! Bounded by bytes, least recently used out first. What it does not have is built again from the
//! store: the input and all ended model, tool and timer steps, in the order of their numbers.
//! Losing an entry is therefore never wrong, only slower.

use super::super::error::CallError;
use super::messages::{Malformed, Piece, append, begin};
use crate::reads::Reads;
use no_engine::agent::state::{Message, StepKind};
use no_engine::effect::Context;
use no_engine::event::{Event, Record};
use no_engine::id::{Step, TaskId};
use no_engine::payload::Payload;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Bytes of messages that are kept (default).
pub const CONTEXT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What an entry costs beside its messages, in bytes, roughly.
const ENTRY_BYTES: usize = 256;
/// Events read from the store at once.
const EVENTS_LEN: usize = 256;

/// Messages of the loops that this net core asked models for.
#[derive(Debug)]
pub struct Contexts {
    bytes_max: usize,
    bytes: usize,
    clock: u64,
    entries: HashMap<TaskId, Entry>,
    /// Task by when it was last used.
    used: BTreeMap<u64, TaskId>,
}

#[derive(Debug)]
struct Entry {
    step: Step,
    after: Step,
    messages: Rc<Vec<u8>>,
    used: u64,
}

/// What is asked for: the messages of the call for `step`.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The task.
    pub task: TaskId,
    /// The model step that they are for.
    pub step: Step,
    /// The task's input.
    pub input: &'a Payload,
    /// How they come together.
    pub context: &'a Context,
}

impl Contexts {
    /// A cache of at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Contexts {
        let (entries, used) = (HashMap::new(), BTreeMap::new());
        Contexts { bytes_max, bytes: 0, clock: 0, entries, used }
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, task: TaskId) -> Option<Entry> {
        let entry = self.entries.remove(&task)?;
        self.used.remove(&entry.used);
        self.bytes -= entry.messages.len() + ENTRY_BYTES;
        Some(entry)
    }

    fn put(&mut self, task: TaskId, step: Step, after: Step, messages: Rc<Vec<u8>>) {
        self.take(task);
        let bytes = messages.len() + ENTRY_BYTES;
        if self.bytes_max < bytes {
            return;
        }
        while self.bytes_max - bytes < self.bytes {
            let Some((_, oldest)) = self.used.pop_first() else { break };
            let dropped = self.entries.remove(&oldest);
            self.bytes -= dropped.map_or(0, |entry| entry.messages.len() + ENTRY_BYTES);
        }
        self.clock += 1;
        self.bytes += bytes;
        self.used.insert(self.clock, task);
        self.entries.insert(task, Entry { step, after, messages, used: self.clock });
        assert_eq!(self.entries.len(), self.used.len(), "an entry out of order");
    }
}

/// The messages of a call, from the cache where it has them, else from the store.
///
/// # Errors
/// [`CallError::Store`], or a history that makes no context.
pub async fn messages(
    cache: &RefCell<Contexts>,
    reads: &Reads,
    wanted: &Wanted<'_>,
) -> Result<Rc<Vec<u8>>, CallError> {
    let (task, step, after) = (wanted.task, wanted.step, wanted.context.after);
    let entry = cache.borrow_mut().take(task);
    let same_call = |entry: &Entry| entry.step == step && entry.after == after;
    let built = match (entry, &wanted.context.fresh) {
        (Some(entry), _) if same_call(&entry) => entry.messages,
        (Some(entry), Some(fresh)) if entry.step == after => {
            let mut messages = entry.messages;
            let pieces = resolve(reads, task, fresh).await?;
            append(Rc::make_mut(&mut messages), &pieces).map_err(malformed)?;
            messages
        }
        _ => Rc::new(rebuild(reads, wanted).await?),
    };
    cache.borrow_mut().put(task, step, after, Rc::clone(&built));
    Ok(built)
}

/// Builds the messages of a call from the input and the history.
async fn rebuild(reads: &Reads, wanted: &Wanted<'_>) -> Result<Vec<u8>, CallError> {
    let (task, step) = (wanted.task, wanted.step);
    let input = reads.resolve(task, wanted.input).await.map_err(CallError::Store)?;
    let mut messages = begin(&input);
    if wanted.context.after == Step(0) {
        // The first call of the loop: nothing ended before it.
        return Ok(messages);
    }
    let mut ended: Vec<(Step, Message)> = Vec::new();
    let mut seen = 0;
    loop {
        let records = reads.events(task, seen, EVENTS_LEN).await.map_err(CallError::Store)?;
        let Some(last) = records.last() else { break };
        seen = last.n;
        ended.extend(records.iter().filter_map(message).filter(|(of, _)| *of < step));
        if records.len() < EVENTS_LEN {
            break;
        }
    }
    ended.sort_by_key(|(of, _)| *of);
    let ended: Vec<Message> = ended.into_iter().map(|(_, message)| message).collect();
    let pieces = resolve(reads, task, &ended).await?;
    append(&mut messages, &pieces).map_err(malformed)?;
    Ok(messages)
}

/// The message that an event adds to the context, with its step.
fn message(record: &Record) -> Option<(Step, Message)> {
    let Event::StepEnded { step, kind, call_id, output, .. } = &*record.event else { return None };
    match (kind, call_id) {
        (StepKind::Model, _) => Some((*step, Message::Assistant(output.clone()))),
        (StepKind::Tool | StepKind::Timer, Some(call_id)) => {
            let message = Message::Tool { call_id: call_id.clone(), result: output.clone() };
            Some((*step, message))
        }
        _ => None,
    }
}

async fn resolve(
    reads: &Reads,
    task: TaskId,
    messages: &[Message],
) -> Result<Vec<Piece>, CallError> {
    let mut pieces = Vec::with_capacity(messages.len());
    for message in messages {
        let payload = match message {
            Message::Assistant(payload) | Message::Tool { result: payload, .. } => payload,
        };
        let bytes = reads.resolve(task, payload).await.map_err(CallError::Store)?;
        pieces.push(match message {
            Message::Assistant(_) => Piece::Assistant(bytes),
            Message::Tool { call_id, .. } => {
                Piece::Tool { call_id: call_id.clone(), result: bytes }
            }
        });
    }
    Ok(pieces)
}

fn malformed(why: Malformed) -> CallError {
    CallError::Coded {
        code: "context_malformed",
        message: why.to_string(),
        retryable: false,
        maybe_done: false,
        retry_after_ms: None,
    }
}

#[cfg(test)]
mod tests;
