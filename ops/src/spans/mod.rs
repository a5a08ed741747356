//! Traces: a span for each task, attempt and step, sent to a collector over OTLP.
//!
//! A span is made of events that are durable, never of what might yet be lost: the journal's thread
//! hands over facts behind its commit ([`tap`]), one thread makes spans of them ([`build`]), writes
//! them ([`otlp`]) and sends them ([`send`]). Nobody waits for that thread: what finds its queue
//! full is dropped and counted. Nothing is held open for a task: a span is made when it ends, of
//! ids that come of the task's ([`no_engine::trace`]), so that a restart goes on in the same trace.
//!
//! The OpenTelemetry SDK was rejected: it holds a span in memory until it ends, which a loop does
//! after days and a crash never, and its exporter wants an async runtime of its own.

mod build;
mod otlp;
mod send;
mod tap;

pub use tap::{Tap, Traced};

use crate::config::Config;
use crate::error::{Error, Result};
use build::Builder;
use no_auth::Secret;
use no_engine::port::Reader;
use no_engine::trace::Sampling;
use send::Sender;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tap::Fact;

/// Most spans in one request.
const BATCH_SPANS_MAX: usize = 512;
/// The longest that a span waits for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// Commits whose facts wait for the thread, at most.
const COMMITS_MAX: usize = 4_096;
/// Facts that wait for the thread, at most: about 200 bytes each.
const FACTS_MAX: usize = 32_768;

/// Where traces go, as the configuration says.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// The URL that spans are sent to.
    pub url: String,
    /// Headers of each request; values are secrets.
    pub headers: Vec<(String, Secret)>,
    /// What the node calls itself.
    pub service_name: String,
    /// Which traces are kept where no caller has said.
    pub sampling: Sampling,
}

impl PartialEq for Otlp {
    /// Whether both say the same; secrets are compared by what they hold.
    fn eq(&self, other: &Otlp) -> bool {
        let plain = |otlp: &Otlp| (otlp.url.clone(), otlp.service_name.clone(), otlp.sampling);
        let pairs = self.headers.iter().zip(&other.headers);
        let mut same = pairs.map(|(a, b)| a.0 == b.0 && a.1.reveal() == b.1.reveal());
        plain(self) == plain(other)
            && self.headers.len() == other.headers.len()
            && same.all(|is_same| is_same)
    }
}

impl Eq for Otlp {}

/// What became of spans, since the start.
#[derive(Debug, Default)]
pub struct SpanCounts {
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl SpanCounts {
    /// Each outcome with its count: `exported` were taken by the collector, `dropped` found the
    /// queue full, `failed` were not taken.
    #[must_use]
    pub fn read(&self) -> [(&'static str, u64); 3] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("exported", count(&self.exported)),
            ("dropped", count(&self.dropped)),
            ("failed", count(&self.failed)),
        ]
    }
}

/// The thread that sends spans.
pub struct Exporter {
    thread: JoinHandle<()>,
    is_over: Arc<AtomicBool>,
}

impl Exporter {
    /// Starts the thread, where the configuration has an endpoint; what journals hand facts to.
    /// `reader` is asked for histories whose beginning this process has not seen.
    ///
    /// # Errors
    /// When the roots of TLS cannot be used, or there is no thread.
    pub fn start<R: Reader + Send + 'static>(
        config: &Config,
        counts: &Arc<SpanCounts>,
        reader: impl FnOnce() -> Result<R>,
    ) -> Result<Option<(Exporter, Tap)>> {
        let Some(otlp) = &config.monitoring.otlp else { return Ok(None) };
        let resource = otlp::resource(&otlp.service_name, &config.service.environment);
        let is_over = Arc::new(AtomicBool::new(false));
        let sender = Sender::new(otlp, resource, Arc::clone(counts), Arc::clone(&is_over))?;
        let (commits, inbox) = mpsc::sync_channel(COMMITS_MAX);
        let queued = Arc::new(AtomicUsize::new(0));
        let tap = Tap::new(commits, Arc::clone(&queued), Arc::clone(counts), otlp.sampling);
        let builder = Builder::new(reader()?);
        let mut run = Run { inbox, queued, builder, sender, pending: Vec::new(), since: None };
        let failed = |source| Error::File { path: "thread no-spans".into(), source };
        let named = std::thread::Builder::new().name("no-spans".to_owned());
        let thread = named.spawn(move || run.all()).map_err(failed)?;
        Ok(Some((Exporter { thread, is_over }, tap)))
    }

    /// Sends what is left, with one try, and ends the thread. The journals' threads must have
    /// ended.
    pub fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // It panics only where it ends the process.
        let _ = self.thread.join();
    }
}

struct Run<R> {
    inbox: Receiver<Vec<Fact>>,
    queued: Arc<AtomicUsize>,
    builder: Builder<R>,
    sender: Sender,
    pending: Vec<Value>,
    /// When the oldest of `pending` came.
    since: Option<Instant>,
}

impl<R: Reader> Run<R> {
    fn all(&mut self) {
        loop {
            let left =
                self.since.map_or(BATCH_DELAY, |since| BATCH_DELAY.saturating_sub(since.elapsed()));
            match self.inbox.recv_timeout(left) {
                Ok(facts) => self.take(facts),
                Err(RecvTimeoutError::Timeout) => self.send(),
                Err(RecvTimeoutError::Disconnected) => return self.send(),
            }
            if self.since.is_some_and(|since| BATCH_DELAY <= since.elapsed()) {
                self.send();
            }
        }
    }

    fn take(&mut self, facts: Vec<Fact>) {
        self.queued.fetch_sub(facts.len(), Ordering::Relaxed);
        for fact in facts {
            self.builder.take(&fact, &mut self.pending);
            if BATCH_SPANS_MAX <= self.pending.len() {
                self.send();
            }
        }
        if self.since.is_none() && !self.pending.is_empty() {
            self.since = Some(Instant::now());
        }
    }

    fn send(&mut self) {
        self.since = None;
        if !self.pending.is_empty() {
            self.sender.send(std::mem::take(&mut self.pending));
        }
    }
}

#[cfg(test)]
mod tests;
