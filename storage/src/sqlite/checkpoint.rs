//! Checkpoints: a thread that moves the write-ahead logs' pages into the database files, on
//! connections of its own, so that commits do not stall for it.
//!
//! A commit tells how long the log is by now; past 8 MiB of new pages the thread is woken and copies
//! them without a lock (`PASSIVE`). Under steady writing that never reaches the log's end, so the log
//! would grow for ever, and a checkpoint that locks writers out never gets its turn. So past 64 MiB the
//! writer is asked to copy the short rest itself between two commits; its next commit then begins the
//! log anew. A log that grew far beyond that while a long read held it is cut when nothing is written
//! (`TRUNCATE`). A checkpoint that fails (other than for room or a lock) poisons its shard's journal:
//! pages may be neither here nor there.

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

// ORDER: each number stands alone and nothing else is published by it, so Relaxed is enough; `unpark`
// and `park` give the order that the wake-up needs.
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
    /// Notes what a checkpoint said. A commit may have told a newer length; the next tells it again.
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

    /// Copies the rest of the log if the thread asked for it: between commits, on the writer's own
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

    /// Whether the thread asked for that.
    pub(crate) fn wants_rest(&self) -> bool {
        self.shared.logs[self.shard].rest.load(Ordering::Relaxed)
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
        let files = paths.iter().map(|path| Ok((schema::open_writer(path)?, path.clone())));
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

fn run(shared: &Shared, files: &[(Connection, PathBuf)]) {
    while !shared.stop.load(Ordering::Relaxed) {
        for (log, (db, path)) in shared.logs.iter().zip(files) {
            let is_free = !log.failed.load(Ordering::Relaxed) && !log.rest.load(Ordering::Relaxed);
            if STEP_PAGES <= log.due()
                && is_free
                && let Err(error) = checkpoint(log, db, path)
            {
                note(log, path, &error);
            }
        }
        std::thread::park_timeout(INTERVAL);
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
        log.note(db.wal_checkpoint_v2(DEFAULT_NAME, CheckpointMode::TRUNCATE)?);
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
