//! Deficit round robin: keys share what is taken from the queue by cost, whatever they put in.
//!
//! Source: M. Shreedhar and G. Varghese, "Efficient Fair Queuing Using Deficit Round Robin", 1995.
//! Active keys stand in a ring. A key whose turn comes is credited a quantum, gives items while
//! its credit lasts, and goes to the end. Idle keys are forgotten, credit and all.
//!
//! Invariants: an active key holds an item; a key that is not eligible is passed over where it
//! stands, so that it comes first again once it is; within a key items leave as they came. The
//! quantum is 1, the finest interleaving. Where no key can afford its first item, the rounds until
//! one can are added up at once instead of walked, so that a `pop` looks at each key once.
//!
//! Items and keys live in slabs and are linked by index: a queue in steady state allocates nothing.

use crate::map::Map;
use std::hash::Hash;

/// Credit of a key for each turn, in units of cost.
const QUANTUM: u64 = 1;
/// Places that an empty queue keeps for reuse; above, their memory is given back.
const PLACES_KEPT: usize = 16_384;
/// The end of a list.
const NONE: u32 = u32::MAX;

/// Neighbours in a list, by index. Each index is in one list of its links at most.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<(u32, u32)>);

/// A doubly linked list of indices; the links are outside, so that lists can share them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl List {
    /// An empty list.
    pub(crate) const EMPTY: List = List { head: NONE, tail: NONE };

    /// The first index.
    pub(crate) fn first(self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// Appends `index`, which is in no list of these links.
    pub(crate) fn push(&mut self, links: &mut Links, index: u32) {
        assert!(index < NONE);
        let at = index as usize;
        if links.0.len() <= at {
            links.0.resize(at + 1, (NONE, NONE));
        }
        links.0[at] = (self.tail, NONE);
        match self.tail {
            NONE => self.head = index,
            tail => links.0[tail as usize].1 = index,
        }
        self.tail = index;
    }

    /// Takes out `index`, which is in this list.
    pub(crate) fn remove(&mut self, links: &mut Links, index: u32) {
        let (prev, next) = links.0[index as usize];
        match prev {
            NONE => {
                assert_eq!(self.head, index);
                self.head = next;
            }
            prev => links.0[prev as usize].1 = next,
        }
        match next {
            NONE => {
                assert_eq!(self.tail, index);
                self.tail = prev;
            }
            next => links.0[next as usize].0 = prev,
        }
    }

    /// Moves `index`, which is in this list, to its end.
    pub(crate) fn rotate(&mut self, links: &mut Links, index: u32) {
        if self.tail != index {
            self.remove(links, index);
            self.push(links, index);
        }
    }
}

impl Links {
    /// The index after `index` in its list.
    pub(crate) fn next(&self, index: u32) -> Option<u32> {
        let next = self.0[index as usize].1;
        (next != NONE).then_some(next)
    }
}

/// Items waiting under keys. At most 2^32 - 1 of each; for one thread.
#[derive(Debug)]
pub struct Fair<K, T> {
    index: Map<K, u32>,
    keys: Vec<Key<K>>,
    keys_free: Vec<u32>,
    /// Active keys, the next to serve first.
    ring: List,
    ring_links: Links,
    items: Vec<Item<T>>,
    items_free: u32,
    len: usize,
    /// Eligible keys that could not afford their first item in this `pop`.
    passed: Vec<u32>,
}

#[derive(Debug)]
struct Key<K> {
    key: K,
    head: u32,
    tail: u32,
    /// Unused credit. Below the cost of the first item, except while the key has its turn.
    deficit: u64,
}

#[derive(Debug)]
struct Item<T> {
    item: Option<T>,
    cost: u32,
    next: u32,
}

impl<K: Copy + Eq + Hash, T> Default for Fair<K, T> {
    fn default() -> Fair<K, T> {
        Fair::new()
    }
}

impl<K: Copy + Eq + Hash, T> Fair<K, T> {
    /// An empty queue. Allocates nothing.
    #[must_use]
    pub fn new() -> Fair<K, T> {
        Fair {
            index: Map::default(),
            keys: Vec::new(),
            keys_free: Vec::new(),
            ring: List::EMPTY,
            ring_links: Links::default(),
            items: Vec::new(),
            items_free: NONE,
            len: 0,
            passed: Vec::new(),
        }
    }

    /// Items held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no item is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `item` at the end of its key, which joins the ring at its end when it was idle.
    ///
    /// Constant time. Panics where `cost` is 0: such items would give one key every turn.
    pub fn push(&mut self, key: K, cost: u32, item: T) {
        assert!(0 < cost);
        let place = self.take_item(cost, item);
        let node = match self.index.get(&key) {
            Some(&node) => node,
            None => self.add_key(key),
        };
        let node = &mut self.keys[node as usize];
        match node.tail {
            NONE => node.head = place,
            tail => self.items[tail as usize].next = place,
        }
        node.tail = place;
        self.len += 1;
    }

    /// The first item of `key`.
    #[must_use]
    pub fn front(&self, key: K) -> Option<&T> {
        let node = *self.index.get(&key)?;
        self.items[self.keys[node as usize].head as usize].item.as_ref()
    }

    /// Takes the next item in turn of a key that is `eligible`; other keys keep their turn.
    ///
    /// Constant time where costs are 1 and the first key is eligible; one pass over the active keys
    /// at most, with one question each.
    pub fn pop(&mut self, eligible: impl FnMut(K) -> bool) -> Option<(K, T)> {
        self.pop_live(eligible, |_| false)
    }

    /// [`Fair::pop`], dropping items that are `dead` when they are met first in their key; they
    /// cost their key no turn.
    pub(crate) fn pop_live(
        &mut self,
        mut eligible: impl FnMut(K) -> bool,
        mut dead: impl FnMut(&T) -> bool,
    ) -> Option<(K, T)> {
        self.passed.clear();
        let mut best = None;
        let mut cursor = self.ring.first();
        while let Some(node) = cursor {
            cursor = self.ring_links.next(node);
            if !self.drop_dead(node, &mut dead) || !eligible(self.keys[node as usize].key) {
                continue;
            }
            let rounds = self.rounds(node);
            match best {
                Some((least, _)) if least <= rounds => {}
                _ => best = Some((rounds, node)),
            }
            if rounds <= 1 {
                break;
            }
            self.passed.push(node);
        }
        let (rounds, node) = best?;
        // A key that still has its turn needs no other, but those before it have had one.
        self.credit_passed(rounds.max(1), node);
        Some(self.serve(node, rounds))
    }

    /// Takes the first item of `key` out of turn; its credit stays.
    pub(crate) fn pop_front(&mut self, key: K) -> Option<T> {
        let node = *self.index.get(&key)?;
        let (item, _) = self.take_front(node);
        self.drop_idle(node);
        Some(item)
    }

    /// Takes out of turn, key by key in the order of the ring, first items while they are aged,
    /// and appends them with key and cost to `out`.
    ///
    /// Costs a look at every active key.
    pub fn pop_aged(&mut self, mut is_aged: impl FnMut(&T) -> bool, out: &mut Vec<(K, u32, T)>) {
        let mut cursor = self.ring.first();
        while let Some(node) = cursor {
            cursor = self.ring_links.next(node);
            let key = self.keys[node as usize].key;
            while self.first(node).is_some_and(&mut is_aged) {
                let (item, cost) = self.take_front(node);
                out.push((key, cost, item));
            }
            self.drop_idle(node);
        }
    }

    /// Drops every item that is not to be kept; the order of the others stays. One pass.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut cursor = self.ring.first();
        while let Some(node) = cursor {
            cursor = self.ring_links.next(node);
            let mut place = self.keys[node as usize].head;
            (self.keys[node as usize].head, self.keys[node as usize].tail) = (NONE, NONE);
            while place != NONE {
                let next = std::mem::replace(&mut self.items[place as usize].next, NONE);
                if self.items[place as usize].item.as_ref().is_some_and(&mut keep) {
                    let node = &mut self.keys[node as usize];
                    match node.tail {
                        NONE => node.head = place,
                        tail => self.items[tail as usize].next = place,
                    }
                    node.tail = place;
                } else {
                    self.free_item(place);
                }
                place = next;
            }
            self.drop_idle(node);
        }
    }

    /// Panics where an invariant is broken. Walks everything: for tests and the simulator.
    pub fn assert_valid(&self) {
        let (mut active, mut held) = (0, 0);
        let mut cursor = self.ring.first();
        while let Some(node) = cursor {
            cursor = self.ring_links.next(node);
            let key = &self.keys[node as usize];
            assert_eq!(self.index.get(&key.key), Some(&node));
            assert_ne!(key.head, NONE, "an active key holds an item");
            let (mut last, mut place) = (NONE, key.head);
            while place != NONE {
                assert!(self.items[place as usize].item.is_some());
                (last, place, held) = (place, self.items[place as usize].next, held + 1);
            }
            assert_eq!(key.tail, last);
            active += 1;
        }
        assert_eq!(self.len, held);
        assert_eq!(self.index.len(), active);
        assert_eq!(self.keys.len(), active + self.keys_free.len());
    }

    /// Turns that a key needs until it affords its first item; 0 while it has its turn.
    fn rounds(&self, node: u32) -> u64 {
        let node = &self.keys[node as usize];
        assert_ne!(node.head, NONE);
        let cost = u64::from(self.items[node.head as usize].cost);
        cost.saturating_sub(node.deficit).div_ceil(QUANTUM)
    }

    /// Credits the keys that were passed and puts them at the end, as if each turn had been walked:
    /// those after `served` have had one turn less than `rounds`, and those before it one more.
    fn credit_passed(&mut self, rounds: u64, served: u32) {
        assert!(1 <= rounds);
        let split = self.passed.iter().position(|&node| node == served);
        let (before, after) = match split {
            Some(at) => (0..at, at + 1..self.passed.len()),
            None => (0..self.passed.len(), 0..0),
        };
        for (range, turns) in [(after, rounds - 1), (before, rounds)] {
            for at in range {
                assert!(1 <= turns, "a key that had no turn keeps its place");
                let node = self.passed[at];
                self.keys[node as usize].deficit += turns * QUANTUM;
                self.ring.rotate(&mut self.ring_links, node);
            }
        }
    }

    /// Takes the first item of a key that affords it after `rounds` more turns.
    fn serve(&mut self, node: u32, rounds: u64) -> (K, T) {
        let (item, cost) = self.take_front(node);
        let entry = &mut self.keys[node as usize];
        let key = entry.key;
        let credit = entry.deficit + rounds * QUANTUM;
        assert!(u64::from(cost) <= credit);
        entry.deficit = credit - u64::from(cost);
        if !self.drop_idle(node) && 0 < self.rounds(node) {
            self.ring.rotate(&mut self.ring_links, node);
        }
        (key, item)
    }

    fn first(&self, node: u32) -> Option<&T> {
        match self.keys[node as usize].head {
            NONE => None,
            head => self.items[head as usize].item.as_ref(),
        }
    }

    /// Drops dead items at the front of a key; returns whether the key is still active.
    fn drop_dead(&mut self, node: u32, dead: &mut impl FnMut(&T) -> bool) -> bool {
        while self.first(node).is_some_and(&mut *dead) {
            self.take_front(node);
        }
        !self.drop_idle(node)
    }

    fn take_front(&mut self, node: u32) -> (T, u32) {
        let key = &mut self.keys[node as usize];
        let place = key.head;
        assert_ne!(place, NONE, "an active key holds an item");
        key.head = self.items[place as usize].next;
        if key.head == NONE {
            key.tail = NONE;
        }
        let cost = self.items[place as usize].cost;
        (self.free_item(place), cost)
    }

    /// Forgets a key that holds nothing; returns whether it did.
    fn drop_idle(&mut self, node: u32) -> bool {
        let key = &self.keys[node as usize];
        if key.head != NONE {
            return false;
        }
        assert_eq!(key.tail, NONE);
        let found = self.index.remove(&key.key);
        assert_eq!(found, Some(node));
        self.ring.remove(&mut self.ring_links, node);
        self.keys_free.push(node);
        if self.len == 0 && PLACES_KEPT < self.items.len() {
            *self = Fair::new();
        }
        true
    }

    fn add_key(&mut self, key: K) -> u32 {
        let entry = Key { key, head: NONE, tail: NONE, deficit: 0 };
        let node = match self.keys_free.pop() {
            Some(node) => {
                self.keys[node as usize] = entry;
                node
            }
            None => {
                assert!(self.keys.len() < NONE as usize, "too many keys");
                self.keys.push(entry);
                (self.keys.len() - 1) as u32
            }
        };
        let before = self.index.insert(key, node);
        assert!(before.is_none());
        self.ring.push(&mut self.ring_links, node);
        node
    }

    fn take_item(&mut self, cost: u32, item: T) -> u32 {
        let place = self.items_free;
        if place == NONE {
            assert!(self.items.len() < NONE as usize, "too many items");
            self.items.push(Item { item: Some(item), cost, next: NONE });
            return (self.items.len() - 1) as u32;
        }
        let entry = &mut self.items[place as usize];
        assert!(entry.item.is_none());
        self.items_free = entry.next;
        *entry = Item { item: Some(item), cost, next: NONE };
        place
    }

    fn free_item(&mut self, place: u32) -> T {
        let entry = &mut self.items[place as usize];
        entry.next = self.items_free;
        self.items_free = place;
        assert!(0 < self.len);
        self.len -= 1;
        entry.item.take().expect("an item in a list is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_keys_and_a_past_crowd_take_no_memory() {
        let mut fair = Fair::new();
        for key in 0..100_000_u32 {
            fair.push(key, 1, key);
            assert_eq!(fair.pop(|_| true), Some((key, key)));
        }
        assert_eq!((fair.keys.len(), fair.items.len(), fair.index.len()), (1, 1, 0));
        (0..=PLACES_KEPT as u32).for_each(|key| fair.push(key, 1, key));
        while fair.pop(|_| true).is_some() {}
        assert_eq!((fair.items.capacity(), fair.keys.capacity(), fair.index.capacity()), (0, 0, 0));
    }

    #[test]
    fn what_is_not_kept_goes_and_the_rest_stays_in_order() {
        let mut fair = Fair::new();
        (0..30_u32).for_each(|number| fair.push(number % 5, 1, number));
        fair.retain(|number| number % 5 != 2 && 10 <= *number);
        fair.assert_valid();
        let left: Vec<u32> = std::iter::from_fn(|| fair.pop(|_| true)).map(|(_, n)| n).collect();
        assert_eq!(left, (10..30).filter(|n| n % 5 != 2).collect::<Vec<_>>());
    }

    #[test]
    fn dead_items_cost_their_key_no_turn() {
        let mut fair = Fair::new();
        [(1, 10), (1, 11), (2, 20), (2, 21)].into_iter().for_each(|(k, n)| fair.push(k, 1, n));
        assert_eq!(fair.pop_live(|_| true, |&n| n == 10), Some((1, 11)));
        assert_eq!(fair.pop_live(|key| key != 2, |&n| n == 20), None);
        assert_eq!(fair.pop(|_| true), Some((2, 21)));
        fair.assert_valid();
    }
}
