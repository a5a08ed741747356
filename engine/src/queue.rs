//! The ready queue of one shard: priority that rises with waiting, lanes in turn, fair over keys.
//!
//! Ten levels, one for each priority; on each a ring of lanes (an agent's work, say); in each lane
//! deficit round robin over fairness keys ([`crate::fair`]); within a key the order of arrival. One
//! bit per level says which hold something. What has waited long enough goes up one level and
//! joins its key there at the end, so that nothing starves below a busy level.
//!
//! Invariants: tasks of one key and priority leave in the order in which they were pushed: they
//! rise in that order too, because only the first of a key rises. The list by which a level ages
//! holds its tasks in the order in which they came to it, so that its head is always the first of
//! its key. Forgotten tasks are at most half of what is held.
//!
//! Forgetting marks, because a cancelled task is rare and an index of all tasks would cost every
//! push and pop a look into a big map.

use crate::fair::{Fair, Links, List};
use crate::id::TaskId;
use crate::limits::PRIORITY_MAX;
use crate::map::{Map, Set};
use crate::time::Millis;

/// Levels of effective priority.
const LEVELS: usize = PRIORITY_MAX as usize + 1;
/// What one task costs its key.
const COST: u32 = 1;
/// Forgotten tasks that a look for the longest waiting passes over on a level, at most.
const FORGOTTEN_PASSED_MAX: usize = 1_024;

const _: () = assert!(LEVELS <= u16::BITS as usize);

/// A line of tasks that can be blocked as a whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneId(pub u32);

/// A fairness key within a lane.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyId(pub u32);

/// A task that may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// Which.
    pub task: TaskId,
    /// Its lane.
    pub lane: LaneId,
    /// Its fairness key.
    pub key: KeyId,
    /// The priority it was given, 0 to [`PRIORITY_MAX`]; ageing leaves it as it is.
    pub priority: u8,
    /// Tells this readiness of the task from an earlier one.
    pub ready_seq: u64,
    /// When it became ready: ageing counts from here.
    pub ready_at: Millis,
}

/// Tasks that may start. For one thread; holds at most 2^32 - 1 of them.
#[derive(Debug)]
pub struct ReadyQueue {
    ageing_ms: u64,
    entries: Vec<Entry>,
    entries_free: Vec<u32>,
    held: usize,
    age_links: Links,
    levels: [Level; LEVELS],
    /// Which levels hold tasks.
    occupied: u16,
    lanes: Vec<Lane>,
    lanes_free: Vec<u32>,
    lane_index: Map<LaneId, u32>,
    /// Tasks that are held and shall not leave.
    forgotten: Set<(TaskId, u64)>,
    /// Entries whose task was met and forgotten, to be freed.
    dropped: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    ready: Ready,
    /// When it came to its level.
    since_ms: u64,
    lane: u32,
    level: u8,
}

#[derive(Debug)]
struct Level {
    /// Lanes that hold tasks here, the next to serve first.
    ring: List,
    ring_links: Links,
    /// Tasks in the order in which they came to this level.
    ageing: List,
}

#[derive(Debug)]
struct Lane {
    id: LaneId,
    held: usize,
    queues: [Fair<KeyId, u32>; LEVELS],
}

impl ReadyQueue {
    /// An empty queue in which waiting `ageing_ms` raises a task by one level.
    #[must_use]
    pub fn new(ageing_ms: u64) -> ReadyQueue {
        let level =
            || Level { ring: List::EMPTY, ring_links: Links::default(), ageing: List::EMPTY };
        ReadyQueue {
            ageing_ms,
            entries: Vec::new(),
            entries_free: Vec::new(),
            held: 0,
            age_links: Links::default(),
            levels: std::array::from_fn(|_| level()),
            occupied: 0,
            lanes: Vec::new(),
            lanes_free: Vec::new(),
            lane_index: Map::default(),
            forgotten: Set::default(),
            dropped: Vec::new(),
        }
    }

    /// Tasks held, without forgotten ones.
    #[must_use]
    pub fn len(&self) -> usize {
        assert!(self.forgotten.len() <= self.held);
        self.held - self.forgotten.len()
    }

    /// Whether no task is held; forgotten ones do not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tasks held in one lane; forgotten ones count until they are met.
    #[must_use]
    pub fn lane_len(&self, lane: LaneId) -> usize {
        self.lane_index.get(&lane).map_or(0, |&lane| self.lanes[lane as usize].held)
    }

    /// When the longest waiting task became ready, among those that came first to their levels.
    ///
    /// What rose to a level waits there behind what came to it earlier: of two such the one that is
    /// younger by up to nine times the ageing may be told. Constant time, but for the forgotten.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Millis> {
        let first = |level: &Level| {
            let mut cursor = level.ageing.first();
            for _ in 0..FORGOTTEN_PASSED_MAX {
                let ready = &self.entries[cursor? as usize].ready;
                if !self.forgotten.contains(&(ready.task, ready.ready_seq)) {
                    return Some(ready.ready_at);
                }
                cursor = self.age_links.next(cursor?);
            }
            None
        };
        self.levels.iter().filter_map(first).min()
    }

    /// Adds a task at the end of its key. Panics where the priority is above [`PRIORITY_MAX`].
    pub fn push(&mut self, ready: Ready) {
        assert!(ready.priority <= PRIORITY_MAX);
        let lane = self.lane_at(ready.lane);
        let since_ms = ready.ready_at.0;
        let entry = Entry { ready, since_ms, lane, level: ready.priority };
        let index = match self.entries_free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                assert!(self.entries.len() < u32::MAX as usize, "too many ready tasks");
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.held += 1;
        self.lanes[lane as usize].held += 1;
        self.enter(index);
    }

    /// Forgets a task that is held (it was cancelled): it is skipped when it is met.
    ///
    /// Constant time on average: when more than half is forgotten, one pass removes it. A task that
    /// is not held must not be forgotten; it is found by an assertion in that pass.
    pub fn forget(&mut self, task: TaskId, ready_seq: u64) {
        self.forgotten.insert((task, ready_seq));
        self.compact_if_due();
    }

    /// Removes what is forgotten, in one pass over all: a task that was forgotten may then be
    /// pushed again as it was.
    pub fn purge(&mut self) {
        if !self.forgotten.is_empty() {
            self.compact();
        }
    }

    /// Takes the next task to start among those for which `eligible(lane, key)`.
    ///
    /// The highest level first, on a level the lanes in turn, in a lane the keys in turn, in a key
    /// the first that came. What is not eligible keeps its turn. Asks once for each active key
    /// that it passes; a caller that knows whole lanes to be blocked uses [`ReadyQueue::pop_open`].
    pub fn pop(&mut self, eligible: impl FnMut(LaneId, KeyId) -> bool) -> Option<Ready> {
        self.pop_open(|_| true, eligible)
    }

    /// [`ReadyQueue::pop`] that first asks whether the lane is open: a closed one costs one
    /// question per level instead of one per key.
    pub fn pop_open(
        &mut self,
        mut open: impl FnMut(LaneId) -> bool,
        mut eligible: impl FnMut(LaneId, KeyId) -> bool,
    ) -> Option<Ready> {
        let mut levels = self.occupied;
        while levels != 0 {
            let level = levels.ilog2() as usize;
            levels &= !(1 << level);
            let mut cursor = self.levels[level].ring.first();
            while let Some(lane) = cursor {
                cursor = self.levels[level].ring_links.next(lane);
                let id = self.lanes[lane as usize].id;
                if !open(id) {
                    continue;
                }
                let ready = self.pop_at(level, lane, |key| eligible(id, key));
                if ready.is_some() {
                    return ready;
                }
            }
        }
        None
    }

    /// [`ReadyQueue::pop`] within one lane, which has had its turn thereby.
    pub fn pop_lane(
        &mut self,
        lane: LaneId,
        mut eligible: impl FnMut(KeyId) -> bool,
    ) -> Option<Ready> {
        let lane = *self.lane_index.get(&lane)?;
        let mut levels = self.occupied;
        while levels != 0 {
            let level = levels.ilog2() as usize;
            levels &= !(1 << level);
            if self.lanes[lane as usize].queues[level].is_empty() {
                continue;
            }
            let ready = self.pop_at(level, lane, &mut eligible);
            if ready.is_some() {
                return ready;
            }
        }
        None
    }

    /// Raises by one level what has waited `ageing_ms` since it became ready or was last raised.
    ///
    /// Call it at times of your choosing; a task rises by one level a call at most. Touches `max`
    /// tasks at most and returns whether more are due. A task that seems to have come in the future
    /// (the clock was set back) waits from `now` on.
    pub fn age(&mut self, now: Millis, max: usize) -> bool {
        let mut touched = 0;
        // From the top: what rises is then not met again.
        for level in (0..LEVELS - 1).rev() {
            while let Some(index) = self.levels[level].ageing.first() {
                let since_ms = self.entries[index as usize].since_ms;
                if now.0 < since_ms {
                    self.set_back(level, now);
                    continue;
                }
                if now.0 < since_ms.saturating_add(self.ageing_ms) {
                    break;
                }
                if max <= touched {
                    return true;
                }
                touched += 1;
                self.raise(index, now);
            }
        }
        false
    }

    /// Panics where an invariant is broken. Walks everything: for tests and the simulator.
    pub fn assert_valid(&self) {
        let (mut held, mut aged) = (0, 0);
        for (number, level) in self.levels.iter().enumerate() {
            let mut cursor = level.ring.first();
            assert_eq!(self.occupied & (1 << number) != 0, cursor.is_some());
            while let Some(lane) = cursor {
                cursor = level.ring_links.next(lane);
                let queue = &self.lanes[lane as usize].queues[number];
                queue.assert_valid();
                assert!(!queue.is_empty());
                held += queue.len();
            }
            let mut cursor = level.ageing.first();
            while let Some(index) = cursor {
                cursor = self.age_links.next(index);
                assert_eq!(usize::from(self.entries[index as usize].level), number);
                aged += 1;
            }
        }
        assert_eq!((held, aged), (self.held, self.held));
        assert_eq!(held + self.entries_free.len(), self.entries.len());
        assert_eq!(self.lanes.iter().map(|lane| lane.held).sum::<usize>(), held);
        assert_eq!(self.lane_index.len() + self.lanes_free.len(), self.lanes.len());
        assert!(self.forgotten.len() * 2 <= held && self.dropped.is_empty());
    }

    /// Puts a task at the end of its key on its level.
    fn enter(&mut self, index: u32) {
        let Entry { ready, lane, level, .. } = &self.entries[index as usize];
        let (key, lane, level) = (ready.key, *lane, usize::from(*level));
        let queue = &mut self.lanes[lane as usize].queues[level];
        let idle = queue.is_empty();
        queue.push(key, COST, index);
        let level_state = &mut self.levels[level];
        if idle {
            level_state.ring.push(&mut level_state.ring_links, lane);
            self.occupied |= 1 << level;
        }
        level_state.ageing.push(&mut self.age_links, index);
    }

    /// Takes the next task of one lane on one level.
    fn pop_at(
        &mut self,
        level: usize,
        lane: u32,
        eligible: impl FnMut(KeyId) -> bool,
    ) -> Option<Ready> {
        let queue = &mut self.lanes[lane as usize].queues[level];
        if self.forgotten.is_empty() {
            let (_, index) = queue.pop(eligible)?;
            self.leave(level, lane);
            return Some(self.free(index));
        }
        self.pop_remembered(level, lane, eligible)
    }

    /// [`ReadyQueue::pop_at`] while some tasks are forgotten.
    fn pop_remembered(
        &mut self,
        level: usize,
        lane: u32,
        eligible: impl FnMut(KeyId) -> bool,
    ) -> Option<Ready> {
        let queue = &mut self.lanes[lane as usize].queues[level];
        let (entries, forgotten, dropped) = (&self.entries, &mut self.forgotten, &mut self.dropped);
        let popped = queue.pop_live(eligible, |&index| {
            let ready = &entries[index as usize].ready;
            let dead = forgotten.remove(&(ready.task, ready.ready_seq));
            if dead {
                dropped.push(index);
            }
            dead
        });
        if popped.is_some() || self.lanes[lane as usize].queues[level].is_empty() {
            self.leave(level, lane);
        }
        self.free_dropped();
        let (_, index) = popped?;
        let ready = self.free(index);
        self.compact_if_due();
        Some(ready)
    }

    /// Ends a lane's turn on a level: to the end of the ring, or out of it when it is empty.
    fn leave(&mut self, level: usize, lane: u32) {
        let state = &mut self.levels[level];
        assert!(self.occupied & (1 << level) != 0);
        if !self.lanes[lane as usize].queues[level].is_empty() {
            state.ring.rotate(&mut state.ring_links, lane);
            return;
        }
        state.ring.remove(&mut state.ring_links, lane);
        if state.ring.first().is_none() {
            self.occupied &= !(1 << level);
        }
    }

    /// Frees an entry that is in no key any more.
    fn free(&mut self, index: u32) -> Ready {
        let Entry { ready, lane, level, .. } = self.entries[index as usize];
        self.levels[usize::from(level)].ageing.remove(&mut self.age_links, index);
        self.entries_free.push(index);
        assert!(0 < self.held);
        self.held -= 1;
        let state = &mut self.lanes[lane as usize];
        assert!(state.id == ready.lane && 0 < state.held);
        state.held -= 1;
        if state.held == 0 {
            self.lane_index.remove(&ready.lane);
            self.lanes_free.push(lane);
        }
        ready
    }

    fn free_dropped(&mut self) {
        while let Some(index) = self.dropped.pop() {
            self.free(index);
        }
    }

    /// Moves a task that is the first of its key up one level, or frees it when it is forgotten.
    fn raise(&mut self, index: u32, now: Millis) {
        let Entry { ready, lane, level, .. } = self.entries[index as usize];
        assert!(level < PRIORITY_MAX);
        let queue = &mut self.lanes[lane as usize].queues[usize::from(level)];
        let first = queue.pop_front(ready.key);
        assert_eq!(first, Some(index), "the longest waiting is the first of its key");
        if queue.is_empty() {
            self.leave(usize::from(level), lane);
        }
        if self.forgotten.remove(&(ready.task, ready.ready_seq)) {
            self.free(index);
            return;
        }
        self.levels[usize::from(level)].ageing.remove(&mut self.age_links, index);
        let entry = &mut self.entries[index as usize];
        (entry.level, entry.since_ms) = (level + 1, now.0);
        self.enter(index);
    }

    /// Lets no task of a level have come after `now`.
    fn set_back(&mut self, level: usize, now: Millis) {
        let mut cursor = self.levels[level].ageing.first();
        while let Some(index) = cursor {
            cursor = self.age_links.next(index);
            let entry = &mut self.entries[index as usize];
            entry.since_ms = entry.since_ms.min(now.0);
        }
    }

    /// Compacts when more than half of what is held is forgotten: for each task that the pass keeps
    /// it removes one at least, so that it costs a constant for each forgotten one.
    fn compact_if_due(&mut self) {
        if self.held < self.forgotten.len() * 2 {
            self.compact();
        }
    }

    /// Removes every forgotten task in one pass.
    fn compact(&mut self) {
        for level in 0..LEVELS {
            let mut cursor = self.levels[level].ring.first();
            while let Some(lane) = cursor {
                cursor = self.levels[level].ring_links.next(lane);
                let (entries, forgotten, dropped) =
                    (&self.entries, &mut self.forgotten, &mut self.dropped);
                let queue = &mut self.lanes[lane as usize].queues[level];
                queue.retain(|&index| {
                    let ready = &entries[index as usize].ready;
                    let dead = forgotten.remove(&(ready.task, ready.ready_seq));
                    if dead {
                        dropped.push(index);
                    }
                    !dead
                });
                if queue.is_empty() {
                    self.leave(level, lane);
                }
                self.free_dropped();
            }
        }
        assert!(self.forgotten.is_empty(), "a task was forgotten that was not held");
    }

    fn lane_at(&mut self, id: LaneId) -> u32 {
        if let Some(&lane) = self.lane_index.get(&id) {
            return lane;
        }
        let lane = match self.lanes_free.pop() {
            Some(lane) => {
                assert_eq!(self.lanes[lane as usize].held, 0);
                self.lanes[lane as usize].id = id;
                lane
            }
            None => {
                let queues = std::array::from_fn(|_| Fair::new());
                self.lanes.push(Lane { id, held: 0, queues });
                (self.lanes.len() - 1) as u32
            }
        };
        let before = self.lane_index.insert(id, lane);
        assert!(before.is_none());
        lane
    }
}
