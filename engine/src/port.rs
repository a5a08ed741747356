//! What the engine needs from outside: the traits that stores and wakers implement.

use crate::event::{AgentRow, Batch, FeedbackRow, KeyRow, Record};
use crate::id::{PartitionId, TaskId};
use crate::payload::{Hash, Payload};
use crate::task::{State, Task};
use crate::time::Millis;
use std::sync::Arc;

/// Why a commit failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// No room; nothing was written, and the same batches may be committed again once there is
    /// some.
    #[error("no room on the disk")]
    Full,
    /// The journal is in doubt. It must not be used again before it has been re-read.
    #[error("the journal failed: {0}")]
    Failed(String),
}

/// A shard's durable log, used by its journal thread alone.
pub trait Journal {
    /// Writes all batches, in order, in one transaction, and returns once they are durable.
    ///
    /// # Errors
    /// See [`CommitError`]. Never retried by itself.
    fn commit(&mut self, batches: &[Batch]) -> Result<(), CommitError>;

    /// Up to a few ms of upkeep while there is nothing to commit: retention in small pieces.
    /// Returns whether there is more to do.
    ///
    /// # Errors
    /// See [`CommitError`].
    fn tidy(&mut self, now: crate::time::Millis) -> Result<bool, CommitError>;
}

impl<J: Journal + ?Sized> Journal for Box<J> {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), CommitError> {
        (**self).commit(batches)
    }

    fn tidy(&mut self, now: crate::time::Millis) -> Result<bool, CommitError> {
        (**self).tidy(now)
    }
}

/// A partition as its store has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Live tasks and dead letters, in any order.
    pub tasks: Vec<Task>,
    /// Keys.
    pub keys: Vec<KeyRow>,
    /// What was said of results since the time that was asked for.
    pub feedback: Vec<FeedbackRow>,
}

/// Gives back what was committed, at start: one by one, because a shard has a million tasks and
/// there is no room for them twice.
pub trait Load {
    /// Hands each live task and dead letter of `partitions` to `take`, in any order.
    ///
    /// # Errors
    /// [`crate::Error::LoadFailed`] when a row does not make a task; some were handed over then.
    fn tasks(
        &mut self,
        partitions: &[PartitionId],
        take: &mut dyn FnMut(Task),
    ) -> crate::Result<()>;

    /// Hands each key of `partitions` to `take`, in any order.
    ///
    /// # Errors
    /// [`crate::Error::LoadFailed`] likewise.
    fn keys(
        &mut self,
        partitions: &[PartitionId],
        take: &mut dyn FnMut(KeyRow),
    ) -> crate::Result<()>;

    /// Hands what was said of results of `partitions` since `since` to `take`, in any order.
    ///
    /// # Errors
    /// [`crate::Error::LoadFailed`] likewise.
    fn feedback(
        &mut self,
        partitions: &[PartitionId],
        since: Millis,
        take: &mut dyn FnMut(FeedbackRow),
    ) -> crate::Result<()>;

    /// One partition as a whole, for looking at it.
    ///
    /// # Errors
    /// [`crate::Error::LoadFailed`] likewise.
    fn load(&mut self, partition: PartitionId) -> crate::Result<Loaded> {
        let mut loaded = Loaded::default();
        self.tasks(&[partition], &mut |task| loaded.tasks.push(task))?;
        self.keys(&[partition], &mut |row| loaded.keys.push(row))?;
        self.feedback(&[partition], Millis(0), &mut |row| loaded.feedback.push(row))?;
        Ok(loaded)
    }

    /// All agents.
    ///
    /// # Errors
    /// [`crate::Error::LoadFailed`] likewise.
    fn agents(&mut self) -> crate::Result<Vec<AgentRow>>;
}

impl<L: Load + ?Sized> Load for Box<L> {
    fn tasks(
        &mut self,
        partitions: &[PartitionId],
        take: &mut dyn FnMut(Task),
    ) -> crate::Result<()> {
        (**self).tasks(partitions, take)
    }

    fn keys(
        &mut self,
        partitions: &[PartitionId],
        take: &mut dyn FnMut(KeyRow),
    ) -> crate::Result<()> {
        (**self).keys(partitions, take)
    }

    fn feedback(
        &mut self,
        partitions: &[PartitionId],
        since: Millis,
        take: &mut dyn FnMut(FeedbackRow),
    ) -> crate::Result<()> {
        (**self).feedback(partitions, since, take)
    }

    fn agents(&mut self) -> crate::Result<Vec<AgentRow>> {
        (**self).agents()
    }
}

/// Which tasks a list shows. Absent means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this tenant.
    pub tenant: Option<Arc<str>>,
    /// Of this agent.
    pub agent: Option<Arc<str>>,
    /// In this state.
    pub state: Option<State>,
    /// With this tag.
    pub tag: Option<Arc<str>>,
    /// With this fairness key.
    pub fairness_key: Option<Arc<str>>,
}

/// One page of a list, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The tasks; perhaps fewer than asked for even if more follow.
    pub tasks: Vec<Task>,
    /// Go on below this id; `None` at the end.
    pub next: Option<TaskId>,
}

/// Reads what is durable, for requests. One per reader thread.
pub trait Reader {
    /// The task, or `None`.
    ///
    /// # Errors
    /// What went wrong, for the log.
    fn task(&mut self, id: TaskId) -> Result<Option<Task>, String>;

    /// Its events with numbers above `after`, at most `limit`, in order.
    ///
    /// # Errors
    /// What went wrong, for the log.
    fn events(&mut self, id: TaskId, after: u32, limit: usize) -> Result<Vec<Record>, String>;

    /// A page of tasks with ids below `before` (from the newest when absent).
    ///
    /// # Errors
    /// What went wrong, for the log.
    fn list(
        &mut self,
        filter: &Filter,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Page, String>;

    /// The bytes of a large payload of that task's partition.
    ///
    /// # Errors
    /// What went wrong, for the log.
    fn blob(&mut self, id: TaskId, hash: Hash) -> Result<Option<Arc<[u8]>>, String>;

    /// The payload with its bytes.
    ///
    /// # Errors
    /// What went wrong, for the log; also when its bytes are missing.
    fn resolve(&mut self, id: TaskId, payload: &Payload) -> Result<Arc<[u8]>, String> {
        match payload {
            Payload::Inline(bytes) => Ok(Arc::clone(bytes)),
            Payload::Blob(blob) => match &blob.bytes {
                Some(bytes) => Ok(Arc::clone(bytes)),
                None => {
                    let bytes = self.blob(id, blob.hash)?;
                    bytes.ok_or_else(|| format!("payload {} is missing", blob.hash))
                }
            },
        }
    }
}

impl<R: Reader + ?Sized> Reader for Box<R> {
    fn task(&mut self, id: TaskId) -> Result<Option<Task>, String> {
        (**self).task(id)
    }

    fn events(&mut self, id: TaskId, after: u32, limit: usize) -> Result<Vec<Record>, String> {
        (**self).events(id, after, limit)
    }

    fn list(
        &mut self,
        filter: &Filter,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Page, String> {
        (**self).list(filter, before, limit)
    }

    fn blob(&mut self, id: TaskId, hash: Hash) -> Result<Option<Arc<[u8]>>, String> {
        (**self).blob(id, hash)
    }
}

/// Where a shard's loop takes its time from.
pub trait Clock {
    /// Both clocks.
    fn now(&self) -> crate::time::Now;

    /// The monotonic clock in µs, for measuring.
    fn micros(&self) -> u64;
}

/// Wakes one sleeping thread.
pub trait Wake: Send + Sync {
    /// Called only when the thread has announced that it parks; wakes it, now or when it blocks.
    fn wake(&self);
}

/// What a journal thread tells its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    /// All batches up to and including this one are durable.
    Durable {
        /// The last of them.
        through: crate::id::Seq,
        /// How long the transaction took, sync included, in µs.
        commit_us: u64,
    },
    /// There is no room; the journal thread holds the batches and tries again once there is.
    Full,
    /// There is room again. A `Durable` follows.
    Roomy,
    /// The journal failed; nothing after the last `Durable` may be relied on. Never followed by
    /// another.
    Failed(String),
}
