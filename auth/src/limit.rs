//! Rate limits: how much one key may do, and what it has left. Pure: the clock is handed in.
//!
//! The generic cell rate algorithm (ITU-T I.371, 1993) as the crate `governor` does it: each key
//! has one number, the time at which its bucket will be whole again. The numbers stand in a
//! [`Book`] of bounded size: when a part of it is full of keys that are still counted, newcomers
//! share one bucket, so that a flood of addresses costs neither memory nor the limit.
//!
//! Nodes that share their limits do so beside the requests, never in them: a limiter notes which
//! keys took and how many ([`Limiter::taken`]), somebody adds that to a number that all nodes have
//! in common, and what comes back is merged into this node's ([`Limiter::learn`]): the later of
//! both, so that learning only ever makes a limit stricter. `net`'s `redis::limits` says how often,
//! and how much more than one node's limit all of them may let through.

use governor::clock::{Clock, MonotonicClock, Reference as _};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Keys that one limiter counts, at most.
pub const KEYS_MAX: usize = 100_000;
/// Keys that took since they were last told, at most: those above wait until there is room.
pub const TAKEN_MAX: usize = 16_384;
/// Parts of a book, each with a lock of its own.
const PARTS: usize = 16;
/// Nodes that all let a burst through at once make a key wait for all of them, but no more than for
/// so many: what stands in a shared store must not lock anybody out for long.
pub const AHEAD_WINDOWS_MAX: u64 = 16;
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

    /// As bytes that are the same on all nodes.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// What is known of one key.
#[derive(Clone, Copy)]
struct Count {
    /// When its bucket is whole again, in ns since the start.
    whole_at: u64,
    /// How many it took that were not told yet.
    taken: u32,
    is_listed: bool,
}

/// One part of a book.
struct Part<K> {
    counts: HashMap<K, Count>,
    /// Keys that took since they were last told; empty where nobody wants to know.
    taken: Vec<K>,
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
    is_told: AtomicBool,
}

impl<K: Hash + Eq + Clone> Book<K> {
    fn new(len_max: usize) -> Book<K> {
        let part = |_| {
            let (counts, taken) = (HashMap::new(), Vec::new());
            Mutex::new(Part { counts, taken, shared: None, searched_at: 0 })
        };
        Book(Arc::new(Parts {
            parts: std::array::from_fn(part),
            hasher: RandomState::new(),
            part_len_max: len_max.div_ceil(PARTS),
            is_told: AtomicBool::new(false),
        }))
    }

    fn part(&self, key: &K) -> MutexGuard<'_, Part<K>> {
        let place = self.0.hasher.hash_one(key) as usize % PARTS;
        self.0.parts[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that holds for a key.
    fn peek(&self, key: &K) -> Option<u64> {
        let part = self.part(key);
        let is_full = self.0.part_len_max <= part.counts.len();
        let own = part.counts.get(key).map(|count| count.whole_at);
        own.or(part.shared.filter(|_| is_full))
    }

    /// Forgets keys whose bucket is whole at `now`.
    fn tidy(&self, now: u64) {
        for part in &self.0.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.counts.retain(|_, count| now < count.whole_at);
            let len = part.counts.len();
            part.counts.shrink_to(len * 2);
        }
    }

    fn len(&self) -> usize {
        let len = |part: &Mutex<Part<K>>| {
            part.lock().unwrap_or_else(PoisonError::into_inner).counts.len()
        };
        self.0.parts.iter().map(len).sum()
    }

    /// Keys that took since they were last told, at most so many, and how many each took.
    fn taken(&self, max: usize) -> Vec<(K, u32)> {
        let mut all = Vec::new();
        for part in &self.0.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let Part { counts, taken, .. } = &mut *part;
            let some = max.saturating_sub(all.len()).min(taken.len());
            for key in taken.drain(taken.len() - some..) {
                if let Some(count) = counts.get_mut(&key) {
                    count.is_listed = false;
                    all.push((key, std::mem::take(&mut count.taken)));
                }
            }
        }
        all
    }

    /// Has a key's bucket be whole no sooner than `whole_at`, and `each` later for each that it
    /// took and was not told yet.
    fn learn(&self, key: &K, whole_at: u64, each: u64) {
        let mut part = self.part(key);
        let has_room = part.counts.len() < self.0.part_len_max;
        match part.counts.get_mut(key) {
            Some(count) => {
                let whole_at = whole_at.saturating_add(each * u64::from(count.taken));
                count.whole_at = count.whole_at.max(whole_at);
            }
            None if has_room => {
                let count = Count { whole_at, taken: 0, is_listed: false };
                part.counts.insert(key.clone(), count);
            }
            None => {}
        }
    }
}

impl<K: Clone> Part<K> {
    /// Notes that a key took one.
    fn note(&mut self, key: &K, len_max: usize)
    where
        K: Hash + Eq,
    {
        let has_room = self.taken.len() < len_max;
        if let Some(count) = self.counts.get_mut(key) {
            count.taken = count.taken.saturating_add(1);
            if !count.is_listed && has_room {
                count.is_listed = true;
                self.taken.push(key.clone());
            }
        }
    }
}

impl<K: Hash + Eq + Clone> StateStore for Book<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut part = self.part(key);
        // ORDER: it is set before anybody asks.
        let is_told = self.0.is_told.load(Ordering::Relaxed);
        if let Some(count) = part.counts.get_mut(key) {
            let (out, next) = measure(Some(Nanos::new(count.whole_at)))?;
            count.whole_at = next.as_u64();
            if is_told {
                part.note(key, TAKEN_MAX / PARTS);
            }
            return Ok(out);
        }
        let (out, next) = measure(None)?;
        let next = next.as_u64();
        if self.0.part_len_max <= part.counts.len() && part.searched_at + SEARCH_NS < next {
            part.searched_at = next;
            part.counts.retain(|_, count| next < count.whole_at);
        }
        if part.counts.len() < self.0.part_len_max {
            let count = Count { whole_at: next, taken: 0, is_listed: false };
            part.counts.insert(key.clone(), count);
            if is_told {
                part.note(key, TAKEN_MAX / PARTS);
            }
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

    /// From now on notes what keys take, for [`Limiter::taken`].
    pub fn share(&self) {
        self.book.0.is_told.store(true, Ordering::Relaxed);
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

    /// What all nodes have in common: when a key's bucket is whole, in ns on a clock of its own.
    fn add(whole_at: &mut u64, now: u64, taken: u32, each: u64) -> Duration {
        *whole_at = (*whole_at).max(now) + each * u64::from(taken);
        Duration::from_nanos(*whole_at - now)
    }

    #[test]
    fn nodes_that_tell_each_other_keep_one_limit() {
        let rate = Rate::new(10, 4);
        let ((one, clock), (two, other)) = (limiter(rate, 100), limiter(rate, 100));
        for limiter in [&one, &two] {
            limiter.share();
            assert!(limiter.taken(9).is_empty());
        }
        // Both let a burst through before they hear of each other.
        for limiter in [&one, &two] {
            assert_eq!((0..9).filter(|_| limiter.take(&1).is_ok()).count(), 4);
        }
        let mut common = 0;
        for limiter in [&one, &two, &one] {
            for (key, taken) in limiter.taken(9) {
                limiter.learn(&key, add(&mut common, 0, taken, limiter.each()));
            }
        }
        // The second has heard of the first's; the first hears when it takes again.
        assert_eq!(two.take(&1), Err(500 * MS));
        for _ in 0..20 {
            clock.advance(100 * MS);
            other.advance(100 * MS);
        }
        let mut let_through = 0;
        for ms in (2_000..12_000).step_by(100) {
            for (limiter, clock) in [(&one, &clock), (&two, &other)] {
                let_through += (0..9).filter(|_| limiter.take(&1).is_ok()).count();
                for (key, taken) in limiter.taken(9) {
                    let now = ms * 1_000_000;
                    limiter.learn(&key, add(&mut common, now, taken, limiter.each()));
                }
                clock.advance(100 * MS);
            }
        }
        // Ten seconds at 10 a second, a burst of each node, and what one lets through in between.
        assert!((100..=100 + 4 + 4 + 2).contains(&let_through), "{let_through}");
    }

    #[test]
    fn learning_makes_stricter_only_and_never_for_long() {
        let (limiter, clock) = limiter(Rate::new(10, 4), 100);
        limiter.share();
        assert_eq!(limiter.take(&1), Ok(3));
        limiter.learn(&1, Duration::ZERO);
        assert_eq!(limiter.take(&1), Ok(2));
        assert_eq!(limiter.taken(9), [(1, 2)]);
        // What is told later than it is learnt is added.
        assert_eq!(limiter.take(&1), Ok(1));
        limiter.learn(&1, 200 * MS);
        assert_eq!(limiter.take(&1), Ok(0));
        limiter.learn(&1, Duration::MAX);
        let most = 100 * 4 * u32::try_from(AHEAD_WINDOWS_MAX).expect("small");
        let wait = limiter.take(&1).expect_err("spent");
        assert!(wait <= (most + 300) * MS, "{wait:?}");
        assert_eq!(limiter.wait(&1), Some(wait), "whoever asks without taking sees it too");
        clock.advance(wait);
        assert_eq!(limiter.take(&1), Ok(0));
        assert_eq!(limiter.taken(0), []);
        assert_eq!(limiter.taken(9).len(), 1);
    }

    #[test]
    fn what_is_to_be_told_is_bounded() {
        let (limiter, _clock) = limiter(Rate::new(1, 9), 100_000);
        limiter.share();
        for key in 0..50_000 {
            assert!(limiter.take(&key).is_ok());
        }
        let first = limiter.taken(usize::MAX);
        assert!(first.len() <= TAKEN_MAX && TAKEN_MAX / 2 < first.len(), "{}", first.len());
        // Those that found no room are told when they take again, with all that they took.
        let is_left_out = |key: &u32| first.iter().all(|(told, _)| told != key);
        let late = (49_000..50_000).find(is_left_out).expect("one is");
        assert!(limiter.take(&late).is_ok());
        assert_eq!(limiter.taken(usize::MAX), [(late, 2)]);
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
