//! Rate limits: how much one key may do, and what it has left. Pure: the clock is handed in.
//!
//! The generic cell rate algorithm (ITU-T I.371, 1993) as the crate `governor` does it: each key
//! has one number, the time at which its bucket will be whole again. The numbers stand in a
//! [`Book`] of bounded size: when a part of it is full of keys that are still counted, newcomers
//! share one bucket, so that a flood of addresses costs neither memory nor the limit.

use governor::clock::{Clock, MonotonicClock, Reference as _};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Keys that one limiter counts, at most.
pub const KEYS_MAX: usize = 100_000;
/// Parts of a book, each with a lock of its own.
const PARTS: usize = 16;
/// A part that is full is searched for keys at rest this often, at most, in ns.
const SEARCH_NS: u64 = 1_000_000_000;

/// So many a second on average, and at most `burst` at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// On average.
    pub per_second: NonZeroU32,
    /// At once, after a rest.
    pub burst: NonZeroU32,
}

impl Rate {
    /// A rate; zeros count as one.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Rate {
        let whole = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Rate { per_second: whole(per_second), burst: whole(burst) }
    }

    /// After how many seconds an empty bucket is whole again, rounded up.
    #[must_use]
    pub fn window_s(self) -> u32 {
        self.burst.get().div_ceil(self.per_second.get())
    }

    /// One item of a `RateLimit-Policy` header: quota and window of the named policy.
    #[must_use]
    pub fn policy(self, name: &str) -> String {
        format!("\"{name}\";q={};w={}", self.burst, self.window_s())
    }

    /// One item of a `RateLimit` header: what remains, and the seconds until all is there again.
    #[must_use]
    pub fn standing(self, name: &str, left: u32) -> String {
        let used = self.burst.get().saturating_sub(left);
        format!("\"{name}\";r={left};t={}", used.div_ceil(self.per_second.get()))
    }
}

/// Whom an address stands for: all of a /64 for IPv6, as one host may choose any address in its.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AddressKey(u128);

impl AddressKey {
    /// The key of an address; an IPv4 address in IPv6's clothes is IPv4.
    #[must_use]
    pub fn of(ip: IpAddr) -> AddressKey {
        match ip.to_canonical() {
            IpAddr::V4(ip) => AddressKey(ip.to_ipv6_mapped().to_bits()),
            IpAddr::V6(ip) => AddressKey(ip.to_bits() >> 64 << 64),
        }
    }
}

/// One part of a book.
struct Part<K> {
    /// When each key's bucket is whole again, in ns since the start.
    whole_at: HashMap<K, u64>,
    /// The bucket of all that have found no room.
    shared: Option<u64>,
    searched_at: u64,
}

/// The numbers of all keys of one limiter. Cheap to clone: all clones are one book.
struct Book<K>(Arc<Parts<K>>);

impl<K> Clone for Book<K> {
    fn clone(&self) -> Book<K> {
        Book(Arc::clone(&self.0))
    }
}

struct Parts<K> {
    parts: [Mutex<Part<K>>; PARTS],
    hasher: RandomState,
    part_len_max: usize,
}

impl<K: Hash + Eq + Clone> Book<K> {
    fn new(len_max: usize) -> Book<K> {
        let part = |_| Mutex::new(Part { whole_at: HashMap::new(), shared: None, searched_at: 0 });
        Book(Arc::new(Parts {
            parts: std::array::from_fn(part),
            hasher: RandomState::new(),
            part_len_max: len_max.div_ceil(PARTS),
        }))
    }

    fn part(&self, key: &K) -> MutexGuard<'_, Part<K>> {
        let place = self.0.hasher.hash_one(key) as usize % PARTS;
        self.0.parts[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that holds for a key.
    fn peek(&self, key: &K) -> Option<u64> {
        let part = self.part(key);
        let is_full = self.0.part_len_max <= part.whole_at.len();
        part.whole_at.get(key).copied().or(part.shared.filter(|_| is_full))
    }

    /// Forgets keys whose bucket is whole at `now`.
    fn tidy(&self, now: u64) {
        for part in &self.0.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.whole_at.retain(|_, whole_at| now < *whole_at);
            let len = part.whole_at.len();
            part.whole_at.shrink_to(len * 2);
        }
    }

    fn len(&self) -> usize {
        let len = |part: &Mutex<Part<K>>| {
            part.lock().unwrap_or_else(PoisonError::into_inner).whole_at.len()
        };
        self.0.parts.iter().map(len).sum()
    }
}

impl<K: Hash + Eq + Clone> StateStore for Book<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut part = self.part(key);
        if let Some(whole_at) = part.whole_at.get_mut(key) {
            let (out, next) = measure(Some(Nanos::new(*whole_at)))?;
            *whole_at = next.as_u64();
            return Ok(out);
        }
        let (out, next) = measure(None)?;
        let next = next.as_u64();
        if self.0.part_len_max <= part.whole_at.len() && part.searched_at + SEARCH_NS < next {
            part.searched_at = next;
            part.whole_at.retain(|_, whole_at| next < *whole_at);
        }
        if part.whole_at.len() < self.0.part_len_max {
            part.whole_at.insert(key.clone(), next);
            return Ok(out);
        }
        let (out, next) = measure(part.shared.map(Nanos::new))?;
        part.shared = Some(next.as_u64());
        Ok(out)
    }
}

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

    /// When the key may take one again.
    fn free_at(&self, key: &K) -> Option<u64> {
        let each = 1_000_000_000 / u64::from(self.rate.per_second.get());
        let ahead = each * u64::from(self.rate.burst.get() - 1);
        self.book.peek(key).map(|whole_at| whole_at.saturating_sub(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn limiter(
        rate: Rate,
        keys_max: usize,
    ) -> (Limiter<u32, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::with_clock(rate, clock.clone(), keys_max), clock)
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_and_then_the_rate() {
        let (limiter, clock) = limiter(Rate::new(10, 3), 100);
        let takes = || limiter.take(&1);
        assert_eq!([takes(), takes(), takes()], [Ok(2), Ok(1), Ok(0)]);
        assert_eq!(takes(), Err(100 * MS));
        assert_eq!(limiter.take(&2), Ok(2), "another key has its own");
        clock.advance(99 * MS);
        assert_eq!(takes(), Err(MS));
        clock.advance(MS);
        assert_eq!(takes(), Ok(0));
        clock.advance(300 * MS);
        assert_eq!(takes(), Ok(2));
    }

    #[test]
    fn spending_all_makes_wait_and_looking_takes_nothing() {
        let (limiter, clock) = limiter(Rate::new(1, 2), 100);
        assert_eq!(limiter.wait(&1), None);
        assert!(!limiter.spend(&1));
        assert_eq!(limiter.wait(&1), None);
        assert!(limiter.spend(&1));
        for _ in 0..5 {
            assert_eq!(limiter.wait(&1), Some(1_000 * MS));
        }
        assert_eq!(limiter.wait(&2), None);
        clock.advance(1_000 * MS);
        assert_eq!(limiter.wait(&1), None);
        assert!(limiter.spend(&1));
        assert_eq!(limiter.wait(&1), Some(1_000 * MS));
    }

    #[test]
    fn keys_are_bounded_and_those_without_room_share_a_bucket() {
        let (limiter, clock) = limiter(Rate::new(1, 2), 32);
        let taken = (0..10_000).filter(|key| limiter.take(key).is_ok()).count();
        assert!(limiter.keys() <= 32, "{}", limiter.keys());
        assert!(taken <= 32 + 2 * PARTS, "{taken}");
        clock.advance(10_000 * MS);
        limiter.tidy();
        assert_eq!(limiter.keys(), 0);
        assert_eq!(limiter.take(&10_001), Ok(1));
    }

    #[test]
    fn keys_at_rest_make_room_by_themselves() {
        let (limiter, clock) = limiter(Rate::new(1, 2), 32);
        (0..1_000).for_each(|key| assert!(limiter.take(&key) != Ok(9)));
        clock.advance(10_000 * MS);
        let taken = (2_000..2_016).filter(|key| limiter.take(key) == Ok(1)).count();
        assert!(8 < taken, "{taken}");
    }

    #[test]
    fn ipv6_counts_by_its_network() {
        let key = |text: &str| AddressKey::of(text.parse().expect("an address"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
    }

    #[test]
    fn headers_are_structured_fields() {
        let rate = Rate::new(100, 250);
        assert_eq!(rate.policy("principal"), r#""principal";q=250;w=3"#);
        assert_eq!(rate.standing("principal", 250), r#""principal";r=250;t=0"#);
        assert_eq!(rate.standing("principal", 0), r#""principal";r=0;t=3"#);
        assert_eq!(Rate::new(0, 0), Rate::new(1, 1));
    }
}
