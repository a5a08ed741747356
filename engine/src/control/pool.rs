//! How many slots the node's pool should have: between two bounds, after what runs and waits, held
//! back by CPU and memory. Pure: what was seen comes in once a second, a decision comes out.
//!
//! The need is what runs and what waits for a slot. The pool is left alone while the need is 70 to
//! 80 % of it; outside of that it goes to where the need is 75 %. Three things keep a flapping need
//! from making the pool flap: it grows to the *least* need of the last [`RISE_LEN`] readings and
//! shrinks to the *greatest* of the last [`FALL_LEN`]; both look at readings since the last change
//! alone; and a change waits for its cooldown, which counts from the last change of either
//! direction. Memory past its aim waits for nothing of this.
//!
//! | what is seen | the pool |
//! | --- | --- |
//! | memory past its aim | loses a quarter at once, and again each [`MEMORY_PAUSE_MS`] |
//! | CPU past halfway from its aim to all, for [`RISE_LEN`] readings | shrinks to its aim |
//! | need below 70 %, cooldown over | shrinks to the need |
//! | need above 80 %, CPU and memory to spare, cooldown over | grows to the need, or CPU's aim |
//! | anything else | stays |

use crate::limits::SLOTS_MAX;
use crate::time::Mono;
use std::collections::VecDeque;

/// Readings whose least need a growth goes to.
pub const RISE_LEN: usize = 3;
/// Readings whose greatest need a shrinking goes to.
pub const FALL_LEN: usize = 30;
/// While memory stays past its aim, so long between two shrinkings, in ms: a call under way keeps
/// its slot and its memory until it ends.
pub const MEMORY_PAUSE_MS: u64 = 10_000;
/// The pool grows only with memory this far below its aim, so that growing does not bring it back.
const MEMORY_SPARE: f64 = 0.05;
/// Percent of the pool that the need is let alone within, and where it is brought to.
const NEED_PERCENT_MIN: usize = 70;
/// See [`NEED_PERCENT_MIN`].
const NEED_PERCENT_MAX: usize = 80;
/// See [`NEED_PERCENT_MIN`].
const NEED_PERCENT: usize = 75;

/// What the pool is held to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Aims {
    /// Slots, at least; 1 or more.
    pub slots_min: usize,
    /// Slots, at most; not below `slots_min`.
    pub slots_max: usize,
    /// CPU used, of what may be: above 0, at most 1.
    pub cpu_ratio: f64,
    /// Memory used, of what may be: above 0, at most 1.
    pub memory_ratio: f64,
    /// Least time from a change to the next growth, in ms.
    pub up_cooldown_ms: u64,
    /// Least time from a change to the next shrinking, in ms.
    pub down_cooldown_ms: u64,
}

/// What was seen at one moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Seen {
    /// When, by the monotonic clock.
    pub now: Mono,
    /// Slots in use.
    pub used: usize,
    /// Ready tasks that want a slot and have none.
    pub queued: usize,
    /// CPU used, of what may be; `None` where the kernel does not say.
    pub cpu_ratio: Option<f64>,
    /// Memory used, of what may be; `None` where the kernel does not say.
    pub memory_ratio: Option<f64>,
}

/// Why the pool changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// More runs and waits than the pool is meant to hold.
    Busy,
    /// Less does.
    Idle,
    /// CPU is past its aim.
    Cpu,
    /// Memory is.
    Memory,
}

impl Reason {
    /// In one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::Busy => "busy",
            Reason::Idle => "idle",
            Reason::Cpu => "cpu",
            Reason::Memory => "memory",
        }
    }
}

/// A change of the pool.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Decision {
    /// Slots before.
    pub from: usize,
    /// Slots from now on; never the same.
    pub to: usize,
    /// Why.
    pub reason: Reason,
    /// What it was decided from.
    pub seen: Seen,
}

/// The controller of one node's pool.
#[derive(Clone, Debug)]
pub struct Pool {
    aims: Aims,
    size: usize,
    changed: Option<(Mono, Reason)>,
    /// The last readings since the last change, the newest last; [`FALL_LEN`] at most.
    readings: VecDeque<Seen>,
}

impl Pool {
    /// A pool of the least size. Panics on bounds that are 0, crossed, or above [`SLOTS_MAX`].
    #[must_use]
    pub fn new(aims: Aims) -> Pool {
        assert!(0 < aims.slots_min, "a pool without slots");
        assert!(aims.slots_min <= aims.slots_max && aims.slots_max <= SLOTS_MAX);
        assert!(0.0 < aims.cpu_ratio && 0.0 < aims.memory_ratio);
        let readings = VecDeque::with_capacity(FALL_LEN);
        Pool { aims, size: aims.slots_min, changed: None, readings }
    }

    /// Slots as last decided.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// What the pool is held to.
    #[must_use]
    pub fn aims(&self) -> &Aims {
        &self.aims
    }

    /// Takes a reading, about one a second; the change that follows from it, if any.
    pub fn decide(&mut self, seen: Seen) -> Option<Decision> {
        if FALL_LEN <= self.readings.len() {
            self.readings.pop_front();
        }
        self.readings.push_back(seen);
        let (to, reason) = self.wanted(&seen)?;
        let to = to.clamp(self.aims.slots_min, self.aims.slots_max);
        if to == self.size {
            return None;
        }
        let from = std::mem::replace(&mut self.size, to);
        self.changed = Some((seen.now, reason));
        self.readings.clear();
        Some(Decision { from, to, reason, seen })
    }

    /// The size to go to, before the bounds.
    fn wanted(&self, seen: &Seen) -> Option<(usize, Reason)> {
        let memory_ratio = seen.memory_ratio.unwrap_or(0.0);
        if self.aims.memory_ratio < memory_ratio {
            let is_news = self.changed.is_none_or(|(_, reason)| reason != Reason::Memory);
            let is_time = is_news || self.is_past(seen.now, MEMORY_PAUSE_MS);
            return is_time.then(|| (less_a_quarter(self.size), Reason::Memory));
        }
        if self.is_past(seen.now, self.aims.down_cooldown_ms) {
            if let Some(cpu_ratio) = self.least_cpu()
                && (self.aims.cpu_ratio + 1.0) / 2.0 < cpu_ratio
            {
                let to = scaled(self.size, self.aims.cpu_ratio / cpu_ratio);
                return Some((to, Reason::Cpu));
            }
            let needs = self.readings.iter().map(need).max();
            if let Some(need) = needs.filter(|_| self.readings.len() == FALL_LEN)
                && need.saturating_mul(100) < self.size * NEED_PERCENT_MIN
            {
                return Some((fitting(need).min(self.size), Reason::Idle));
            }
        }
        let is_time = self.is_past(seen.now, self.aims.up_cooldown_ms);
        let has_memory = memory_ratio <= self.aims.memory_ratio - MEMORY_SPARE;
        if !is_time || !has_memory || self.readings.len() < RISE_LEN {
            return None;
        }
        let least = self.newest().map(need).min().expect("there are readings");
        if least.saturating_mul(100) <= self.size * NEED_PERCENT_MAX {
            return None;
        }
        // What runs now makes the CPU's use: so many more bring it to its aim, not past it.
        let cpu_ratio = seen.cpu_ratio.unwrap_or(0.0).max(0.001);
        let affordable = scaled(seen.used.max(1), self.aims.cpu_ratio / cpu_ratio);
        let to = fitting(least).min(affordable).max(self.size);
        Some((to, Reason::Busy))
    }

    fn newest(&self) -> impl Iterator<Item = &Seen> {
        self.readings.iter().rev().take(RISE_LEN)
    }

    /// The least use of the CPU in the newest readings; `None` before there are enough.
    fn least_cpu(&self) -> Option<f64> {
        if self.readings.len() < RISE_LEN {
            return None;
        }
        self.newest().map(|seen| seen.cpu_ratio.unwrap_or(0.0)).reduce(f64::min)
    }

    /// Whether so long has passed since the last change; yes before the first.
    fn is_past(&self, now: Mono, ms: u64) -> bool {
        self.changed.is_none_or(|(at, _)| ms <= now.0.saturating_sub(at.0))
    }
}

/// What runs and what would.
fn need(seen: &Seen) -> usize {
    seen.used.saturating_add(seen.queued)
}

/// The pool in which a need is as it should be.
fn fitting(need: usize) -> usize {
    need.saturating_mul(100).div_ceil(NEED_PERCENT)
}

fn less_a_quarter(size: usize) -> usize {
    size - size.div_ceil(4)
}

fn scaled(size: usize, by: f64) -> usize {
    // Saturates where it is too large to be a size.
    (size as f64 * by) as usize
}

#[cfg(test)]
mod tests;
