//! Sends spans to the collector: a time-out for each try, several tries with growing pauses where
//! the collector says that another may help, and a count of what became of the spans.

use super::{Otlp, SpanCounts, otlp};
use crate::client;
use crate::error::{Error, Result};
use no_auth::Secret;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::{Request, Response, Uri};

/// The longest of one try. Two of them fit into the time that a stop has for this.
const TRY: Duration = Duration::from_secs(4);
/// Tries for one request.
const TRIES: u32 = 5;
/// The pause after the first try; doubled after each.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a collector may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What one try came to.
enum Tried {
    /// Taken, but for so many.
    Taken { rejected: u64 },
    /// Not now; perhaps after this time.
    Later { pause: Option<Duration>, why: String },
    /// Never.
    Refused { why: String },
}

pub(super) struct Sender {
    agent: Agent,
    url: String,
    headers: Vec<(String, Secret)>,
    resource: Value,
    counts: Arc<SpanCounts>,
    is_over: Arc<AtomicBool>,
    is_failing: bool,
}

impl Sender {
    /// A sender that gives up its pauses once `is_over`.
    pub(super) fn new(
        to: &Otlp,
        resource: Value,
        counts: Arc<SpanCounts>,
        is_over: Arc<AtomicBool>,
    ) -> Result<Sender> {
        let uri: Uri = to.url.parse().map_err(|_| Error::Usage(format!("{:?}", to.url)))?;
        let agent = client::config_for(&uri, None)?.timeout_global(Some(TRY)).build().new_agent();
        let (url, headers) = (to.url.clone(), to.headers.clone());
        Ok(Sender { agent, url, headers, resource, counts, is_over, is_failing: false })
    }

    /// Sends them, or gives up and counts them as failed.
    pub(super) fn send(&mut self, spans: Vec<Value>) {
        let count = spans.len() as u64;
        let body = otlp::request(&self.resource, spans);
        let mut pause = PAUSE;
        if self.is_failing && self.is_over.load(Ordering::Relaxed) {
            // A stop waits for a collector once, not for each request.
            self.counts.failed.fetch_add(count, Ordering::Relaxed);
            return;
        }
        for attempt in 1..=TRIES {
            match self.attempt(&body) {
                Tried::Taken { rejected } => return self.taken(count, rejected.min(count)),
                Tried::Refused { why } => {
                    self.say_failing(&why);
                    break;
                }
                Tried::Later { pause: asked, why } => {
                    self.say_failing(&why);
                    if attempt == TRIES || self.is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    self.wait(asked.unwrap_or(pause).min(PAUSE_MAX));
                    pause *= 2;
                }
            }
        }
        self.counts.failed.fetch_add(count, Ordering::Relaxed);
    }

    fn attempt(&self, body: &[u8]) -> Tried {
        let mut request = Request::post(&self.url).header("Content-Type", "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value.reveal());
        }
        let request = match request.body(body) {
            Ok(request) => request,
            Err(error) => return Tried::Refused { why: error.to_string() },
        };
        match self.agent.run(request) {
            Ok(response) => tried(response),
            Err(error) => Tried::Later { pause: None, why: error.to_string() },
        }
    }

    fn taken(&mut self, count: u64, rejected: u64) {
        self.counts.exported.fetch_add(count - rejected, Ordering::Relaxed);
        self.counts.failed.fetch_add(rejected, Ordering::Relaxed);
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(target: "trace", url = self.url, "the collector takes spans again");
        }
    }

    fn say_failing(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(target: "trace", url = self.url, why, "spans cannot be sent");
        }
    }

    /// Sleeps that long, or until the stop.
    fn wait(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.is_over.load(Ordering::Relaxed)
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            std::thread::park_timeout(left);
        }
    }
}

/// What an answer says: OTLP names the statuses after which one tries again.
fn tried(mut response: Response<ureq::Body>) -> Tried {
    let status = response.status().as_u16();
    let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let pause = after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let answer: Value =
        text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    match status {
        200..=299 => {
            // A whole number of 64 bits, which JSON has as text.
            let rejected = &answer["partialSuccess"]["rejectedSpans"];
            let text = rejected.as_str().and_then(|text| text.parse().ok());
            Tried::Taken { rejected: text.or(rejected.as_u64()).unwrap_or(0) }
        }
        429 | 502 | 503 | 504 => Tried::Later { pause, why: format!("status {status}") },
        _ => Tried::Refused { why: format!("status {status}") },
    }
}
