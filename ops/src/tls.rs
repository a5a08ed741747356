//! The certificate that nO serves: read at the start, looked at by the watch loop, and served anew
//! when one of its files has changed. A pair that cannot be served leaves the one before in place
//! and is said in the log and in `/health`, until a good one is there.

use crate::config::Fault;
use crate::error::{Error, Result};
use no_net::tls::{Identity, TlsError, TlsFiles, TlsServed, TlsSource, Validity};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// So many days before its end the log warns of it, at each start and whenever a day is over.
const WARN_DAYS: i64 = 14;

/// What tells that a file is another: inode, length, time of change in ns.
type Stamp = Option<(u64, u64, i64)>;

/// What is served now.
#[derive(Debug)]
struct State {
    validity: Validity,
    fault: Option<String>,
}

/// What is wrong with the certificate, for who asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsHealth(Arc<Mutex<State>>);

impl TlsHealth {
    /// What is wrong; `None` when nothing is.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let state = self.lock();
        let is_over = state.validity.days_left(now_s()) < 0;
        let over = || "the certificate has expired: renew it".to_owned();
        state.fault.clone().or_else(|| is_over.then(over))
    }

    /// The certificate's last second, since 1970.
    #[must_use]
    pub fn ends_at_s(&self) -> i64 {
        self.lock().validity.not_after_s
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files, and who is told of new ones.
#[derive(Debug)]
pub struct TlsWatch {
    files: TlsFiles,
    served: TlsServed,
    health: TlsHealth,
    stamps: [Stamp; 3],
    warned_days: i64,
}

impl TlsWatch {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error::Config`] for what cannot be served, with what to do.
    pub fn start(files: TlsFiles) -> Result<(TlsWatch, TlsSource)> {
        let stamps = stamps(&files);
        let identity = Identity::load(&files, now_s()).map_err(|error| refused(&files, &error))?;
        let (served, source) = TlsServed::new(&identity);
        let state = State { validity: identity.validity, fault: None };
        let health = TlsHealth(Arc::new(Mutex::new(state)));
        let mut watch = TlsWatch { files, served, health, stamps, warned_days: i64::MAX };
        watch.warn();
        Ok((watch, source))
    }

    /// What is wrong, for who asks.
    #[must_use]
    pub fn health(&self) -> TlsHealth {
        self.health.clone()
    }

    /// Serves the files anew if they have changed. Called by the watch loop.
    pub fn look(&mut self) {
        let stamps = stamps(&self.files);
        if stamps != self.stamps {
            self.stamps = stamps;
            self.load();
        }
        self.warn();
    }

    fn load(&mut self) {
        match Identity::load(&self.files, now_s()) {
            Ok(identity) => {
                self.served.replace(&identity);
                *self.health.lock() = State { validity: identity.validity, fault: None };
                self.warned_days = i64::MAX;
                tracing::info!(target: "tls", "a new certificate is served");
            }
            Err(error) => {
                let fault = error.to_string();
                tracing::error!(target: "tls", fault, "the certificate before is served on");
                self.health.lock().fault = Some(fault);
            }
        }
    }

    fn warn(&mut self) {
        let days = self.health.lock().validity.days_left(now_s());
        if days <= WARN_DAYS && days < self.warned_days {
            self.warned_days = days;
            tracing::warn!(target: "tls", days_left = days, "the certificate ends soon: renew it");
        }
    }
}

/// The key of the configuration that the error is about.
fn refused(files: &TlsFiles, error: &TlsError) -> Error {
    let about = match error {
        TlsError::Unreadable { path, .. }
        | TlsError::KeyOpen { path, .. }
        | TlsError::Malformed { path, .. }
        | TlsError::Expired { path, .. }
        | TlsError::NotYet { path, .. }
        | TlsError::Refused { path, .. } => path,
        TlsError::Mismatch { key, .. } => key,
    };
    let key = match about {
        path if *path == files.key => "keyFile",
        path if files.client_ca.as_ref() == Some(path) => "clientCaFile",
        _ => "certFile",
    };
    let (place, path) = ("configuration".to_owned(), format!("service.tls.{key}"));
    Error::Config(vec![Fault { place, path, problem: error.to_string(), hint: None }])
}

fn stamps(files: &TlsFiles) -> [Stamp; 3] {
    let stamp = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.ino(), found.len(), found.mtime() * 1_000_000_000 + found.mtime_nsec()))
    };
    [stamp(&files.cert), stamp(&files.key), files.client_ca.as_deref().and_then(stamp)]
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
