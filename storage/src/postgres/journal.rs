//! A shard's journal in a database that nodes share: there is no file, a commit is one transaction
//! of the database (`commit.rs`), and what it wrote can be read at once.
//!
//! Invariants: `commit` returns `Ok` only after the server said that it is in, or was found to have
//! it; rows are written of partitions that are the journal's own only, and under their fences.
//! After any failure but a full disk the journal is poisoned and refuses everything.

use crate::error::{Error, Result};
use crate::journal::entry::write_batch;
use crate::journal::frame::Draft;
use crate::postgres::commit::{Committer, Reached};
use crate::postgres::options::PgOptions;
use crate::postgres::owned::Owned;
use crate::postgres::tidy;
use crate::postgres::write::{Writing, writing};
use crate::retention::Retention;
use crate::work::Work;
use crate::writer::Finish;
use no_engine::event::Batch;
use no_engine::id::{Fence, PartitionId, ShardId};
use no_engine::port::{CommitError, Journal};
use no_engine::time::Millis;
use tokio::runtime::Runtime;

/// Whose journal it is and what it may write.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// The node's name, which no other node has.
    pub owner: String,
    /// The shard of that node.
    pub shard: ShardId,
    /// The partitions that the shard owns, each with the fence that it got with it.
    pub owned: Vec<(PartitionId, Fence)>,
    /// How long tasks that succeeded or were cancelled are kept, in ms.
    pub retention_ms: u64,
}

/// The journal of one shard. Used by its journal thread alone, whose waiting it does.
pub struct PgJournal {
    runtime: Runtime,
    committer: Committer,
    retention: Retention,
    /// The memory of entries, used again.
    buffer: Vec<u8>,
    was_clean: bool,
    poison: Option<String>,
}

impl PgJournal {
    pub(crate) fn new(
        runtime: Runtime,
        options: PgOptions,
        journal: &JournalOptions,
        reached: Reached,
        was_clean: bool,
    ) -> PgJournal {
        let JournalOptions { owner, shard, owned, retention_ms } = journal;
        PgJournal {
            runtime,
            committer: Committer::new(options, owner, *shard, Owned::new(owned), reached),
            retention: Retention::new(*retention_ms),
            buffer: Vec::new(),
            was_clean,
            poison: None,
        }
    }

    /// Whether this node's shard left its journal in order when it last had it; `true` for a new
    /// one.
    #[must_use]
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// The partitions that it writes, for who takes and gives them.
    #[must_use]
    pub fn owned(&self) -> Owned {
        self.committer.owned().clone()
    }

    /// Commits since it was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.committer.seq().cast_unsigned()
    }

    fn sound(&self) -> std::result::Result<(), CommitError> {
        self.poison.clone().map_or(Ok(()), |why| Err(CommitError::Failed(why)))
    }

    fn poisoned<T>(
        &mut self,
        done: std::result::Result<T, CommitError>,
    ) -> std::result::Result<T, CommitError> {
        if let Err(CommitError::Failed(why)) = &done {
            self.poison.get_or_insert_with(|| why.clone());
        }
        done
    }

    fn write(&mut self, batches: &[Batch]) -> std::result::Result<(), CommitError> {
        let mut draft = Draft::new(std::mem::take(&mut self.buffer));
        let failed = |error: crate::error::Malformed| CommitError::Failed(error.to_string());
        batches.iter().try_for_each(|batch| write_batch(&mut draft, batch)).map_err(failed)?;
        if !draft.is_empty() {
            let mut work = Work::default();
            work.take(draft.entries()).map_err(failed)?;
            let work = work.settle();
            self.send(&writing(&work).map_err(failed)?)?;
        }
        self.buffer = draft.into_bytes();
        Ok(())
    }

    fn send(&mut self, writing: &Writing<'_>) -> std::result::Result<(), CommitError> {
        let owned = self.committer.owned();
        if let Some(other) = writing.touched.iter().find(|id| !owned.has(**id)) {
            let why = format!("a commit writes partition {other}, which is not this journal's");
            return Err(CommitError::Failed(why));
        }
        self.runtime.block_on(self.committer.commit(writing, false))
    }

    fn tidy_piece(&mut self, now: Millis) -> std::result::Result<bool, CommitError> {
        let PgJournal { runtime, committer, retention, .. } = self;
        let Some(piece) = runtime.block_on(tidy::look(committer, retention, now)) else {
            return Ok(false);
        };
        if !piece.writing.steps.is_empty() {
            runtime.block_on(committer.commit(&piece.writing, false))?;
        }
        Ok(piece.done(retention, now))
    }
}

impl Journal for PgJournal {
    fn commit(&mut self, batches: &[Batch]) -> std::result::Result<(), CommitError> {
        self.sound()?;
        let done = self.write(batches);
        self.poisoned(done)
    }

    fn tidy(&mut self, now: Millis) -> std::result::Result<bool, CommitError> {
        self.sound()?;
        if !self.retention.is_due(now) {
            return Ok(false);
        }
        let done = self.tidy_piece(now);
        self.poisoned(done)
    }
}

impl Finish for PgJournal {
    fn finish(&mut self) -> std::result::Result<(), CommitError> {
        self.sound()?;
        let nothing = Writing::default();
        let done = self.runtime.block_on(self.committer.commit(&nothing, true));
        self.poisoned(done)
    }
}

/// What a node's name may be.
pub(crate) fn check_owner(options: &PgOptions, owner: &str) -> Result<()> {
    let is_name = !owner.is_empty() && owner.len() <= 128 && !owner.contains(char::is_control);
    if is_name {
        return Ok(());
    }
    let why = "a node's name must have 1 to 128 bytes and no control characters".to_owned();
    Err(Error::Database { at: options.at(), why })
}
