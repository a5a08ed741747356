//! Asks a few endpoints ten times a second while somebody else makes the load: does an operator
//! still get an answer. A thread and a connection for each, latency from the intended time.

use crate::error::{Error, Result};
use crate::outcome::histogram;
use crate::server::client;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// From one question to the next: ten a second.
const EVERY: Duration = Duration::from_millis(100);
/// An answer that takes longer is a failure.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What one endpoint answered.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) path: &'static str,
    pub(crate) latency: Histogram<u64>,
    pub(crate) failures: u64,
}

/// Probes at work; they end with [`Probers::finish`] or when dropped.
#[derive(Debug)]
pub(crate) struct Probers {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Probed>>,
}

impl Probers {
    /// Starts one for each path.
    pub(crate) fn start(url: &str, paths: &[&'static str]) -> Result<Probers> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut probers = Probers { is_over, threads: Vec::with_capacity(paths.len()) };
        for path in paths {
            let (is_over, url) = (Arc::clone(&probers.is_over), url.trim_end_matches('/'));
            let (path, url) = (*path, format!("{url}{path}"));
            let thread = std::thread::Builder::new().name(format!("probe {path}"));
            let thread = thread.spawn(move || probe(path, &url, &is_over));
            probers.threads.push(thread.map_err(Error::system("a thread"))?);
        }
        Ok(probers)
    }

    /// Ends them and gives what they saw.
    pub(crate) fn finish(mut self) -> Vec<Probed> {
        self.end()
    }

    fn end(&mut self) -> Vec<Probed> {
        // ORDER: what a probe saw is handed over by joining it.
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).filter_map(|thread| thread.join().ok()).collect()
    }
}

impl Drop for Probers {
    fn drop(&mut self) {
        self.end();
    }
}

fn probe(path: &'static str, url: &str, is_over: &AtomicBool) -> Probed {
    let agent = client(ANSWER_MAX);
    let mut probed = Probed { path, latency: histogram(), failures: 0 };
    let started_at = Instant::now();
    for k in 0_u32.. {
        let intended_at = started_at + EVERY * k;
        std::thread::sleep(intended_at.saturating_duration_since(Instant::now()));
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let is_good = agent.get(url).call().is_ok_and(|mut answer| {
            answer.status() == 200 && answer.body_mut().read_to_vec().is_ok()
        });
        if is_good {
            let ns = intended_at.elapsed().as_nanos();
            probed.latency.saturating_record(u64::try_from(ns).unwrap_or(u64::MAX));
        } else {
            probed.failures += 1;
        }
    }
    probed
}
