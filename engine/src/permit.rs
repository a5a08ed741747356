//! An agent's `max_concurrency` on a node with several shards: one counter that all of them draw
//! from.
//!
//! The bound must hold over all shards, and shares fixed in advance would leave some shards with
//! none. So the permits are handed to the shards as a value, and taking one is a decision's input
//! like the clock is; what came of it is in the event `started`. No lock: one compare-and-swap.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU32, Ordering};

/// Permits of one agent; shared by its shards.
#[derive(Debug)]
pub struct Permits {
    used: CachePadded<AtomicU32>,
    max: AtomicU32,
    /// Shards that hold the agent back, as its attempts keep failing there.
    held_back: AtomicU32,
}

impl Permits {
    /// At most `max` at once; any number when `None`.
    #[must_use]
    pub fn new(max: Option<u32>) -> Permits {
        Permits {
            used: CachePadded::new(AtomicU32::new(0)),
            max: AtomicU32::new(max.unwrap_or(u32::MAX)),
            held_back: AtomicU32::new(0),
        }
    }

    /// Changes the bound; those taken stay taken.
    pub fn set_max(&self, max: Option<u32>) {
        self.max.store(max.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Takes one if the bound allows it.
    #[must_use]
    pub fn try_take(&self) -> bool {
        // ORDER: relaxed; the count itself is all that the shards share.
        let max = self.max.load(Ordering::Relaxed);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (used < max).then(|| used + 1)
            })
            .is_ok()
    }

    /// Takes one whatever the bound: for what was running before a restart.
    pub fn take(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives one back.
    pub fn give_back(&self) {
        let before = self.used.fetch_sub(1, Ordering::Relaxed);
        assert!(0 < before, "a permit was given back that nobody took");
    }

    /// One more shard holds the agent back.
    pub fn hold_back(&self) {
        self.held_back.fetch_add(1, Ordering::Relaxed);
    }

    /// One shard fewer does.
    pub fn let_go(&self) {
        let before = self.held_back.fetch_sub(1, Ordering::Relaxed);
        assert!(0 < before, "an agent was let go that nobody held back");
    }

    /// Shards that hold the agent back: whoever looks from outside sees it here.
    #[must_use]
    pub fn held_back(&self) -> u32 {
        self.held_back.load(Ordering::Relaxed)
    }

    /// How many may still be taken.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.max.load(Ordering::Relaxed).saturating_sub(self.used())
    }

    /// How many are taken.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_may_move() {
        let permits = Permits::new(Some(1));
        assert!(permits.try_take());
        assert!(!permits.try_take());
        permits.set_max(Some(2));
        assert!(permits.try_take());
        permits.give_back();
        permits.give_back();
        assert_eq!(permits.used(), 0);
    }
}
