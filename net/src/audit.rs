//! The net cores' end of the audit log: what they hand to the thread that writes it.
//!
//! A control call waits until its line is durable, before anything is done: a log that cannot be
//! written refuses it. A denial waits for nothing: it goes into a queue of bounded length and
//! rate, and what does not fit is counted, so that whoever is refused often enough neither slows
//! the node nor pushes what matters out of the files.

use crate::problem::{Code, Problem};
use no_auth::audit::{Decision, Entry};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::oneshot;

/// Entries that may wait for the writer.
pub const QUEUE_LEN_MAX: usize = 4_096;
/// Of these, denials; the rest is kept for control calls.
pub const DENIALS_WAITING_MAX: u64 = 3_072;
/// Denials that are written in one second, at most.
pub const DENIALS_PER_S_MAX: u64 = 200;

/// What the writer gets.
pub struct Order {
    /// What is to be kept.
    pub entry: Entry,
    /// Takes the answer once the line is durable, or cannot become it; nobody waits for a denial.
    pub done: Option<oneshot::Sender<bool>>,
}

/// What all ends count.
#[derive(Debug, Default)]
pub struct AuditCounts {
    /// Lines written.
    pub lines: AtomicU64,
    /// Denials that found no room.
    pub suppressed: AtomicU64,
    /// Writes and syncs that failed.
    pub errors: AtomicU64,
    /// A sync has failed: nothing is kept any more.
    pub is_failed: AtomicBool,
    denials_waiting: AtomicU64,
    /// The second since the start, and how many denials it has seen.
    second: AtomicU64,
    in_second: AtomicU64,
}

/// A sender of entries. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditLink {
    orders: SyncSender<Order>,
    counts: Arc<AuditCounts>,
}

/// The writer's end.
pub struct AuditInbox {
    /// Orders as they come; it ends when all links are gone.
    pub orders: Receiver<Order>,
    /// What it counts.
    pub counts: Arc<AuditCounts>,
}

/// Both ends.
#[must_use]
pub fn link() -> (AuditLink, AuditInbox) {
    let (sender, orders) = sync_channel(QUEUE_LEN_MAX);
    let counts = Arc::<AuditCounts>::default();
    (AuditLink { orders: sender, counts: Arc::clone(&counts) }, AuditInbox { orders, counts })
}

impl AuditLink {
    /// What is counted.
    #[must_use]
    pub fn counts(&self) -> &AuditCounts {
        &self.counts
    }

    /// Keeps a control call; returns when its line is durable.
    ///
    /// # Errors
    /// 503 when the log cannot be written: the call must not be made.
    pub async fn control(&self, entry: Entry) -> Result<(), Problem> {
        let (done, is_done) = oneshot::channel();
        if self.counts.is_failed.load(Ordering::Relaxed) {
            return Err(failed());
        }
        if self.orders.try_send(Order { entry, done: Some(done) }).is_err() {
            return Err(Problem::new(Code::QueueFull, "the audit log does not keep up"));
        }
        if is_done.await.unwrap_or(false) { Ok(()) } else { Err(failed()) }
    }

    /// Keeps a denial, or counts it as suppressed. Never waits.
    pub fn deny(&self, entry: Entry, now_s: u64) {
        debug_assert_eq!(entry.decision, Decision::Denied);
        let counts = &*self.counts;
        // ORDER: bounds, not invariants; a race lets a few more in or out.
        if counts.second.swap(now_s, Ordering::Relaxed) != now_s {
            counts.in_second.store(0, Ordering::Relaxed);
        }
        let is_rare = counts.in_second.fetch_add(1, Ordering::Relaxed) < DENIALS_PER_S_MAX;
        let has_room = counts.denials_waiting.load(Ordering::Relaxed) < DENIALS_WAITING_MAX;
        if !is_rare || !has_room || counts.is_failed.load(Ordering::Relaxed) {
            counts.suppressed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        counts.denials_waiting.fetch_add(1, Ordering::Relaxed);
        if self.orders.try_send(Order { entry, done: None }).is_err() {
            counts.denials_waiting.fetch_sub(1, Ordering::Relaxed);
            counts.suppressed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl AuditInbox {
    /// Denials that came since the last call and that no line speaks of yet; `told` is their
    /// number so far.
    pub fn suppressed_since(&self, told: &mut u64) -> u64 {
        let all = self.counts.suppressed.load(Ordering::Relaxed);
        all - std::mem::replace(told, all)
    }

    /// Notes that an order was taken.
    pub fn taken(&self, order: &Order) {
        if order.done.is_none() {
            self.counts.denials_waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn failed() -> Problem {
    Problem::new(Code::AuditFailed, "the audit log cannot be written, so nothing is controlled")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(decision: Decision) -> Entry {
        Entry { decision, ..Entry::of_log("x", "y", String::new()) }
    }

    #[test]
    fn denials_are_bounded_by_rate_and_number_and_the_rest_is_counted() {
        let (link, inbox) = link();
        let deny = |now_s| link.deny(entry(Decision::Denied), now_s);
        (0..300).for_each(|_| deny(1));
        let mut told = 0;
        assert_eq!(inbox.suppressed_since(&mut told), 100);
        assert_eq!(inbox.suppressed_since(&mut told), 0);
        (2..40).for_each(|now_s| (0..200).for_each(|_| deny(now_s)));
        let waiting = std::iter::from_fn(|| inbox.orders.try_recv().ok());
        let taken = waiting.inspect(|order| inbox.taken(order)).count() as u64;
        assert_eq!(taken, DENIALS_WAITING_MAX);
        assert_eq!(inbox.suppressed_since(&mut told), 200 + 38 * 200 - taken);
        deny(50);
        assert_eq!(inbox.orders.try_iter().count(), 1);
    }

    #[tokio::test]
    async fn a_control_call_waits_for_its_line() {
        let (link, inbox) = link();
        for is_kept in [true, false] {
            let answer = async {
                let order = inbox.orders.try_recv().expect("came");
                order.done.expect("somebody waits").send(is_kept).expect("still waits");
            };
            let (kept, ()) = tokio::join!(link.control(entry(Decision::Allowed)), answer);
            assert_eq!(
                kept.map_err(|problem| problem.code),
                match is_kept {
                    true => Ok(()),
                    false => Err(Code::AuditFailed),
                }
            );
        }
        link.counts().is_failed.store(true, Ordering::Relaxed);
        let refused = link.control(entry(Decision::Allowed)).await.expect_err("failed");
        assert_eq!(refused.code, Code::AuditFailed);
        drop(inbox);
        link.counts().is_failed.store(false, Ordering::Relaxed);
        let refused = link.control(entry(Decision::Allowed)).await.expect_err("gone");
        assert_eq!(refused.code, Code::QueueFull);
    }
}
