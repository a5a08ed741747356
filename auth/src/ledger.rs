//! Which local tokens were issued and which are revoked: `<data>/tokens.jsonl`, 0600, appended to
//! and never rewritten.
//!
//! ```text
//! {"issued":{"id":"…","subject":"ada","tenant":"default","role":"operator",
//!            "issued_at":s,"expires_at":s,"kid":"…"}}
//! {"revoked":{"id":"…","at":s}}
//! ```
//!
//! A token itself never stands here: its id opens nothing. One line, without a break, is one write
//! followed by a sync, under a lock, as several processes append. A crash may leave an unfinished
//! line: nobody was told that it is there, the next to append ends it, and readers pass over it.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

/// The ledger's file in the data folder.
pub const LEDGER_FILE: &str = "tokens.jsonl";
/// Longest ledger that is read, in bytes.
pub const LEDGER_BYTES_MAX: u64 = 64 << 20;

/// One token that was issued; never the token itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Issued {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub subject: String,
    /// Whose tasks it opens.
    pub tenant: String,
    /// Its role.
    pub role: String,
    /// When it was made, in s since 1970.
    pub issued_at: u64,
    /// When it ends, in s since 1970.
    pub expires_at: u64,
    /// The name of the key that signed it; absent in lines of before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Issued(Issued),
    Revoked { id: String, at: u64 },
}

/// What the ledger says of one token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// What was issued.
    pub issued: Issued,
    /// When it was revoked, in s since 1970, if it was.
    pub revoked_at: Option<u64>,
}

/// What a ledger says.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// All tokens by id.
    pub tokens: BTreeMap<String, Known>,
    /// Ids of all that are revoked.
    pub revoked: HashSet<Box<str>>,
}

/// The ledger of a data folder.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
}

impl Ledger {
    /// The ledger of that folder; nothing is opened yet.
    #[must_use]
    pub fn of(data_dir: &Path) -> Ledger {
        Ledger { path: data_dir.join(LEDGER_FILE) }
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything in it, nothing when there is none yet.
    ///
    /// # Errors
    /// [`Error::FileOpen`] when others may read it; [`Error::File`].
    pub fn read(&self) -> Result<Entries> {
        let mut entries = Entries::default();
        let Some(text) = crate::local::read_secret(&self.path)? else { return Ok(entries) };
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(Line::Issued(issued)) => {
                    let known = Known { issued, revoked_at: None };
                    entries.tokens.insert(known.issued.id.clone(), known);
                }
                Ok(Line::Revoked { id, at }) => {
                    if let Some(known) = entries.tokens.get_mut(&id) {
                        known.revoked_at.get_or_insert(at);
                    }
                    entries.revoked.insert(id.into());
                }
                // Unfinished; see the head of this file.
                Err(_) => {}
            }
        }
        Ok(entries)
    }

    /// Notes a token that was issued; durable when it returns.
    ///
    /// # Errors
    /// [`Error::File`]; the token must not be given out then.
    pub fn issued(&self, issued: &Issued) -> Result<()> {
        self.append(&Line::Issued(issued.clone()))
    }

    /// Revokes a token; durable when it returns.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn revoke(&self, id: &str, now_s: u64) -> Result<()> {
        self.append(&Line::Revoked { id: id.to_owned(), at: now_s })
    }

    fn append(&self, line: &Line) -> Result<()> {
        let failed = |source| Error::File { path: self.path.clone(), source };
        let mut bytes = serde_json::to_vec(line).map_err(|e| failed(e.into()))?;
        bytes.push(b'\n');
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&self.path).map_err(failed)?;
        file.lock().map_err(failed)?;
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if LEDGER_BYTES_MAX < len {
            return Err(failed(ErrorKind::FileTooLarge.into()));
        }
        if 0 < len {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).map_err(failed)?;
            file.read_exact(&mut last).map_err(failed)?;
            if last != *b"\n" {
                bytes.insert(0, b'\n');
            }
        }
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

/// The ids that are revoked, as verifiers see them. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Revoked(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ids: RwLock<HashSet<Box<str>>>,
    version: AtomicU64,
}

impl Revoked {
    /// Grows by one with each change: a verifier that has seen another forgets what it remembers.
    #[must_use]
    pub fn version(&self) -> u64 {
        // ORDER: acquires the set that `set` has released with it.
        self.0.version.load(Ordering::Acquire)
    }

    /// Whether this token is revoked.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.0.ids.read().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// Takes over what a ledger says; whether it was anything new.
    pub fn set(&self, ids: HashSet<Box<str>>) -> bool {
        let mut now = self.0.ids.write().unwrap_or_else(PoisonError::into_inner);
        if *now == ids {
            return false;
        }
        *now = ids;
        drop(now);
        // ORDER: releases the set before its version.
        self.0.version.fetch_add(1, Ordering::Release);
        true
    }
}

/// Looks at a ledger's file from time to time, and reads it when it has changed.
#[derive(Debug)]
pub struct LedgerWatch {
    ledger: Ledger,
    revoked: Revoked,
    seen: Option<(SystemTime, u64)>,
}

impl LedgerWatch {
    /// A watch that has read the ledger once.
    ///
    /// # Errors
    /// As [`Ledger::read`].
    pub fn start(ledger: Ledger) -> Result<LedgerWatch> {
        let mut watch = LedgerWatch { ledger, revoked: Revoked::default(), seen: None };
        watch.look()?;
        Ok(watch)
    }

    /// What verifiers ask.
    #[must_use]
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// Reads the ledger if its length or its time has changed; whether tokens were revoked since.
    ///
    /// # Errors
    /// As [`Ledger::read`]; what was known before still holds.
    pub fn look(&mut self) -> Result<bool> {
        let now = match std::fs::metadata(&self.ledger.path) {
            Ok(meta) => Some((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len())),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(source) => return Err(Error::File { path: self.ledger.path.clone(), source }),
        };
        // A ledger that is gone takes no revocation back.
        if now.is_none() || now == self.seen {
            return Ok(false);
        }
        let entries = self.ledger.read()?;
        self.seen = now;
        Ok(self.revoked.set(entries.revoked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn issued(id: &str) -> Issued {
        let text = |text: &str| text.to_owned();
        let (subject, tenant, role) = (text("ada"), text("acme"), text("viewer"));
        let kid = Some(text("0011223344556677"));
        Issued { id: text(id), subject, tenant, role, issued_at: 1, expires_at: 99, kid }
    }

    #[test]
    fn what_was_written_is_read_and_an_unfinished_line_is_passed_over() {
        let data = tempfile::tempdir().expect("folder");
        let ledger = Ledger::of(data.path());
        assert!(ledger.read().expect("nothing yet").tokens.is_empty());
        ledger.issued(&issued("a")).expect("written");
        let mut file = OpenOptions::new().append(true).open(ledger.path()).expect("there");
        file.write_all(br#"{"revoked":{"id":"a","#).expect("torn");
        assert!(ledger.read().expect("read").revoked.is_empty());
        ledger.issued(&issued("b")).expect("written");
        ledger.revoke("a", 7).expect("written");
        ledger.revoke("a", 8).expect("written");
        let entries = ledger.read().expect("read");
        assert_eq!(entries.tokens["a"], Known { issued: issued("a"), revoked_at: Some(7) });
        assert_eq!(entries.tokens["b"].revoked_at, None);
        let mode = std::fs::metadata(ledger.path()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_watch_sees_what_is_revoked_and_forgets_nothing() {
        let data = tempfile::tempdir().expect("folder");
        let ledger = Ledger::of(data.path());
        let mut watch = LedgerWatch::start(ledger.clone()).expect("started");
        let revoked = watch.revoked().clone();
        assert!(!watch.look().expect("looked"));
        ledger.issued(&issued("a")).expect("written");
        assert!(!watch.look().expect("looked"), "nothing is revoked");
        ledger.revoke("a", 7).expect("written");
        let version = revoked.version();
        assert!(watch.look().expect("looked"));
        assert!(revoked.contains("a") && !revoked.contains("b"));
        assert_ne!(revoked.version(), version);
        std::fs::remove_file(ledger.path()).expect("removed");
        assert!(!watch.look().expect("looked"));
        assert!(revoked.contains("a"));
    }
}
