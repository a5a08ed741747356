//! Whether an agent is well: what came of its attempts lately, and the circuit breaker that holds
//! back the starts of one whose attempts keep failing.
//!
//! ```text
//! closed ──too few of the last attempts were good──▶ open ──its pause is over, a start──▶ probing
//!    ▲                                                ▲                                      │
//!    │                                                ├──── the attempt failed: twice the ◀──┤
//!    │                                                │     pause                            │
//!    │                                                └──── it ended without a verdict: ◀────┤
//!    │                                                      the next start probes            │
//!    └─────────────────────── it was good, or got somewhere ◀────────────────────────────────┘
//! ```
//!
//! While it is open the agent's tasks wait as they do while it is paused: none is failed by it,
//! though its own deadline may pass. What a client or an operator did (a cancel, a budget, a bad
//! input) says nothing about the agent. Each shard judges by what it saw itself: shards share
//! nothing. (M. Nygard, "Release It!", 2007.)

use crate::id::TaskId;
use crate::task::{State, TaskError};
use crate::time::Mono;

/// Pieces that the window is forgotten in.
const BUCKETS: usize = 10;
/// One of them, in ms: five minutes in all.
const BUCKET_MS: u64 = 30_000;
/// Error codes that are not the agent's doing: of clients, of operators, of nO itself.
const NOT_THE_AGENTS: &[&str] = &[
    "agent_changed",
    "agent_unknown",
    "budget_exhausted",
    "context_malformed",
    "deadline_exceeded",
    "invalid_input",
    "model_filtered",
    "model_length",
    "outbound_refused",
    "outcome_unknown",
    "poison",
    "store_failed",
];

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerRules {
    /// Attempts that must have ended in the window; fewer say nothing. 1 or more.
    pub attempts_min: u32,
    /// Good ones among them, in percent, below which it opens; at most 100.
    pub good_percent_min: u32,
    /// The first pause, in ms; twice as long after each probe that failed.
    pub pause_ms: u64,
    /// The longest pause, in ms.
    pub pause_ms_max: u64,
}

impl Default for BreakerRules {
    fn default() -> BreakerRules {
        BreakerRules {
            attempts_min: 20,
            good_percent_min: 20,
            pause_ms: 10_000,
            pause_ms_max: 300_000,
        }
    }
}

/// What an attempt's end says about its agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It does its work.
    Good,
    /// It does not.
    Bad,
    /// Nothing.
    None,
}

impl Verdict {
    /// The verdict of a task that was running and is now in `state`, with its last error.
    #[must_use]
    pub fn of(state: State, error: Option<&TaskError>) -> Verdict {
        match state {
            State::Succeeded => Verdict::Good,
            State::Scheduled | State::Failed => match error {
                Some(error) if !NOT_THE_AGENTS.contains(&&*error.code) => Verdict::Bad,
                _ => Verdict::None,
            },
            State::Queued | State::Running | State::Waiting | State::Cancelled => Verdict::None,
        }
    }
}

/// Counts of what ended in the last five minutes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recent {
    /// Tasks that succeeded, which is as many attempts.
    pub good: u64,
    /// Attempts that failed by the agent's doing.
    pub bad: u64,
    /// Tasks that failed for good by the agent's doing.
    pub failed: u64,
    /// Tasks, good and failed, that took no longer than the agent's latency objective.
    pub in_time: u64,
}

impl Recent {
    /// Adds another's counts.
    pub fn add(&mut self, more: &Recent) {
        self.good += more.good;
        self.bad += more.bad;
        self.failed += more.failed;
        self.in_time += more.in_time;
    }

    /// Share of good tasks times share of those in time, 0 to 1; `None` where no task ended.
    #[must_use]
    pub fn score(&self) -> Option<f64> {
        let ended = (self.good + self.failed) as f64;
        (0.0 < ended).then(|| self.good as f64 / ended * (self.in_time as f64 / ended))
    }
}

/// [`Recent`] that slides: ten buckets of 30 s, the oldest forgotten as a new one begins.
#[derive(Clone, Debug, Default)]
pub struct Window {
    buckets: [Recent; BUCKETS],
    /// The newest bucket's number since the clock's start; its place is that modulo [`BUCKETS`].
    newest: u64,
}

impl Window {
    /// The counts of now, to add to.
    pub fn now(&mut self, now: Mono) -> &mut Recent {
        let number = (now.0 / BUCKET_MS).max(self.newest);
        for passed in 0..(number - self.newest).min(BUCKETS as u64) {
            self.buckets[((number - passed) % BUCKETS as u64) as usize] = Recent::default();
        }
        self.newest = number;
        &mut self.buckets[(number % BUCKETS as u64) as usize]
    }

    /// The sum of what is not forgotten at `now`.
    #[must_use]
    pub fn sum(&self, now: Mono) -> Recent {
        let gone = (now.0 / BUCKET_MS).saturating_sub(self.newest).min(BUCKETS as u64);
        let mut sum = Recent::default();
        for age in 0..(BUCKETS as u64 - gone).min(self.newest + 1) {
            sum.add(&self.buckets[((self.newest - age) % BUCKETS as u64) as usize]);
        }
        sum
    }
}

/// Whether an agent's attempts may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// They may; where the breaker is open, the first is the probe.
    Passes,
    /// Not before.
    Until(Mono),
    /// Not while a probe is out.
    Probing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Position {
    #[default]
    Closed,
    Open {
        until: Mono,
        pause_ms: u64,
    },
    Probing {
        task: TaskId,
        pause_ms: u64,
    },
}

/// The breaker of one agent on one shard.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    position: Position,
    /// What ended since it closed.
    attempts: Window,
}

impl Breaker {
    /// Whether starts are held back, also while one probes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.position != Position::Closed
    }

    /// Whether an attempt may start at `now`.
    #[must_use]
    pub fn gate(&self, now: Mono) -> Gate {
        match self.position {
            Position::Closed => Gate::Passes,
            Position::Open { until, .. } if now < until => Gate::Until(until),
            Position::Open { .. } => Gate::Passes,
            Position::Probing { .. } => Gate::Probing,
        }
    }

    /// Notes a start that the gate let pass.
    pub fn started(&mut self, task: TaskId) {
        assert!(!matches!(self.position, Position::Probing { .. }), "two probes at once");
        if let Position::Open { pause_ms, .. } = self.position {
            self.position = Position::Probing { task, pause_ms };
        }
    }

    /// Notes that a running attempt got somewhere: for a probe that is enough.
    pub fn progressed(&mut self, task: TaskId) {
        if self.is_probe(task) {
            self.close();
        }
    }

    /// Notes that an attempt ended or was parked.
    pub fn ended(&mut self, now: Mono, task: TaskId, verdict: Verdict, rules: &BreakerRules) {
        let is_probe = self.is_probe(task);
        match (self.position, verdict) {
            (Position::Probing { .. }, Verdict::Good) if is_probe => self.close(),
            (Position::Probing { pause_ms, .. }, Verdict::Bad) if is_probe => {
                let pause_ms = pause_ms.saturating_mul(2).min(rules.pause_ms_max);
                self.position = Position::Open { until: now + pause_ms, pause_ms };
            }
            (Position::Probing { pause_ms, .. }, Verdict::None) if is_probe => {
                self.position = Position::Open { until: now, pause_ms };
            }
            (Position::Closed, Verdict::Good) => self.attempts.now(now).good += 1,
            (Position::Closed, Verdict::Bad) => {
                self.attempts.now(now).bad += 1;
                self.open_if_bad(now, rules);
            }
            // What started before it opened says nothing new.
            _ => {}
        }
    }

    fn open_if_bad(&mut self, now: Mono, rules: &BreakerRules) {
        let Recent { good, bad, .. } = self.attempts.sum(now);
        let is_enough = u64::from(rules.attempts_min) <= good + bad;
        if is_enough && good * 100 < (good + bad) * u64::from(rules.good_percent_min) {
            let pause_ms = rules.pause_ms.min(rules.pause_ms_max);
            self.position = Position::Open { until: now + pause_ms, pause_ms };
        }
    }

    fn is_probe(&self, task: TaskId) -> bool {
        matches!(self.position, Position::Probing { task: probe, .. } if probe == task)
    }

    /// Closes it and forgets what ended before.
    pub fn close(&mut self) {
        *self = Breaker::default();
    }
}

#[cfg(test)]
mod tests;
