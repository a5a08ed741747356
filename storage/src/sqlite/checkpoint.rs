//! Checkpoints: a thread that moves the write-ahead logs' pages into the database files, on
//! connections of its own, so that commits do not stall for it.
//!
//! A commit tells how long the log is by now; past 8 MiB of new pages the thread is woken and copies
//! them without a lock (`PASSIVE`). Under steady writing that never reaches the log's end, so the log
//! would grow for ever: past 64 MiB a second pass holds the writer for the short rest and starts the
//! log again from its beginning (`RESTART`), past 512 MiB it is also cut (`TRUNCATE`). A checkpoint
//! that fails (other than for room or a lock) poisons its shard's journal: pages may be neither here
//! nor there.

use crate::error::{Error, Result};
use crate::sqlite::schema;
use rusqlite::{Connection, DEFAULT_NAME, ErrorCode, wal::CheckpointMode};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// New pages of 8 KiB that are worth a checkpoint.
const STEP_PAGES: u32 = 1_024;
/// A log of so many pages is started again.
const RESTART_PAGES: u32 = 8 * STEP_PAGES;
/// A log of so many pages is cut.
const TRUNCATE_PAGES: u32 = 64 * STEP_PAGES;
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
    failed: AtomicBool,
}

impl Log {
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
            if STEP_PAGES <= log.due()
                && !log.failed.load(Ordering::Relaxed)
                && let Err(error) = checkpoint(log, db)
            {
                note(log, path, &error);
            }
        }
        std::thread::park_timeout(INTERVAL);
    }
}

fn checkpoint(log: &Log, db: &Connection) -> rusqlite::Result<()> {
    let run = |mode| db.wal_checkpoint_v2(DEFAULT_NAME, mode);
    let (mut pages, mut done) = run(CheckpointMode::PASSIVE)?;
    if RESTART_PAGES.cast_signed() <= pages {
        // What came in meanwhile, still without a lock: the writer is to wait for little.
        run(CheckpointMode::PASSIVE)?;
        let cut = TRUNCATE_PAGES.cast_signed() <= pages;
        let mode = if cut { CheckpointMode::TRUNCATE } else { CheckpointMode::RESTART };
        (pages, done) = run(mode)?;
    }
    // A commit may have told a newer length just now; the next one tells it again.
    log.pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
    log.done.store(u32::try_from(done).unwrap_or(0), Ordering::Relaxed);
    Ok(())
}

fn note(log: &Log, path: &std::path::Path, error: &rusqlite::Error) {
    use ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
    let passing =
        matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked | DiskFull));
    if passing {
        tracing::warn!(target: "journal", path = %path.display(), %error, "checkpoint put off");
    } else {
        tracing::error!(target: "journal", path = %path.display(), %error, "checkpoint failed");
        log.failed.store(true, Ordering::Relaxed);
    }
}
