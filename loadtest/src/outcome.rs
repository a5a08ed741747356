//! What came back: counters, and histograms in nanoseconds. One writer, no locks.

use crate::parse::Head;
use crate::timeline::{Second, Timeline};
use hdrhistogram::Histogram;
use memchr::memmem::Finder;
use std::collections::BTreeMap;

/// Longest latency told apart, in ns: an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// A failure that is not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No connection could be made.
    Connect,
    /// The server closed the connection with the answer owing.
    Closed,
    /// The connection was reset, or failed in another way.
    Reset,
    /// No answer within the time-out.
    Timeout,
    /// The answer was not HTTP.
    Malformed,
}

impl Failure {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::Closed => "closed",
            Failure::Reset => "reset",
            Failure::Timeout => "timeout",
            Failure::Malformed => "malformed",
        }
    }
}

/// A request under way: when it should have left, and when it did; ns since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Which it is, from 0: what its idempotency key is made of.
    pub number: u64,
    /// By the schedule; as it left in a closed loop.
    pub intended_ns: u64,
    /// Into the socket.
    pub sent_ns: u64,
}

/// Everything counted during one load.
#[derive(Debug)]
pub struct Outcome {
    /// Requests written to a socket.
    pub sent: u64,
    /// Those of them written while the load was still on.
    pub sent_in_time: u64,
    /// Requests given up before, for want of a connection.
    pub unsent: u64,
    /// Of `sent`, those that had been sent before: what a careful client does.
    pub sent_again: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers 429 and 503 that told when to come back.
    pub retry_after: u64,
    /// Requests without an answer, by why; connections that could not be made.
    pub failures: BTreeMap<Failure, u64>,
    /// Answers 2xx that came while the load was still on.
    pub accepted_in_time: u64,
    /// Tasks acknowledged.
    pub acknowledged: u64,
    /// Tasks acknowledged while the load was still on.
    pub acknowledged_in_time: u64,
    /// Tasks that a batch refused in their rows.
    pub rows_refused: u64,
    /// Latency of 2xx from the intended send time.
    pub accepted: Histogram<u64>,
    /// Latency of 2xx from the real send time: what a driver that waits would have seen.
    pub accepted_service: Histogram<u64>,
    /// Latency of 429 and 503 from the intended send time.
    pub refused: Histogram<u64>,
    /// Latency of 429 and 503 from the real send time.
    pub refused_service: Histogram<u64>,
    /// Ids of the tasks acknowledged, each as often as it was; absent unless they are kept.
    pub ids: Option<Vec<u128>>,
    /// What each second saw.
    pub timeline: Timeline,
    /// When the load was to end, ns since the start.
    end_ns: u64,
    rows: Option<Rows>,
}

/// Finds the rows of a batch's answer.
#[derive(Debug)]
struct Rows(Finder<'static>);

impl Rows {
    fn new() -> Rows {
        Rows(Finder::new(br#"{"status":"#))
    }

    /// Rows with a 2xx, and all others. A row opens with its status, and no task or problem does.
    fn count(&self, body: &[u8]) -> (u64, u64) {
        let (mut taken, mut refused) = (0, 0);
        for at in self.0.find_iter(body) {
            match body.get(at + br#"{"status":"#.len()) {
                Some(b'2') => taken += 1,
                _ => refused += 1,
            }
        }
        (taken, refused)
    }
}

/// The id of the task that a body shows: a UUID, as the body's first member.
fn task_id(body: &[u8]) -> Option<u128> {
    let text = body.strip_prefix(br#"{"id":""#)?.get(..36)?;
    parse_id(std::str::from_utf8(text).ok()?)
}

/// A UUID in its usual form, as a number.
pub(crate) fn parse_id(text: &str) -> Option<u128> {
    let digits: String = text.split('-').collect();
    (digits.len() == 32).then(|| u128::from_str_radix(&digits, 16).ok())?
}

/// An empty histogram: three digits from 1 µs to an hour.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    // The bounds are constants that the library accepts; the fallback resizes by itself.
    Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3)
        .or_else(|_| Histogram::new(3))
        .unwrap_or_else(|_| unreachable!("three digits are allowed"))
}

/// What one answer means for tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A 2xx acknowledges one task.
    One,
    /// A 2xx acknowledges as many as its rows say.
    Rows,
    /// No task.
    None,
}

impl Outcome {
    /// Nothing yet, for a load that ends then.
    #[must_use]
    pub fn new(rule: Rule, end_ns: u64) -> Outcome {
        Outcome {
            sent: 0,
            sent_in_time: 0,
            unsent: 0,
            sent_again: 0,
            statuses: BTreeMap::new(),
            retry_after: 0,
            failures: BTreeMap::new(),
            accepted_in_time: 0,
            acknowledged: 0,
            acknowledged_in_time: 0,
            rows_refused: 0,
            accepted: histogram(),
            accepted_service: histogram(),
            refused: histogram(),
            refused_service: histogram(),
            ids: None,
            timeline: Timeline::new(rule != Rule::None),
            end_ns,
            rows: (rule == Rule::Rows).then(Rows::new),
        }
    }

    /// Records an answer that came at `now_ns`.
    pub fn answer(&mut self, head: Head, body: &[u8], sent: Sent, now_ns: u64) {
        let latency_ns = now_ns.saturating_sub(sent.intended_ns);
        let service_ns = now_ns.saturating_sub(sent.sent_ns);
        *self.statuses.entry(head.status).or_default() += 1;
        let second = self.timeline.at(now_ns);
        match head.status {
            200..=299 => {
                second.accepted += 1;
                self.accepted.saturating_record(latency_ns);
                self.accepted_service.saturating_record(service_ns);
                self.timeline.latency(latency_ns);
                self.tasks(body, now_ns);
            }
            429 | 503 => {
                second.refused += 1;
                self.retry_after += u64::from(head.has_retry_after);
                self.refused.saturating_record(latency_ns);
                self.refused_service.saturating_record(service_ns);
            }
            _ => second.failed += 1,
        }
    }

    fn tasks(&mut self, body: &[u8], now_ns: u64) {
        let (taken, refused) = match &self.rows {
            Some(rows) => rows.count(body),
            None => (u64::from(self.timeline.has_tasks), 0),
        };
        if let Some(ids) = &mut self.ids {
            // An answer without one acknowledges nothing that could be found again: it is missed.
            ids.extend(task_id(body));
        }
        self.acknowledged += taken;
        self.rows_refused += refused;
        self.timeline.at(now_ns).tasks += taken;
        if now_ns <= self.end_ns {
            self.accepted_in_time += 1;
            self.acknowledged_in_time += taken;
        }
    }

    /// Records that so many requests were written.
    pub fn sent(&mut self, count: u64, now_ns: u64) {
        self.sent += count;
        if now_ns <= self.end_ns {
            self.sent_in_time += count;
        }
        self.timeline.at(now_ns).sent += count;
    }

    /// Records so many requests or connections that failed.
    pub fn failed(&mut self, failure: Failure, count: u64, now_ns: u64) {
        if 0 < count {
            *self.failures.entry(failure).or_default() += count;
            self.timeline.at(now_ns).failed += count;
        }
    }

    /// The seconds that are over by then and were not given before.
    pub fn seconds_over(&mut self, now_ns: u64) -> &[Second] {
        self.timeline.over(now_ns)
    }

    /// Answers with a status in that range.
    #[must_use]
    pub fn answers(&self, range: std::ops::RangeInclusive<u16>) -> u64 {
        self.statuses.range(range).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, has_retry_after: bool) -> Head {
        Head { status, has_retry_after, closes: false }
    }

    #[test]
    fn latency_counts_from_the_intended_time_and_service_from_the_real_one() {
        let mut outcome = Outcome::new(Rule::One, 1_000_000_000);
        // Two requests that a stall of a second held back, and one refusal.
        let late = Sent { number: 0, intended_ns: 0, sent_ns: 1_000_000_000 };
        outcome.answer(head(202, false), b"", late, 1_002_000_000);
        outcome.answer(
            head(202, false),
            b"",
            Sent { intended_ns: 5_000_000, ..late },
            1_002_000_000,
        );
        outcome.answer(head(429, true), b"", late, 1_001_000_000);
        let ms = |histogram: &Histogram<u64>| histogram.max() / 1_000_000;
        assert_eq!((ms(&outcome.accepted), ms(&outcome.accepted_service)), (1_002, 2));
        assert_eq!((ms(&outcome.refused), ms(&outcome.refused_service)), (1_001, 1));
        assert_eq!((outcome.acknowledged, outcome.acknowledged_in_time), (2, 0));
        assert_eq!((outcome.retry_after, outcome.answers(200..=299)), (1, 2));
        assert_eq!(outcome.answers(429..=429), 1);
    }

    #[test]
    fn rows_of_a_batch_are_counted_by_their_status() {
        let mut outcome = Outcome::new(Rule::Rows, 10);
        let body = br#"{"items":[{"status":202,"task":{}},{"status":503,"problem":{}},
            {"status":200,"task":{"id":1,"status":2}},{"status":422,"problem":{"t":1,"status":422}}]}"#;
        let sent = Sent::default();
        outcome.answer(head(200, false), body, sent, 5);
        assert_eq!((outcome.acknowledged, outcome.rows_refused), (2, 2));
        outcome.answer(head(503, true), br#"{"status":503}"#, sent, 5);
        assert_eq!((outcome.acknowledged, outcome.rows_refused), (2, 2));
    }

    #[test]
    fn ids_are_kept_where_they_are_asked_for() {
        let mut outcome = Outcome { ids: Some(Vec::new()), ..Outcome::new(Rule::One, 10) };
        let body = br#"{"id":"019ab8e0-c2af-702a-8000-000000000007","agent":"echo"}"#;
        outcome.answer(head(202, false), body, Sent::default(), 5);
        outcome.answer(head(202, false), br#"{"id":"7"}"#, Sent::default(), 5);
        outcome.answer(head(503, true), body, Sent::default(), 5);
        assert_eq!(outcome.ids, Some(vec![0x019a_b8e0_c2af_702a_8000_0000_0000_0007]));
    }

    #[test]
    fn a_get_acknowledges_no_task() {
        let mut outcome = Outcome::new(Rule::None, 10);
        outcome.answer(head(200, false), b"", Sent::default(), 5);
        assert_eq!((outcome.acknowledged, outcome.answers(200..=299)), (0, 1));
        outcome.failed(Failure::Closed, 0, 5);
        assert!(outcome.failures.is_empty());
    }
}
