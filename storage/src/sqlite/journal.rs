//! A shard's journal as the engine knows it: a commit is one frame in the journal's file, synced;
//! the index follows behind.
//!
//! Invariants: `commit` returns `Ok` only after the sync. After any failure but a full disk the
//! journal is poisoned and refuses everything, and the index takes over nothing more. A full disk,
//! whether it is the file or the index that finds no room, leaves no trace of the commit.

use crate::error::Error;
use crate::journal::entry::{brought, named_only, write_batch};
use crate::journal::file::Refused;
use crate::journal::frame::Draft;
use crate::journal::{Frame, JournalFile};
use crate::sqlite::follower::Followed;
use crate::sqlite::index::Index;
use crate::sqlite::schema;
use crate::writer::Finish;
use no_engine::event::Batch;
use no_engine::id::TaskId;
use no_engine::payload::Hash;
use no_engine::port::{CommitError, Journal};
use no_engine::time::Millis;
use rusqlite::Connection;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Who takes frames over into the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// A thread of its own, behind the commits.
    Thread,
    /// The committing thread itself, once so many frames wait: for tests that want to know what is
    /// where when they play a crash.
    ByHand {
        /// Frames.
        after: usize,
    },
}

/// The journal of one shard. Used by its journal thread alone.
pub struct SqliteJournal {
    file: JournalFile,
    /// The index's file, which errors name.
    path: PathBuf,
    last: u64,
    followed: Arc<Followed>,
    follower: Follower,
    /// Payloads whose bytes came with a frame that the index may not have yet.
    brought: HashMap<Hash, u64>,
    /// Looks for payloads that are older than that.
    reader: Option<Connection>,
    poison: Option<String>,
}

enum Follower {
    Thread(JoinHandle<Index>),
    ByHand { index: Box<Index>, after: usize },
    Gone,
}

impl SqliteJournal {
    pub(crate) fn new(
        file: JournalFile,
        mut index: Index,
        path: &Path,
        followed: Arc<Followed>,
        following: Following,
    ) -> Result<SqliteJournal, Error> {
        let last = index.applied();
        let follower = match following {
            Following::ByHand { after } => Follower::ByHand { index: Box::new(index), after },
            Following::Thread => {
                let theirs = Arc::clone(&followed);
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let thread = std::thread::Builder::new().name(format!("no-index-{name}"));
                let spawned = thread.spawn(move || {
                    theirs.run(&mut index);
                    index
                });
                Follower::Thread(spawned.map_err(|error| Error::of_io(path, error))?)
            }
        };
        let path = path.to_owned();
        let brought = HashMap::new();
        Ok(SqliteJournal {
            file,
            path,
            last,
            followed,
            follower,
            brought,
            reader: None,
            poison: None,
        })
    }

    /// The index, when it is followed by hand.
    #[cfg(test)]
    pub(crate) fn index(&mut self) -> &mut Index {
        match &mut self.follower {
            Follower::ByHand { index, .. } => index,
            Follower::Thread(_) | Follower::Gone => panic!("the index is another thread's"),
        }
    }

    fn sound(&self) -> Result<(), CommitError> {
        self.poison.clone().map_or(Ok(()), |why| Err(CommitError::Failed(why)))
    }

    /// Notes a failure, after which nothing is written any more.
    fn fail(&mut self, why: &str) -> CommitError {
        let why = format!("{}: {why}", self.path.display());
        self.followed.fail(&why);
        self.poison = Some(why.clone());
        CommitError::Failed(why)
    }

    fn write(&mut self, batches: &[Batch]) -> Result<(), CommitError> {
        self.follow(usize::MAX)?;
        let applied = self.followed.applied()?;
        self.file.release(applied);
        self.brought.retain(|_, number| applied < *number);
        let mut draft = Draft::new(self.followed.buffer());
        for batch in batches {
            write_batch(&mut draft, batch)
                .map_err(|malformed| self.fail(&malformed.to_string()))?;
        }
        if draft.is_empty() {
            return Ok(());
        }
        let number = self.last + 1;
        self.brought.extend(batches.iter().flat_map(brought).map(|hash| (hash, number)));
        self.check_payloads(batches)?;
        let frame = Arc::new(draft.seal(number, self.file.key()));
        self.append(&frame)?;
        self.last = number;
        self.follow(self.enough())
    }

    /// Writes the frame and hands it to the index; waits for blocks while there are none.
    fn append(&mut self, frame: &Arc<Frame>) -> Result<(), CommitError> {
        loop {
            let why = match self.file.append(frame) {
                Ok(()) => {
                    self.followed.push(Arc::clone(frame));
                    return Ok(());
                }
                Err(Refused::Held) => {
                    self.follow(0)?;
                    let applied = self.followed.wait_for(self.file.oldest())?;
                    self.file.release(applied);
                    continue;
                }
                Err(Refused::Large) => {
                    // Into the index at once, whose transaction is as durable. What was handed over
                    // cannot be taken back, so a full disk is waited out here.
                    self.followed.push(Arc::clone(frame));
                    self.follow(0)?;
                    return self.followed.wait_out(frame.number);
                }
                Err(Refused::Full) => return Err(CommitError::Full),
                Err(Refused::Io(error)) => error.to_string(),
            };
            return Err(self.fail(&why));
        }
    }

    /// By hand: takes over what waits, once that is `enough` frames. That there is no room is for
    /// the next commit to say, as this one is in the journal.
    fn follow(&mut self, enough: usize) -> Result<(), CommitError> {
        let Follower::ByHand { index, .. } = &mut self.follower else { return Ok(()) };
        if enough <= self.followed.waiting() || self.followed.is_full() {
            match self.followed.step(index) {
                Ok(()) | Err(CommitError::Full) => {}
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    /// Frames that are enough to be taken over by hand.
    fn enough(&self) -> usize {
        match self.follower {
            Follower::ByHand { after, .. } => after,
            Follower::Thread(_) | Follower::Gone => usize::MAX,
        }
    }

    /// A payload that is named by its hash alone must be there already: what cannot be read back is
    /// not acknowledged.
    fn check_payloads(&mut self, batches: &[Batch]) -> Result<(), CommitError> {
        for (task, hash) in batches.iter().flat_map(named_only) {
            let known = self.brought.contains_key(&hash)
                || match self.is_stored(hash) {
                    Ok(known) => known,
                    Err(error) => return Err(self.fail(&error.to_string())),
                };
            if !known {
                return Err(self.fail(&missing(task)));
            }
        }
        Ok(())
    }

    fn is_stored(&mut self, hash: Hash) -> Result<bool, Error> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => schema::open_reader(&self.path)?,
        };
        let sql = "SELECT EXISTS (SELECT 1 FROM blobs WHERE hash = ?1)";
        let found = reader
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([&hash.0[..]], |row| row.get(0)));
        self.reader = Some(reader);
        found.map_err(|source| Error::of_sqlite(&self.path, source))
    }
}

fn missing(task: TaskId) -> String {
    format!("a large payload of task {task} has no bytes")
}

impl Journal for SqliteJournal {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), CommitError> {
        self.sound()?;
        let followed = Arc::clone(&self.followed);
        let done = followed.time_commit(|| self.write(batches));
        if let Err(CommitError::Failed(why)) = &done {
            self.poison.get_or_insert_with(|| why.clone());
        }
        done
    }

    fn tidy(&mut self, now: Millis) -> Result<bool, CommitError> {
        self.sound()?;
        match &mut self.follower {
            Follower::ByHand { index, .. } => {
                self.followed.step(index)?;
                index.tidy(now)
            }
            Follower::Thread(_) | Follower::Gone => {
                self.followed.tell(now);
                self.followed.applied().map(|_| false)
            }
        }
    }
}

impl Finish for SqliteJournal {
    fn finish(&mut self) -> Result<(), CommitError> {
        self.sound()?;
        self.follow(0)?;
        self.followed.wait_for(self.last)?;
        self.followed.stop();
        let gone = || CommitError::Failed("the index's thread is gone".into());
        let mut index = match std::mem::replace(&mut self.follower, Follower::Gone) {
            Follower::Thread(thread) => thread.join().map_err(|_| gone())?,
            Follower::ByHand { index, .. } => *index,
            Follower::Gone => return Err(gone()),
        };
        index.finish()
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.followed.stop();
        if let Follower::Thread(thread) = std::mem::replace(&mut self.follower, Follower::Gone) {
            // It panics only where it aborts the process.
            let _ = thread.join();
        }
    }
}
