//! A hierarchical timing wheel: timers in ms, inserted and cancelled in constant time.
//!
//! Source: G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels", 1987. Level `l` has
//! 64 slots of `64^l` ms; eleven levels cover every `u64`, so that there is no overflow list. A
//! timer sits on the level of the highest bit in which its time differs from the wheel's, and
//! comes down a level or more when the wheel's time enters its slot. One bit per slot and one per
//! level say what is occupied, so that a jump of years costs what lies between, not its length.
//!
//! Invariants: a timer in a slot is not before the wheel's time, and one before it (inserted late)
//! is in `overdue`, a heap, because late ones too must leave in order of their time. Timers of one
//! time are always in one slot, in order of insertion; that is what keeps ties in order.
//!
//! Nodes live in a [`Slab`] and are linked by index, so that a wheel in steady state allocates
//! nothing, and one that was full for a while gives its memory back. A heap alone was rejected:
//! most timers (leases, time-outs) are cancelled, and that costs a heap `log n` or a stale entry
//! each.

use crate::slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;

/// Bits of a time that one level looks at.
const SLOT_BITS: u32 = 6;
/// Slots of a level: as many as a word has bits.
const SLOTS: usize = 1 << SLOT_BITS;
/// Levels: enough for every `u64`.
const LEVELS: usize = 11;
/// Timers moved down by one `advance`, per timer that it may fire: a move that misses the caches
/// costs 100 ns, and a million parked loops may share one slot of a minute.
const CASCADE_PER_FIRED: usize = 4;
/// Timers moved down by one `advance`, at least.
const CASCADE_MIN: usize = 1_024;
/// Cancelled entries that the heap may hold before it is cleaned.
const STALE_MIN: usize = 64;
/// The end of a list.
const NONE: u32 = u32::MAX;
/// The place of a node in the heap.
const OVERDUE: u16 = u16::MAX;
/// The place of a node that is not yet in a list.
const NOWHERE: u16 = u16::MAX - 1;

const _: () = {
    assert!(SLOTS == u64::BITS as usize);
    assert!(u64::BITS <= LEVELS as u32 * SLOT_BITS);
    assert!(LEVELS < u16::BITS as usize);
    assert!(LEVELS * SLOTS < NOWHERE as usize);
};

/// Names one timer of one wheel. Stays unique when its place is reused: another timer of the same
/// place has the same name only after 2^32 others.
///
/// Its place is counted from 1, so that a header that may have a timer spends two words of 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId {
    place: NonZeroU32,
    generation: u32,
}

impl TimerId {
    fn new(index: u32, generation: u32) -> TimerId {
        let place = NonZeroU32::MIN.saturating_add(index);
        TimerId { place, generation }
    }

    fn index(self) -> u32 {
        self.place.get() - 1
    }
}

/// Timers that carry a `T`. At most 2^32 - 1 at a time; for one thread.
#[derive(Debug)]
pub struct Wheel<T> {
    /// The wheel's time in ms: no timer in a slot is before it.
    time_ms: u64,
    nodes: Slab<Node<T>>,
    /// The generation of the next timer: counts them all, round and round.
    generation: u32,
    slots: Vec<Slot>,
    /// Which slots of a level hold timers.
    occupied: [u64; LEVELS],
    /// Which levels hold timers.
    levels: u16,
    /// The slot that holds the wheel's time and is not yet wholly moved down (level above 0).
    cascading: Option<usize>,
    /// Timers before the wheel's time.
    overdue: BinaryHeap<Reverse<Overdue>>,
    /// Entries of `overdue` whose timer was cancelled.
    stale: usize,
    /// Number of the next entry in `overdue`: keeps ties in order.
    late_seq: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    head: u32,
    tail: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Overdue {
    at_ms: u64,
    seq: u64,
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Node<T> {
    at_ms: u64,
    prev: u32,
    next: u32,
    generation: u32,
    /// Index of its slot, or [`OVERDUE`], or [`NOWHERE`].
    place: u16,
    item: T,
}

impl<T> Wheel<T> {
    /// An empty wheel whose time is `now_ms`. Allocates 6 KiB.
    #[must_use]
    pub fn new(now_ms: u64) -> Wheel<T> {
        Wheel {
            time_ms: now_ms,
            nodes: Slab::default(),
            generation: 0,
            slots: vec![Slot { head: NONE, tail: NONE }; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            levels: 0,
            cascading: None,
            overdue: BinaryHeap::new(),
            stale: 0,
            late_seq: 0,
        }
    }

    /// Timers that have neither fired nor been cancelled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no timer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a timer that is due when `at_ms <= now_ms` of an advance; a past one with the next.
    ///
    /// Constant time (a past one: `log` of the past ones at worst). Panics past 2^32 - 1 timers.
    pub fn insert(&mut self, at_ms: u64, item: T) -> TimerId {
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        let node = Node { at_ms, prev: NONE, next: NONE, generation, place: NOWHERE, item };
        let index = self.nodes.insert(node);
        if at_ms < self.time_ms {
            self.push_overdue(index);
        } else {
            self.link(index);
        }
        TimerId::new(index, generation)
    }

    /// When a timer fires, in ms, or `None` where it has or was cancelled. Constant time.
    #[must_use]
    pub fn at_ms(&self, id: TimerId) -> Option<u64> {
        let node = self.nodes.get(id.index())?;
        (node.generation == id.generation).then_some(node.at_ms)
    }

    /// Takes a timer back, or `None` where it has fired or been cancelled. Constant time.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let index = id.index();
        let node = self.nodes.get(index)?;
        if node.generation != id.generation {
            return None;
        }
        if node.place == OVERDUE {
            self.stale += 1;
        } else {
            self.unlink(index);
        }
        let item = self.nodes.remove(index).item;
        self.drop_stale();
        Some(item)
    }

    /// Moves to `now_ms` and appends up to `max` due items to `out`, in order of their time, those
    /// of one time in order of insertion. Returns whether more may be due now.
    ///
    /// Bounded by `max`: a huge slot is moved down in pieces, and the answer is then true although
    /// less than `max` came out. A later call with the same or a later time goes on. Where `now_ms`
    /// is before the wheel's time (the clock was set back), timers are placed anew and none fires
    /// before its time by the new clock; that costs as much as there are timers on the levels that
    /// the difference reaches.
    pub fn advance(&mut self, now_ms: u64, max: usize, out: &mut Vec<T>) -> bool {
        if now_ms < self.time_ms {
            self.set_back(now_ms);
        }
        let room = out.len().saturating_add(max);
        let mut moves = max.saturating_mul(CASCADE_PER_FIRED).max(CASCADE_MIN);
        self.fire_overdue(room, out);
        while let Some(at_ms) = self.slot_at_ms() {
            if now_ms < at_ms {
                break;
            }
            if room <= out.len() || moves == 0 {
                return true;
            }
            assert!(self.time_ms <= at_ms);
            self.time_ms = at_ms;
            match self.cascading.or_else(|| self.upper_slot()) {
                Some(slot) => moves -= self.cascade(slot, moves),
                None => self.fire_slot(room, out),
            }
        }
        assert!(self.cascading.is_none());
        self.time_ms = self.time_ms.max(now_ms);
        !self.overdue.is_empty()
    }

    /// A time in ms no later than the next due timer's, or `None` when there is none.
    ///
    /// It may be earlier (when a slot is to be moved down): an advance then fires nothing.
    #[must_use]
    pub fn next_at_ms(&self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        match self.overdue.peek() {
            Some(Reverse(entry)) => Some(entry.at_ms),
            None => self.slot_at_ms(),
        }
    }

    /// Panics where an invariant is broken. Walks everything: for tests and the simulator.
    pub fn assert_valid(&self) {
        let mut held = 0;
        for place in 0..LEVELS * SLOTS {
            let (mut prev, mut index) = (NONE, self.slots[place].head);
            let occupied = self.occupied[place / SLOTS] & (1 << (place % SLOTS)) != 0;
            assert_eq!(occupied, index != NONE);
            while index != NONE {
                let node = &self.nodes[index];
                let own = self.place_settled(node.at_ms);
                assert!(own == place || (own < place && self.cascading == Some(place)));
                assert_eq!((usize::from(node.place), node.prev), (place, prev));
                (prev, index, held) = (index, node.next, held + 1);
            }
            assert_eq!(self.slots[place].tail, prev);
        }
        for (level, occupied) in self.occupied.iter().enumerate() {
            assert_eq!(self.levels & (1 << level) != 0, *occupied != 0);
        }
        let stale = self.overdue.iter().filter(|Reverse(entry)| self.is_stale(entry)).count();
        assert_eq!(stale, self.stale);
        assert!(self.overdue.iter().all(|Reverse(entry)| entry.at_ms < self.time_ms));
        assert_eq!(held + self.overdue.len() - stale, self.len());
    }

    /// The start of the first occupied slot, in ms.
    fn slot_at_ms(&self) -> Option<u64> {
        if self.cascading.is_some() {
            return Some(self.time_ms);
        }
        if self.levels == 0 {
            return None;
        }
        // Times on a level are before all times on the next, and none is before the wheel's.
        let level = self.levels.trailing_zeros();
        let slot = self.occupied[level as usize].trailing_zeros();
        let shift = level * SLOT_BITS;
        let above = self.time_ms.checked_shr(shift + SLOT_BITS).unwrap_or(0);
        let above = above.checked_shl(shift + SLOT_BITS).unwrap_or(0);
        Some(above | (u64::from(slot) << shift))
    }

    /// The first occupied slot, where it is above level 0.
    fn upper_slot(&self) -> Option<usize> {
        assert!(self.levels != 0);
        let level = self.levels.trailing_zeros() as usize;
        let slot = self.occupied[level].trailing_zeros() as usize;
        (0 < level).then_some(level * SLOTS + slot)
    }

    /// Fires overdue timers until `out` has `room` items.
    fn fire_overdue(&mut self, room: usize, out: &mut Vec<T>) {
        while out.len() < room {
            let Some(Reverse(entry)) = self.overdue.pop() else { return };
            if self.is_stale(&entry) {
                self.stale -= 1;
                continue;
            }
            assert!(entry.at_ms < self.time_ms);
            out.push(self.nodes.remove(entry.index).item);
        }
        self.drop_stale();
    }

    /// Fires the timers of the wheel's present ms until `out` has `room` items.
    fn fire_slot(&mut self, room: usize, out: &mut Vec<T>) {
        let slot = (self.time_ms % SLOTS as u64) as usize;
        while out.len() < room {
            let index = self.slots[slot].head;
            if index == NONE {
                return;
            }
            assert_eq!(self.nodes[index].at_ms, self.time_ms);
            self.unlink(index);
            out.push(self.nodes.remove(index).item);
        }
    }

    /// Moves up to `max` timers of a slot that the wheel's time has entered down, in order.
    /// Returns how many.
    fn cascade(&mut self, slot: usize, max: usize) -> usize {
        assert!(SLOTS <= slot);
        // While a slot is being moved, `place` puts new timers of its times at its end.
        self.cascading = None;
        let mut moved = 0;
        while self.slots[slot].head != NONE {
            if max <= moved {
                self.cascading = Some(slot);
                return moved;
            }
            let index = self.slots[slot].head;
            self.unlink(index);
            self.link(index);
            assert!(usize::from(self.nodes[index].place) < slot);
            moved += 1;
        }
        moved
    }

    /// Moves the wheel's time back and places anew what the move concerns.
    fn set_back(&mut self, now_ms: u64) {
        assert!(now_ms < self.time_ms);
        // Only timers that shared more with the old time than the new time does have another place:
        // those below the highest level on which the times differ, and in a slot being moved down.
        // (That one starts at the wheel's time, so that any step back leaves it.)
        let top = level_of(self.time_ms ^ now_ms) * SLOTS;
        let cascading = self.cascading.take();
        let mut moved = Vec::new();
        for slot in (0..top).chain(cascading.filter(|&slot| top <= slot)) {
            while self.slots[slot].head != NONE {
                let index = self.slots[slot].head;
                self.unlink(index);
                moved.push(index);
            }
        }
        self.time_ms = now_ms;
        let overdue = std::mem::take(&mut self.overdue).into_sorted_vec();
        for Reverse(entry) in overdue.into_iter().rev() {
            if self.is_stale(&entry) {
                self.stale -= 1;
            } else if entry.at_ms < now_ms {
                self.overdue.push(Reverse(entry));
            } else {
                self.link(entry.index);
            }
        }
        assert_eq!(self.stale, 0);
        moved.into_iter().for_each(|index| self.link(index));
    }

    fn push_overdue(&mut self, index: u32) {
        let node = &mut self.nodes[index];
        assert!(node.at_ms < self.time_ms);
        node.place = OVERDUE;
        let (at_ms, generation, seq) = (node.at_ms, node.generation, self.late_seq);
        self.late_seq += 1;
        self.overdue.push(Reverse(Overdue { at_ms, seq, index, generation }));
    }

    fn is_stale(&self, entry: &Overdue) -> bool {
        self.nodes.get(entry.index).is_none_or(|node| node.generation != entry.generation)
    }

    /// Keeps cancelled entries off the heap's top and below half of it.
    fn drop_stale(&mut self) {
        while 0 < self.stale {
            let stale = self.overdue.peek().is_some_and(|Reverse(top)| self.is_stale(top));
            if !stale {
                break;
            }
            self.overdue.pop();
            self.stale -= 1;
        }
        if self.stale < STALE_MIN || self.stale * 2 < self.overdue.len() {
            return;
        }
        let is_it = |e: &Overdue| self.nodes.get(e.index).map(|node| node.generation);
        self.overdue.retain(|Reverse(e)| is_it(e) == Some(e.generation));
        self.stale = 0;
    }

    /// Where a new timer goes: behind the others of its time, also while they are moved down.
    fn place(&self, at_ms: u64) -> usize {
        let settled = self.place_settled(at_ms);
        match self.cascading {
            Some(slot) if settled / SLOTS < slot / SLOTS => slot,
            _ => settled,
        }
    }

    /// The slot for a time that is not before the wheel's, when nothing is being moved down.
    fn place_settled(&self, at_ms: u64) -> usize {
        assert!(self.time_ms <= at_ms);
        let level = level_of(at_ms ^ self.time_ms);
        assert!(level < LEVELS);
        let shift = level as u32 * SLOT_BITS;
        level * SLOTS + ((at_ms >> shift) % SLOTS as u64) as usize
    }

    fn link(&mut self, index: u32) {
        let place = self.place(self.nodes[index].at_ms);
        let tail = self.slots[place].tail;
        let node = &mut self.nodes[index];
        (node.place, node.prev, node.next) = (place as u16, tail, NONE);
        self.slots[place].tail = index;
        if tail == NONE {
            self.slots[place].head = index;
            self.occupied[place / SLOTS] |= 1 << (place % SLOTS);
            self.levels |= 1 << (place / SLOTS);
        } else {
            self.nodes[tail].next = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let &Node { prev, next, place, .. } = &self.nodes[index];
        let place = usize::from(place);
        assert!(place < LEVELS * SLOTS, "a timer in no slot is unlinked");
        assert!(self.occupied[place / SLOTS] & (1 << (place % SLOTS)) != 0);
        if prev == NONE {
            self.slots[place].head = next;
        } else {
            self.nodes[prev].next = next;
        }
        if next == NONE {
            self.slots[place].tail = prev;
        } else {
            self.nodes[next].prev = prev;
        }
        if self.slots[place].head == NONE {
            self.occupied[place / SLOTS] &= !(1 << (place % SLOTS));
            if self.occupied[place / SLOTS] == 0 {
                self.levels &= !(1 << (place / SLOTS));
            }
            if self.cascading == Some(place) {
                self.cascading = None;
            }
        }
    }
}

/// The level of the highest bit of a difference between two times.
fn level_of(difference: u64) -> usize {
    ((u64::BITS - 1 - (difference | 1).leading_zeros()) / SLOT_BITS) as usize
}

#[cfg(test)]
mod tests;
