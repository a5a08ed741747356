//! Rate limits: how much one key may do, and what it has left. Pure: the clock is handed in.
//!
//! The generic cell rate algorithm (ITU-T I.371, 1993) as the crate `governor` does it: each key
//! has one number, the time at which its bucket will be whole again. `rate` is the
//! limit itself, `book` has the numbers of all keys, `address` is the key of who has not yet said
//! who it is.
//!
//! Nodes that share their limits do so beside the requests, never in them: a limiter notes which
//! keys took and how many ([`Limiter::taken`]), somebody adds that to a number that all nodes have
//! in common, and what comes back is merged into this node's ([`Limiter::learn`]): the later of
//! both, so that learning only ever makes a limit stricter. `net`'s `redis::limits` says how often,
//! and how much more than one node's limit all of them may let through.

mod address;
mod book;
mod rate;

pub use address::AddressKey;
pub use book::TAKEN_MAX;
pub use rate::Rate;

use book::Book;
use governor::clock::{Clock, MonotonicClock, Reference as _};
use governor::middleware::StateInformationMiddleware;
use governor::{Quota, RateLimiter};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Keys that one limiter counts, at most.
pub const KEYS_MAX: usize = 100_000;
/// Nodes that all let a burst through at once make a key wait for all of them, but no more than for
/// so many: what stands in a shared store must not lock anybody out for long.
pub const AHEAD_WINDOWS_MAX: u64 = 16;

/// Limits by key, shared by threads.
pub struct Limiter<K: Hash + Eq + Clone, C: Clock = MonotonicClock> {
    rate: Rate,
    book: Book<K>,
    clock: C,
    start: C::Instant,
    governor: RateLimiter<K, Book<K>, C, StateInformationMiddleware>,
    /// In ns since the start: until then some key has to wait; 0 when none ever had.
    waited_until: AtomicU64,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// A limiter by the system's monotonic clock.
    #[must_use]
    pub fn new(rate: Rate) -> Limiter<K> {
        Limiter::with_clock(rate, MonotonicClock, KEYS_MAX)
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Limiter<K, C> {
    /// A limiter by another clock, for so many keys.
    #[must_use]
    pub fn with_clock(rate: Rate, clock: C, keys_max: usize) -> Limiter<K, C> {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let (book, start) = (Book::new(keys_max), clock.now());
        let governor = RateLimiter::new(quota, book.clone(), clock.clone());
        Limiter { rate, book, clock, start, governor, waited_until: AtomicU64::new(0) }
    }

    /// What it limits to.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one; what is left.
    ///
    /// # Errors
    /// How long until one is there again; nothing was taken.
    pub fn take(&self, key: &K) -> Result<u32, Duration> {
        match self.governor.check_key(key) {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(not_until) => Err(not_until.wait_time_from(self.clock.now())),
        }
    }

    /// Takes one for something that has happened, and notes for [`Limiter::wait`] if it was the
    /// last; whether it was.
    pub fn spend(&self, key: &K) -> bool {
        let is_last = self.take(key).map_or(true, |left| left == 0);
        if let Some(until) = self.free_at(key).filter(|_| is_last) {
            // ORDER: whoever reads an older value lets one more request through.
            self.waited_until.fetch_max(until, Ordering::Relaxed);
        }
        is_last
    }

    /// How long a key has to wait that has spent all; takes nothing. Without a lock while no key
    /// has.
    #[must_use]
    pub fn wait(&self, key: &K) -> Option<Duration> {
        // ORDER: as in `spend`.
        let until = self.waited_until.load(Ordering::Relaxed);
        if until == 0 {
            return None;
        }
        let now = self.now();
        if until <= now {
            return None;
        }
        let free_at = self.free_at(key).filter(|free_at| now < *free_at)?;
        Some(Duration::from_nanos(free_at - now))
    }

    /// From now on notes what keys take, for [`Limiter::taken`].
    pub fn share(&self) {
        self.book.tell();
    }

    /// Keys that took since this was last asked, at most so many, and how many each took.
    #[must_use]
    pub fn taken(&self, max: usize) -> Vec<(K, u32)> {
        self.book.taken(max)
    }

    /// Learns what all nodes together make of a key that was given by [`Limiter::taken`]: its
    /// bucket is whole again in so long. It never is sooner than by what this node knows itself,
    /// nor more than [`AHEAD_WINDOWS_MAX`] times as late as that of a key which just spent all.
    pub fn learn(&self, key: &K, whole_in: Duration) {
        let each = self.each();
        let most = each.saturating_mul(u64::from(self.rate.burst.get()) * AHEAD_WINDOWS_MAX);
        let ahead = u64::try_from(whole_in.as_nanos()).unwrap_or(u64::MAX).min(most);
        self.book.learn(key, self.now().saturating_add(ahead), each);
        if let Some(until) = self.free_at(key) {
            // ORDER: as in `spend`.
            self.waited_until.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// Forgets keys at rest. To be called from time to time.
    pub fn tidy(&self) {
        self.book.tidy(self.now());
    }

    /// Keys that are counted.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.book.len()
    }

    fn now(&self) -> u64 {
        self.clock.now().duration_since(self.start).as_u64()
    }

    /// What one takes, in ns.
    fn each(&self) -> u64 {
        1_000_000_000 / u64::from(self.rate.per_second.get())
    }

    /// When the key may take one again.
    fn free_at(&self, key: &K) -> Option<u64> {
        let ahead = self.each() * u64::from(self.rate.burst.get() - 1);
        self.book.peek(key).map(|whole_at| whole_at.saturating_sub(ahead))
    }
}

#[cfg(test)]
mod tests;
