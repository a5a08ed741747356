//! The slots of a shard: how much work runs at once, and who holds which place.
//!
//! Invariant: a [`SlotId`] is good from `try_take` to `release` and never again, as its generation
//! then passes. A release with a stale one is a broken invariant, not a late message: two holders
//! of one slot would mean that work runs uncounted. The wanted number is only compared with how
//! many are taken, so that a pool shrinks by itself as its slots come back.

use crate::id::TaskId;
use crate::limits::SLOTS_MAX;

/// Names one taken slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId {
    /// Its place, from 0.
    pub index: u32,
    /// Which taking of it this is. Repeats after 2^32 releases of one place.
    pub generation: u32,
}

/// The slots of one shard.
#[derive(Debug)]
pub struct Slots {
    entries: Vec<Entry>,
    /// Places that are not taken, the last released on top: its memory is warm.
    free: Vec<u32>,
    used: usize,
    wanted: usize,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    task: Option<TaskId>,
}

impl Slots {
    /// `len` free slots. Panics above [`SLOTS_MAX`].
    #[must_use]
    pub fn new(len: usize) -> Slots {
        assert!(len <= SLOTS_MAX);
        Slots { entries: Vec::new(), free: Vec::new(), used: 0, wanted: len }
    }

    /// Takes a slot for `task`, or `None` when all are taken. Constant time.
    pub fn try_take(&mut self, task: TaskId) -> Option<SlotId> {
        if self.wanted <= self.used {
            return None;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.entries.push(Entry { generation: 0, task: None });
                (self.entries.len() - 1) as u32
            }
        };
        let entry = &mut self.entries[index as usize];
        assert!(entry.task.is_none(), "a free slot is held by {:?}", entry.task);
        entry.task = Some(task);
        let generation = entry.generation;
        self.used += 1;
        assert_eq!(self.used + self.free.len(), self.entries.len());
        Some(SlotId { index, generation })
    }

    /// Gives a slot back. Panics where `slot` is not taken or is of an earlier taking.
    pub fn release(&mut self, slot: SlotId) {
        let entry = &mut self.entries[slot.index as usize];
        assert_eq!(entry.generation, slot.generation, "a stale slot was released");
        assert!(entry.task.is_some(), "a free slot was released");
        entry.task = None;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot.index);
        self.used -= 1;
    }

    /// Who holds `slot`, or `None` where it was released.
    #[must_use]
    pub fn task(&self, slot: SlotId) -> Option<TaskId> {
        let entry = self.entries.get(slot.index as usize)?;
        if entry.generation != slot.generation {
            return None;
        }
        entry.task
    }

    /// Taken slots.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Slots there are: as many as wanted, or as many as are taken where that is more.
    #[must_use]
    pub fn len(&self) -> usize {
        self.wanted.max(self.used)
    }

    /// Whether there is no slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wants `len` slots: more are there at once, fewer as taken ones are released.
    ///
    /// Panics above [`SLOTS_MAX`].
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= SLOTS_MAX);
        self.wanted = len;
        assert!(self.used <= self.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PartitionId;

    fn task(number: u64) -> TaskId {
        TaskId::new(number, number, PartitionId(0))
    }

    #[test]
    fn taken_slots_are_counted_and_full_is_an_answer() {
        let mut slots = Slots::new(2);
        let first = slots.try_take(task(1)).expect("free");
        let second = slots.try_take(task(2)).expect("free");
        assert_ne!(first, second);
        assert_eq!(slots.try_take(task(3)), None);
        assert_eq!((slots.used(), slots.len()), (2, 2));
        slots.release(first);
        assert_eq!(slots.task(first), None);
        assert_eq!(slots.task(second), Some(task(2)));
        let third = slots.try_take(task(3)).expect("released");
        assert_eq!(third.index, first.index);
        assert_ne!(third.generation, first.generation);
    }

    #[test]
    fn a_pool_grows_at_once_and_shrinks_as_slots_come_back() {
        let mut slots = Slots::new(3);
        let taken: Vec<_> = (0..3).map(|n| slots.try_take(task(n)).expect("free")).collect();
        slots.set_len(1);
        for (released, slot) in (1..).zip(&taken[..2]) {
            slots.release(*slot);
            assert_eq!((slots.used(), slots.len()), (3 - released, 3 - released));
            assert_eq!(slots.try_take(task(9)), None);
        }
        slots.set_len(4);
        assert_eq!(slots.len(), 4);
        assert_eq!((0..9).filter_map(|n| slots.try_take(task(n))).count(), 3);
        slots.set_len(0);
        assert!(!slots.is_empty());
    }

    #[test]
    #[should_panic(expected = "stale slot")]
    fn a_stale_release_is_a_broken_invariant() {
        let mut slots = Slots::new(1);
        let slot = slots.try_take(task(1)).expect("free");
        slots.release(slot);
        let _ = slots.try_take(task(2));
        slots.release(slot);
    }
}
