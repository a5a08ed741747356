//! The audit log of a node: the files in `<data>/audit/`, the thread that writes them, and their
//! check. What a line is stands in `no_auth::audit`, who sends one in `no_net::audit`.
//!
//! The thread takes what has come, writes it in one piece and syncs once when a control call is
//! among it; only then are these answered. A write that fails is undone and refuses what it held. A
//! sync that fails is never tried again, as that proves nothing: from then on the log refuses
//! control calls, and health and the log of the node say so.

mod files;
mod verify;

pub use files::{AuditBounds, AuditFiles, Failed};
pub use verify::{Fault, Sound, Verdict, verify};

use crate::config;
use crate::error::{Error, Result};
use no_auth::audit::{Decision, Entry, SUPPRESSED, Who};
use no_net::audit::{AuditInbox, AuditLink, Order};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines that share one write.
const BATCH_LEN_MAX: usize = 256;
/// The number of suppressed denials is written this often, at most; the thread looks as often.
const PAUSE: Duration = Duration::from_secs(1);

/// The writing thread.
#[derive(Debug)]
pub struct AuditWriter(JoinHandle<()>);

impl AuditWriter {
    /// Starts it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(files: AuditFiles, inbox: AuditInbox) -> Result<AuditWriter> {
        let builder = std::thread::Builder::new().name("no-audit".to_owned());
        let thread = builder.spawn(move || run(files, &inbox));
        let failed = |source| Error::File { path: "the audit log's thread".into(), source };
        thread.map(AuditWriter).map_err(failed)
    }

    /// Waits for its end: all links must be gone.
    pub fn join(self) {
        // It panics only where it ends the process.
        let _ = self.0.join();
    }
}

fn run(mut files: AuditFiles, inbox: &AuditInbox) {
    let (mut told, mut told_at) = (0, None::<Instant>);
    loop {
        let mut batch = Vec::new();
        let is_over = match inbox.orders.recv_timeout(PAUSE) {
            Ok(order) => {
                batch.push(order);
                batch.extend(inbox.orders.try_iter().take(BATCH_LEN_MAX - 1));
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        batch.iter().for_each(|order| inbox.taken(order));
        let mut notes = Vec::new();
        if is_over || told_at.is_none_or(|at| PAUSE <= at.elapsed()) {
            let suppressed = inbox.suppressed_since(&mut told);
            if 0 < suppressed {
                told_at = Some(Instant::now());
                let why = format!("{suppressed} denials found no room");
                notes.push(Entry::of_log(SUPPRESSED, "audit", why));
            }
        }
        keep(&mut files, inbox, batch, notes);
        if is_over {
            if files.is_dirty() {
                let _ = files.sync();
            }
            return;
        }
    }
}

/// Writes one batch and answers those who wait for it.
fn keep(files: &mut AuditFiles, inbox: &AuditInbox, batch: Vec<Order>, notes: Vec<Entry>) {
    let counts = &*inbox.counts;
    let (mut entries, mut waiting) = (Vec::new(), Vec::new());
    for order in batch {
        entries.push(order.entry);
        waiting.extend(order.done);
    }
    entries.extend(notes);
    let mut is_kept = !counts.is_failed.load(Ordering::Relaxed);
    if is_kept && !entries.is_empty() {
        let kept = files.append(&entries);
        let kept = kept.and_then(|()| if waiting.is_empty() { Ok(()) } else { files.sync() });
        match kept {
            Ok(()) => add(&counts.lines, entries.len() as u64),
            Err(failed) => {
                is_kept = false;
                add(&counts.errors, 1);
                tracing::error!(target: "audit", %failed, "the audit log was not written");
                if let Failed::Sync(_) = failed {
                    counts.is_failed.store(true, Ordering::Relaxed);
                    let until = "control calls are refused until the node is started anew";
                    tracing::error!(target: "audit", until, "a sync of the audit log failed");
                }
            }
        }
    }
    for done in waiting {
        let _ = done.send(is_kept);
    }
}

fn add(count: &AtomicU64, more: u64) {
    // ORDER: a count that nothing else depends on.
    count.fetch_add(more, Ordering::Relaxed);
}

/// The log's files, oldest first, each open and with the bytes that it had while nobody wrote.
///
/// # Errors
/// What the system said; a folder without a log has no files.
pub(crate) fn files_of(data_dir: &Path) -> std::io::Result<Vec<(PathBuf, File, u64)>> {
    files::look(data_dir)
}

/// What is wrong with the log, for health.
#[must_use]
pub fn fault(link: &AuditLink) -> Option<String> {
    let is_failed = link.counts().is_failed.load(Ordering::Relaxed);
    is_failed.then(|| "a sync of the audit log failed: control calls are refused".to_owned())
}

/// Keeps what a command of ours does to a data folder, durably, beside a node that may be running;
/// nothing when the configuration has the log off.
///
/// # Errors
/// [`Error::Audit`] when the log cannot be written: the command must not go on.
pub fn keep_command(data_dir: &Path, what: &'static str, on: &str, reason: String) -> Result<()> {
    let raw = config::read(&config::Options::default()).ok();
    let is_on = raw.and_then(|raw| raw.get("security.audit.enabled"));
    if is_on.and_then(|found| found.value.as_bool()) == Some(false) {
        return Ok(());
    }
    let subject = format!("uid:{}", rustix::process::geteuid().as_raw());
    let who = Who { subject: subject.into(), tenant: "-".into(), method: "cli" };
    let entry = Entry {
        who: Some(who),
        from: None,
        what,
        on: on.to_owned().into(),
        decision: Decision::Allowed,
        reason: reason.into(),
    };
    AuditFiles::append_once(data_dir, entry)
}

#[cfg(test)]
mod tests;
