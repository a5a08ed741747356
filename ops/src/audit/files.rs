//! The files of the audit log: `audit-<seq of the first line>.jsonl` in `<data>/audit/`, 0600, each
//! appended to until it is full.
//!
//! Several processes may append: the node, and commands such as `no token revoke` beside it. Each
//! does so under the lock of the folder and first takes over what others have added, so that there
//! is one chain. Only [`AuditFiles::append`] writes.

use crate::error::{Error, Result};
use no_auth::audit::{self, Chain, Entry, TORN};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder in the data folder.
pub(super) const AUDIT_DIR: &str = "audit";
const LOCK_FILE: &str = "lock";
/// Longest wait for another process that appends: one that was stopped must not stop us.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(2);

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuditBounds {
    /// Bytes of one file, at most.
    pub file_bytes_max: u64,
    /// Files, the current among them.
    pub files_max: usize,
}

impl Default for AuditBounds {
    /// As configured by default.
    fn default() -> AuditBounds {
        AuditBounds { file_bytes_max: 64 << 20, files_max: 16 }
    }
}

/// Why lines were not kept.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// They were not written; others may be.
    #[error("write: {0}")]
    Write(io::Error),
    /// They were not synced; what is on disk is unknown from here on.
    #[error("sync: {0}")]
    Sync(io::Error),
}

/// The log, open to be appended to.
#[derive(Debug)]
pub struct AuditFiles {
    dir: PathBuf,
    bounds: AuditBounds,
    lock: File,
    file: File,
    /// Bytes of the file that are taken over.
    len: u64,
    chain: Chain,
    /// Whether something was appended since the last sync.
    is_dirty: bool,
}

/// The log's files, oldest first, each open and with the bytes that it had while nobody wrote.
///
/// # Errors
/// What the system said; a folder that is not there has no files.
pub(super) fn look(data_dir: &Path) -> io::Result<Vec<(PathBuf, File, u64)>> {
    let dir = data_dir.join(AUDIT_DIR);
    let lock = match File::open(dir.join(LOCK_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        lock => Some(lock?),
    };
    if let Some(lock) = &lock {
        lock.lock_shared()?;
    }
    let paths = match list(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        paths => paths?,
    };
    let open = |path: PathBuf| {
        let file = File::open(&path)?;
        let len = file.metadata()?.len();
        Ok((path, file, len))
    };
    paths.into_iter().map(open).collect()
}

/// The log's files, oldest first.
///
/// # Errors
/// What the system said about the folder.
pub(super) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("audit-") && name.ends_with(".jsonl") {
            paths.push(path);
        }
    }
    // The numbers in the names have leading zeros.
    paths.sort();
    Ok(paths)
}

fn name_of(seq: u64) -> String {
    format!("audit-{seq:020}.jsonl")
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Locks the log, or gives up after a while.
fn lock(file: &File) -> io::Result<()> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(LOCK_POLL);
            }
            Err(TryLockError::WouldBlock) => {
                let why = "another process has held the audit log's lock for too long";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
            }
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
}

fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

fn unusable(dir: &Path, error: &io::Error) -> Error {
    Error::Audit { why: format!("{}: {error}", dir.display()) }
}

/// The last whole line and how many bytes are whole.
fn whole_part(bytes: &[u8]) -> (Option<&[u8]>, usize) {
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return (None, 0) };
    let start = bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (Some(&bytes[start..end]), end + 1)
}

impl AuditFiles {
    /// Opens the log of a data folder, or begins one. A line that a crash has left unfinished is
    /// cut off, and a line says so.
    ///
    /// # Errors
    /// [`Error::Audit`] when its last line is not one of ours, or the files cannot be used.
    pub fn open(data_dir: &Path, bounds: AuditBounds) -> Result<AuditFiles> {
        let files = AuditFiles::open_locked(data_dir, bounds)?;
        files.lock.unlock().map_err(|error| unusable(&files.dir, &error))?;
        Ok(files)
    }

    /// Appends one line durably, beside a node that may be running. It never begins a new file, as
    /// a running node goes on with the one that it has.
    ///
    /// # Errors
    /// [`Error::Audit`].
    pub fn append_once(data_dir: &Path, entry: Entry) -> Result<()> {
        let bounds = AuditBounds { file_bytes_max: u64::MAX, ..AuditBounds::default() };
        // Locked from the choice of the file to the sync: a node may not rotate in between.
        let mut files = AuditFiles::open_locked(data_dir, bounds)?;
        let appended = files.append_locked(&[entry]).and_then(|()| files.sync());
        appended.map_err(|failed| Error::Audit { why: failed.to_string() })
    }

    fn open_locked(data_dir: &Path, bounds: AuditBounds) -> Result<AuditFiles> {
        let dir = data_dir.join(AUDIT_DIR);
        let failed = |error: io::Error| unusable(&dir, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let lock = open_file(&dir.join(LOCK_FILE)).map_err(failed)?;
        self::lock(&lock).map_err(failed)?;
        let (path, is_new) = newest(&dir).map_err(failed)?;
        let file = open_file(&path).map_err(failed)?;
        let (dir, chain) = (dir.clone(), Chain::default());
        let mut files = AuditFiles { dir, bounds, lock, file, len: 0, chain, is_dirty: false };
        let opened = match is_new {
            true => files.begin().and_then(|()| files.sync_begun()),
            false => files.take_over(),
        };
        opened.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Error::Audit {
                why: format!(
                    "{}: the last line is not one of the audit log; look at it with \
                     `no audit verify`, then move the folder away to begin anew",
                    path.display()
                ),
            },
            _ => failed(error),
        })?;
        Ok(files)
    }

    /// Appends lines, all or none; they are durable only after [`AuditFiles::sync`].
    ///
    /// # Errors
    /// [`Failed::Write`], and then nothing was appended; [`Failed::Sync`] when a file that is full
    /// could not be synced.
    pub fn append(&mut self, entries: &[Entry]) -> std::result::Result<(), Failed> {
        lock(&self.lock).map_err(Failed::Write)?;
        let appended = self.append_locked(entries);
        let unlocked = self.lock.unlock().map_err(Failed::Write);
        appended.and(unlocked)
    }

    fn append_locked(&mut self, entries: &[Entry]) -> std::result::Result<(), Failed> {
        self.take_over().map_err(Failed::Write)?;
        // At most 1 KiB and the frame's few hundred bytes a line: what follows fits or rotates.
        if self.bounds.file_bytes_max <= self.len {
            self.file.sync_all().map_err(Failed::Sync)?;
            self.rotate()?;
        }
        self.write(entries).map_err(Failed::Write)
    }

    fn write(&mut self, entries: &[Entry]) -> io::Result<()> {
        let (at, before) = (now(), self.chain);
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| self.chain.line(&at, entry)).collect();
        self.put(&bytes).inspect_err(|_| self.chain = before)
    }

    /// Writes bytes at the end, or takes back what of them was written.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            self.file.set_len(self.len)?;
            return Err(error);
        }
        self.len += bytes.len() as u64;
        self.is_dirty = true;
        Ok(())
    }

    /// Puts another file in the place of the current one.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = file;
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// [`Failed::Sync`]; to try again proves nothing.
    pub fn sync(&mut self) -> std::result::Result<(), Failed> {
        self.is_dirty = false;
        self.file.sync_data().map_err(Failed::Sync)
    }

    /// Whether a sync is due.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Takes over what stands in the file beyond `len`: lines of others, or all at the opening.
    fn take_over(&mut self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        if len == self.len {
            return Ok(());
        }
        // A file that has shrunk was cut by somebody; the chain in memory shows it in the check.
        self.len = self.len.min(len);
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.len))?;
        self.file.read_to_end(&mut bytes)?;
        let (last, whole) = whole_part(&bytes);
        if let Some(last) = last {
            self.chain = audit::after(last).map_err(|_| io::ErrorKind::InvalidData)?;
        }
        self.len += whole as u64;
        let torn = bytes.len() - whole;
        if 0 < torn {
            self.file.set_len(self.len)?;
            let reason = format!("an unfinished line of {torn} bytes was cut off");
            self.write(&[Entry::of_log(TORN, "audit", reason)])?;
        }
        Ok(())
    }

    /// Begins the file that follows this one, and removes the oldest that are too many.
    fn rotate(&mut self) -> std::result::Result<(), Failed> {
        let path = self.dir.join(name_of(self.chain.seq + 1));
        let file = open_file(&path).map_err(Failed::Write)?;
        let full = (std::mem::replace(&mut self.file, file), std::mem::take(&mut self.len));
        if let Err(error) = self.begin() {
            // What was not written leaves nothing behind; the full file is still the current one.
            (self.file, self.len) = full;
            let _ = fs::remove_file(&path);
            return Err(Failed::Write(error));
        }
        self.sync_begun().map_err(Failed::Sync)?;
        let paths = list(&self.dir).map_err(Failed::Write)?;
        for path in &paths[..paths.len().saturating_sub(self.bounds.files_max.max(1))] {
            fs::remove_file(path).map_err(Failed::Write)?;
        }
        Ok(())
    }

    /// Writes the first line of a file.
    fn begin(&mut self) -> io::Result<()> {
        let before = self.chain;
        let line = self.chain.first_line(&now(), &name_of(before.seq + 1));
        self.put(&line).inspect_err(|_| self.chain = before)
    }

    fn sync_begun(&mut self) -> io::Result<()> {
        self.is_dirty = false;
        self.file.sync_all()?;
        File::open(&self.dir)?.sync_all()
    }
}

/// The file to go on with, and whether it is to be begun. Files without one whole line are
/// removed: a crash came between their creation and their first line.
fn newest(dir: &Path) -> io::Result<(PathBuf, bool)> {
    let mut paths = list(dir)?;
    while let Some(path) = paths.pop() {
        let mut head = vec![0; audit::LINE_BYTES_MAX];
        let read = File::open(&path)?.take(audit::LINE_BYTES_MAX as u64).read(&mut head)?;
        if head[..read].contains(&b'\n') || read == audit::LINE_BYTES_MAX {
            return Ok((path, false));
        }
        fs::remove_file(&path)?;
    }
    Ok((dir.join(name_of(1)), true))
}
