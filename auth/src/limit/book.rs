//! The numbers of all keys of one limiter, bounded: when a part is full of keys that are still
//! counted, newcomers share one bucket, so that a flood of addresses costs neither memory nor the
//! limit. It also notes which keys took, where somebody wants to tell other nodes.

use governor::nanos::Nanos;
use governor::state::StateStore;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Keys that took since they were last told, at most: those above wait until there is room.
pub const TAKEN_MAX: usize = 16_384;
/// Parts of a book, each with a lock of its own.
pub(super) const PARTS: usize = 16;
/// A part that is full is searched for keys at rest this often, at most, in ns.
const SEARCH_NS: u64 = 1_000_000_000;

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
pub(super) struct Book<K>(Arc<Parts<K>>);

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
    pub(super) fn new(len_max: usize) -> Book<K> {
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
    pub(super) fn peek(&self, key: &K) -> Option<u64> {
        let part = self.part(key);
        let is_full = self.0.part_len_max <= part.counts.len();
        let own = part.counts.get(key).map(|count| count.whole_at);
        own.or(part.shared.filter(|_| is_full))
    }

    /// Forgets keys whose bucket is whole at `now`.
    pub(super) fn tidy(&self, now: u64) {
        for part in &self.0.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.counts.retain(|_, count| now < count.whole_at);
            let len = part.counts.len();
            part.counts.shrink_to(len * 2);
        }
    }

    pub(super) fn len(&self) -> usize {
        let len = |part: &Mutex<Part<K>>| {
            part.lock().unwrap_or_else(PoisonError::into_inner).counts.len()
        };
        self.0.parts.iter().map(len).sum()
    }

    /// Notes from now on what keys take.
    pub(super) fn tell(&self) {
        // ORDER: what is taken before it is seen is not told.
        self.0.is_told.store(true, Ordering::Relaxed);
    }

    /// Keys that took since they were last told, at most so many, and how many each took.
    pub(super) fn taken(&self, max: usize) -> Vec<(K, u32)> {
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
    pub(super) fn learn(&self, key: &K, whole_at: u64, each: u64) {
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
