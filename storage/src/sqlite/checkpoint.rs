//! Checkpoints: a thread that moves the write-ahead logs' pages into the database files, on
//! connections of its own, so that commits do not stall for it.
//!
//! A commit tells how long the log is by now; past 8 MiB of new pages the thread is woken and
//! copies them without a lock (`PASSIVE`). Under steady writing that never reaches the log's end,
//! so the log would grow for ever, and a checkpoint that locks writers out never gets its turn. So
//! past 64 MiB the writer is asked to copy the short rest itself between two commits; its next
//! commit then begins the log anew. A log that grew far beyond that while a long read held it is
//! cut when nothing is written (`TRUNCATE`). A checkpoint that fails (other than for room or a
//! lock) poisons its shard's journal: pages may be neither here nor there.

use crate::error::{Error, Result};
use crate::sqlite::schema;
use rusqlite::{Connection, DEFAULT_NAME, ErrorCode, wal::CheckpointMode};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// New pages of 8 KiB that are worth a checkpoint.
const STEP_PAGES: u32 = 1_024;
/// A log of so many pages is to begin anew.
const RESTART_PAGES: u32 = 8 * STEP_PAGES;
/// A log file of so many bytes is cut.
const TRUNCATE_BYTES: u64 = 512 << 20;
/// The thread looks this often by itself.
const INTERVAL: Duration = Duration::from_secs(1);

/// What journals and the thread share, one `Log` for each file.
pub(crate) struct Shared {
    logs: Vec<Log>,
    stop: AtomicBool,
    thread: OnceLock<Thread>,
}

// ORDER: each number stands alone and nothing else is published by it, so Relaxed is enough;
// `unpark` and `park` give the order that the wake-up needs.
#[derive(Default)]
struct Log {
    /// Pages in the log after the last commit.
    pages: AtomicU32,
    /// Of them in the database file.
    done: AtomicU32,
    /// The writer is to copy the rest.
    rest: AtomicBool,
    failed: AtomicBool,
}

impl Log {
    /// Notes what a checkpoint said. A commit may have told a newer length; the next tells it
    /// again.
    fn note(&self, (pages, done): (i32, i32)) {
        self.pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
        self.done.store(u32::try_from(done).unwrap_or(0), Ordering::Relaxed);
    }

    /// Pages that wait. Fewer than were done: the log began again.
    fn due(&self) -> u32 {
        let (pages, done) = (self.pages.load(Ordering::Relaxed), self.done.load(Ordering::Relaxed));
        if pages < done { pages } else { pages - done }
    }
}

impl Shared {
    pub(crate) fn new(shards: u16) -> Arc<Shared> {
        let logs = (0..shards).map(|_| Log::default()).collect();
        Arc::new(Shared { logs, stop: AtomicBool::new(false), thread: OnceLock::new() })
    }
}

/// A journal's side: tells how long its log is.
pub(crate) struct LogGauge {
    shared: Arc<Shared>,
    shard: usize,
}

impl LogGauge {
    pub(crate) fn new(shared: &Arc<Shared>, shard: u16) -> LogGauge {
        LogGauge { shared: Arc::clone(shared), shard: usize::from(shard) }
    }

    /// What SQLite calls after each commit.
    pub(crate) fn hook(
        &self,
    ) -> impl FnMut(&mut rusqlite::hooks::Wal, i32) -> rusqlite::Result<()> + Send + 'static {
        let (shared, shard) = (Arc::clone(&self.shared), self.shard);
        move |_, pages| {
            let log = &shared.logs[shard];
            log.pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            if STEP_PAGES <= log.due()
                && let Some(thread) = shared.thread.get()
            {
                thread.unpark();
            }
            Ok(())
        }
    }

    /// Copies the rest of the log if that was asked for: between commits, on the writer's own
    /// connection, a few MiB.
    pub(crate) fn copy_rest(&self, db: &Connection) -> rusqlite::Result<()> {
        let log = &self.shared.logs[self.shard];
        if self.wants_rest() {
            let copied = db.wal_checkpoint_v2(DEFAULT_NAME, CheckpointMode::PASSIVE);
            log.rest.store(false, Ordering::Relaxed);
            match copied {
                Ok(copied) => log.note(copied),
                // Then the log grows a little more, and the thread asks again.
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks for that.
    pub(crate) fn want_rest(&self) {
        self.shared.logs[self.shard].rest.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked for that.
    pub(crate) fn wants_rest(&self) -> bool {
        self.shared.logs[self.shard].rest.load(Ordering::Relaxed)
    }

    /// The journal failed: no checkpoint may touch this file's log any more, as that would sync it.
    pub(crate) fn fail(&self) {
        self.shared.logs[self.shard].failed.store(true, Ordering::Relaxed);
    }

    /// Whether a checkpoint of this file failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.shared.logs[self.shard].failed.load(Ordering::Relaxed)
    }
}

/// The thread. Stops when dropped, after the checkpoint under way.
pub struct Checkpoints {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread for the files `paths`, one for each log of `shared`.
    pub(crate) fn start(shared: Arc<Shared>, paths: &[PathBuf]) -> Result<Checkpoints> {
        let files = paths.iter().map(|path| Ok((open(path)?, path.clone())));
        let files = files.collect::<Result<Vec<_>>>()?;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("no-checkpoints".into())
            .spawn(move || run(&theirs, &files))
            .map_err(|error| Error::of_io(&paths[0], error))?;
        // A commit before this line does not wake the thread; its interval will.
        let _ = shared.thread.set(thread.thread().clone());
        Ok(Checkpoints { shared, thread: Some(thread) })
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It panics only where it aborts the process.
            let _ = thread.join();
        }
    }
}

/// A connection that takes a lock at once or not at all: while it waited for readers to cut a log,
/// it would keep the writer out.
fn open(path: &Path) -> Result<Connection> {
    let db = schema::open_writer(path)?;
    let of_sqlite = |source| Error::of_sqlite(path, source);
    db.busy_timeout(Duration::ZERO).map_err(of_sqlite)?;
    schema::leave_log_on_close(&db).map_err(of_sqlite)?;
    Ok(db)
}

fn run(shared: &Shared, files: &[(Connection, PathBuf)]) {
    while !shared.stop.load(Ordering::Relaxed) {
        look(shared, files);
        std::thread::park_timeout(INTERVAL);
    }
}

/// Makes the checkpoints that are due.
fn look(shared: &Shared, files: &[(Connection, PathBuf)]) {
    for (log, (db, path)) in shared.logs.iter().zip(files) {
        let is_free = !log.failed.load(Ordering::Relaxed) && !log.rest.load(Ordering::Relaxed);
        if STEP_PAGES <= log.due()
            && is_free
            && let Err(error) = checkpoint(log, db, path)
        {
            note(log, path, &error);
        }
    }
}

fn checkpoint(log: &Log, db: &Connection, path: &Path) -> rusqlite::Result<()> {
    let passive = || db.wal_checkpoint_v2(DEFAULT_NAME, CheckpointMode::PASSIVE);
    let mut copied = passive()?;
    if RESTART_PAGES.cast_signed() <= copied.0 {
        // What came in meanwhile, so that the writer is left with little.
        // What a checkpoint reports is what there was when it began, so whether a rest is left now
        // only the writer can know.
        copied = passive()?;
        log.rest.store(true, Ordering::Relaxed);
    }
    log.note(copied);
    let len = std::fs::metadata(schema::log_path(path)).map_or(0, |meta| meta.len());
    if TRUNCATE_BYTES <= len && copied.0 == copied.1 {
        match db.wal_checkpoint_v2(DEFAULT_NAME, CheckpointMode::TRUNCATE) {
            Ok(cut) => log.note(cut),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn note(log: &Log, path: &Path, error: &rusqlite::Error) {
    if is_passing(error) {
        tracing::warn!(target: "journal", path = %path.display(), %error, "checkpoint put off");
    } else {
        tracing::error!(target: "journal", path = %path.display(), %error, "checkpoint failed");
        log.failed.store(true, Ordering::Relaxed);
    }
}

/// Whether a checkpoint may simply be made later: a lock was held, or there was no room.
fn is_passing(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked | DiskFull))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::Following;
    use crate::{OpenOptions, Store, blob, samples};
    use no_engine::id::{PartitionId, ShardId, TaskId};
    use no_engine::payload::Payload;
    use no_engine::port::{CommitError, Journal};

    /// Commits a task with about 1 MiB of input.
    fn commit(journal: &mut impl Journal, i: u64) -> std::result::Result<(), CommitError> {
        let text = format!("\"{i}{}\"", "x".repeat(1 << 20));
        let input = Payload::new(text.as_bytes(), blob::hash);
        let (record, task) = samples::submitted(TaskId::new(i, i, PartitionId(0)), &input);
        journal.commit(&[samples::batch(i, vec![record], &[(&task, true)])])
    }

    #[test]
    fn a_log_is_copied_as_it_grows_and_begins_anew_when_it_is_long() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let following = Following::ByHand { after: 1 };
        let options = OpenOptions { following, ..OpenOptions::default() };
        let mut store = Store::open(dir.path(), &options).expect("a new folder");
        let mut journal = store.journal(ShardId(0)).expect("a journal");
        let path = schema::shard_path(dir.path(), 0);
        let files = [(open(&path).expect("opens"), path.clone())];
        let log = &store.shared.logs[0];
        let pages = || log.pages.load(Ordering::Relaxed);
        for i in 0..20 {
            commit(&mut journal, i).expect("committed");
            look(&store.shared, &files);
            assert!(log.due() < STEP_PAGES);
        }
        assert!(pages() < 2 * STEP_PAGES, "all was copied, so it began anew");

        let reader = schema::open_reader(&path).expect("opens");
        let moment = reader.unchecked_transaction().expect("begins");
        let count = || reader.query_row("SELECT count(*) FROM tasks", [], |row| row.get(0));
        assert_eq!(count(), Ok(20));
        let mut i = 20;
        while pages() < RESTART_PAGES {
            commit(&mut journal, i).expect("committed");
            look(&store.shared, &files);
            i += 1;
        }
        assert!(log.rest.load(Ordering::Relaxed), "a long read holds the log");
        assert_eq!(count(), Ok(20));
        drop(moment);
        commit(&mut journal, i).expect("committed");
        assert!(pages() < RESTART_PAGES, "the writer copied the rest first");
    }

    #[test]
    fn a_failed_checkpoint_poisons_the_journal() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let following = Following::ByHand { after: 1 };
        let options = OpenOptions { following, ..OpenOptions::default() };
        let mut store = Store::open(dir.path(), &options).expect("a new folder");
        let mut journal = store.journal(ShardId(0)).expect("a journal");
        commit(&mut journal, 1).expect("committed");
        let log = &store.shared.logs[0];
        let error = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        note(log, dir.path(), &error(rusqlite::ffi::SQLITE_BUSY));
        note(log, dir.path(), &error(rusqlite::ffi::SQLITE_FULL));
        commit(&mut journal, 2).expect("committed");
        note(log, dir.path(), &error(rusqlite::ffi::SQLITE_IOERR_FSYNC));
        assert!(matches!(commit(&mut journal, 3), Err(CommitError::Failed(_))));
        assert!(matches!(commit(&mut journal, 3), Err(CommitError::Failed(_))));
    }
}
