//! Values of one type in chunks, each found by a number: dense for a million that stay, quick for
//! the few that come and go, and given back after a burst.
//!
//! A box for each value was measured and rejected: its neighbours in an allocator's page are
//! whatever was allocated in the same moment, and what of them is freed leaves pages half full that
//! nobody else can use. One growing vector was rejected too: it is copied as a whole, and never
//! shrinks.
//!
//! Invariants: a new value takes the place freed last in `current`, whose memory is warm; a chunk
//! that is left full is replaced by the lowest one with room, so that old chunks fill up before a
//! new one is made; a chunk without values has no memory, unless it is the current one.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

/// Bytes of a chunk: large enough that the list of chunks stays in the caches, and a size class of
/// the allocator's of which nine fill one of its pages (nine of 64 KiB would need two).
const CHUNK_BYTES: usize = 56 << 10;
/// The end of a list of free places.
const NONE: u32 = u32::MAX;

/// Values of type `T`, at most 2^32 - 1 at a time.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// The chunk that takes new values; there is none before the first.
    current: usize,
    /// Chunks with values and room, without the current one.
    open: BTreeSet<u32>,
    /// Chunks without memory.
    empty: BTreeSet<u32>,
    len: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    /// Grows up to [`Slab::CHUNK_LEN`], in the memory that it had from the start.
    entries: Vec<Entry<T>>,
    /// The first free one of `entries`.
    free: u32,
    /// Values in it.
    len: u32,
}

#[derive(Debug)]
enum Entry<T> {
    Full(T),
    /// Names the next free one.
    Free(u32),
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            current: 0,
            open: BTreeSet::new(),
            empty: BTreeSet::new(),
            len: 0,
        }
    }
}

impl<T> Chunk<T> {
    fn new() -> Chunk<T> {
        Chunk { entries: Vec::new(), free: NONE, len: 0 }
    }

    fn is_full(&self) -> bool {
        self.len as usize == Slab::<T>::CHUNK_LEN
    }
}

impl<T> Slab<T> {
    /// Places of a chunk.
    const CHUNK_LEN: usize = CHUNK_BYTES / size_of::<Entry<T>>();

    /// Values held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value and returns its number, which no other has until it is removed. Constant time,
    /// but for one search among the chunks in each of some hundred. Panics past 2^32 - 1 values.
    pub fn insert(&mut self, value: T) -> u32 {
        if self.chunks.get(self.current).is_none_or(Chunk::is_full) {
            self.take_chunk();
        }
        let chunk = &mut self.chunks[self.current];
        let place = match chunk.free {
            NONE => {
                if chunk.entries.capacity() == 0 {
                    chunk.entries.reserve_exact(Self::CHUNK_LEN);
                }
                chunk.entries.push(Entry::Full(value));
                chunk.entries.len() - 1
            }
            free => {
                let entry = &mut chunk.entries[free as usize];
                match std::mem::replace(entry, Entry::Full(value)) {
                    Entry::Free(next) => chunk.free = next,
                    Entry::Full(_) => panic!("a free place holds a value"),
                }
                free as usize
            }
        };
        chunk.len += 1;
        self.len += 1;
        (self.current * Self::CHUNK_LEN + place) as u32
    }

    /// Takes a value out. Panics where there is none of that number.
    pub fn remove(&mut self, number: u32) -> T {
        let (at, place) = Self::split(number);
        let chunk = &mut self.chunks[at];
        let was_full = chunk.is_full();
        let entry = std::mem::replace(&mut chunk.entries[place], Entry::Free(chunk.free));
        let Entry::Full(value) = entry else { panic!("a value is removed once") };
        chunk.free = place as u32;
        chunk.len -= 1;
        self.len -= 1;
        if at == self.current {
            return value;
        }
        if chunk.len == 0 {
            *chunk = Chunk::new();
            self.open.remove(&(at as u32));
            self.empty.insert(at as u32);
            self.drop_tail();
        } else if was_full {
            self.open.insert(at as u32);
        }
        value
    }

    /// The value of that number, if there is one.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&T> {
        let (at, place) = Self::split(number);
        match self.chunks.get(at)?.entries.get(place)? {
            Entry::Full(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// The value of that number, to change it, if there is one.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (at, place) = Self::split(number);
        match self.chunks.get_mut(at)?.entries.get_mut(place)? {
            Entry::Full(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// All values, in the order of their numbers.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| &chunk.entries).filter_map(|entry| match entry {
            Entry::Full(value) => Some(value),
            Entry::Free(_) => None,
        })
    }

    /// Bytes of memory that its chunks have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.entries.capacity() * size_of::<Entry<T>>()).sum()
    }

    /// Has a chunk with room take new values: the lowest, an empty one where all others are full.
    fn take_chunk(&mut self) {
        let lowest = self.open.pop_first().or_else(|| self.empty.pop_first());
        self.current = lowest.map_or(self.chunks.len(), |at| at as usize);
        if self.current == self.chunks.len() {
            assert!(self.chunks.len() < NONE as usize / Self::CHUNK_LEN, "too many values");
            self.chunks.push(Chunk::new());
        }
    }

    /// Forgets empty chunks at the end of the list.
    fn drop_tail(&mut self) {
        while let Some(last) = self.chunks.len().checked_sub(1)
            && self.empty.remove(&(last as u32))
        {
            self.chunks.pop();
        }
    }

    fn split(number: u32) -> (usize, usize) {
        (number as usize / Self::CHUNK_LEN, number as usize % Self::CHUNK_LEN)
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    /// Panics where there is none of that number.
    fn index(&self, number: u32) -> &T {
        self.get(number).expect("a number names a value")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    /// Panics where there is none of that number.
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.get_mut(number).expect("a number names a value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Map;
    use crate::rng::Rng;

    #[test]
    fn it_agrees_with_a_map_whatever_comes_and_goes() {
        let (mut rng, mut slab, mut model) = (Rng::new(7), Slab::default(), Map::default());
        let mut numbers = Vec::new();
        // Waves: each takes some ten thousand places, or empties most of them. The last one fills.
        for round in 0..210_000_u64 {
            let fills = (round / 10_000).is_multiple_of(2);
            if rng.chance(if fills { 80 } else { 10 }) {
                let number = slab.insert(round);
                assert_eq!(model.insert(number, round), None, "a number in use is given again");
                numbers.push(number);
            } else if !numbers.is_empty() {
                let at = rng.index(numbers.len());
                let number = numbers.swap_remove(at);
                assert_eq!(slab.remove(number), model.remove(&number).expect("in the model"));
                assert!(slab.get(number).is_none() && slab.get_mut(number).is_none());
            }
            assert_eq!(slab.len(), model.len());
        }
        assert!(!model.is_empty() && model.iter().all(|(number, v)| slab[*number] == *v));
        let mut expected: Vec<(u32, u64)> = model.into_iter().collect();
        expected.sort_unstable();
        assert!(slab.values().copied().eq(expected.into_iter().map(|(_, value)| value)));
    }

    #[test]
    fn a_burst_gives_its_memory_back_and_the_rest_fills_up_first() {
        let mut slab: Slab<u64> = Slab::default();
        let len = Slab::<u64>::CHUNK_LEN;
        let chunk_bytes = len * size_of::<Entry<u64>>();
        let numbers: Vec<u32> = (0..100 * len as u64).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.bytes(), 100 * chunk_bytes);
        // One in each tenth chunk stays.
        let stays = |number: &u32| (*number as usize).is_multiple_of(10 * len);
        numbers.iter().filter(|number| !stays(number)).for_each(|n| _ = slab.remove(*n));
        assert!(slab.bytes() <= 11 * chunk_bytes, "{}", slab.bytes());
        let more = slab.bytes() / chunk_bytes * len - slab.len();
        (0..more as u64).for_each(|n| _ = slab.insert(n));
        assert!(slab.bytes() <= 11 * chunk_bytes, "holes are filled before a chunk is made");
    }

    #[test]
    #[should_panic(expected = "removed once")]
    fn a_value_is_removed_once() {
        let mut slab = Slab::default();
        let number = slab.insert(1);
        assert_eq!(slab.remove(number), 1);
        slab.remove(number);
    }
}
