//! A partition's state: its tasks and its idempotency keys. Only `machine::apply` changes a
//! [`Task`]; what stands beside it in [`Held`] is derived from it and never stored.
//!
//! Headers lie dense in a [`Slab`] and are found through a table of their numbers there: a table
//! has up to twice as many places as entries and moves them all when it grows, and the id that it
//! looks for stands in the header, which is looked at next anyway.

use crate::dedup::Keys;
use crate::id::{PartitionId, ReplyTo, TaskId};
use crate::map::mix;
use crate::port::Loaded;
use crate::queue::{KeyId, LaneId};
use crate::slab::Slab;
use crate::slot::SlotId;
use crate::task::{Lease, State, Task};
use crate::time::Mono;
use crate::wheel::TimerId;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// The tasks and keys of one partition.
#[derive(Debug)]
pub struct PartitionState {
    /// Which.
    pub id: PartitionId,
    /// Live tasks and dead letters; an ended task stays until its batch is closed.
    pub tasks: Tasks,
    /// Idempotency keys.
    pub keys: Keys,
    /// The last place given to a ready task.
    pub ready_seq: u64,
    /// Whether it is on its way to another node: nothing of it starts here any more.
    pub is_leaving: bool,
}

/// Tasks by their id, in two tables.
///
/// Most tasks come, run and go within a few turns, and their places should stay in the caches,
/// whatever else lives: a shard's million parked loops have a table apart, which a task enters when
/// it has to wait.
#[derive(Debug, Default)]
pub struct Tasks {
    /// All of them.
    held: Slab<Held>,
    /// Submitted, and running since.
    recent: HashTable<u32>,
    /// Have waited: for their time, their turn, a timer, a person; dead letters; what was loaded.
    settled: HashTable<u32>,
}

/// A smaller table of recent tasks is not shrunk.
const RECENT_PLACES_MIN: usize = 1_024;

/// A task and what its shard keeps beside it.
#[derive(Debug)]
pub struct Held {
    /// The task itself.
    pub task: Task,
    /// Its lane in the ready queue.
    pub lane: LaneId,
    /// Its fairness key.
    pub key: KeyId,
    /// The timer of `run_at` and of waits.
    pub wall_timer: Option<TimerId>,
    /// The timer of the deadline.
    pub deadline_timer: Option<TimerId>,
    /// What an attempt under way has; a parked task has none.
    pub active: Option<Box<Active>>,
    /// Who wants to hear of it.
    pub watchers: Option<Box<Watchers>>,
    /// Whether it stands in the ready queue.
    pub is_queued: bool,
    /// Whether the open batch has events of it.
    pub is_touched: bool,
    /// Whether the open batch submitted it.
    pub is_new: bool,
    /// Whether it counts against its agent's bounds.
    pub is_counted: bool,
    /// Which of [`Tasks`]' tables it stands in.
    pub is_settled: bool,
}

// With its loop (96 B), its timer (48 B), its input (some 32 B) and its place in the table (6 to
// 12 B) a parked loop stays well below the 512 B of DESIGN §12.
const _: () = assert!(size_of::<Held>() <= 248);

/// What only a running task has, and of those only one with a slot, a lease or a time-out.
#[derive(Debug)]
pub struct Active {
    /// Its slot, while this node works on it.
    pub slot: Option<SlotId>,
    /// A worker's lease, while one holds it.
    pub lease: Option<Lease>,
    /// When the attempt under way times out.
    pub attempt_ends_at: Mono,
    /// The longest wait that a failed step of this attempt asked for, in ms.
    pub retry_after_ms: u64,
    /// When the model call under way was ordered.
    pub model_called_at: Option<Mono>,
    /// The timer of lease and attempt.
    pub mono_timer: Option<TimerId>,
}

impl Default for Active {
    fn default() -> Active {
        Active {
            slot: None,
            lease: None,
            attempt_ends_at: Mono(u64::MAX),
            retry_after_ms: 0,
            model_called_at: None,
            mono_timer: None,
        }
    }
}

/// Who waits for a task's end, and who follows its events.
#[derive(Debug, Default)]
pub struct Watchers {
    /// Long polls.
    pub polls: Vec<ReplyTo>,
    /// Event streams.
    pub streams: Vec<ReplyTo>,
}

impl Held {
    /// A task with nothing beside it yet.
    #[must_use]
    pub fn new(task: Task, lane: LaneId, key: KeyId) -> Held {
        Held {
            task,
            lane,
            key,
            wall_timer: None,
            deadline_timer: None,
            active: None,
            watchers: None,
            is_queued: false,
            is_touched: false,
            is_new: false,
            is_counted: false,
            is_settled: false,
        }
    }

    /// How many watch it.
    #[must_use]
    pub fn watchers_len(&self) -> usize {
        self.watchers.as_ref().map_or(0, |w| w.polls.len() + w.streams.len())
    }

    /// Its slot, while this node works on it.
    #[must_use]
    pub fn slot(&self) -> Option<SlotId> {
        self.active.as_ref()?.slot
    }

    /// A worker's lease, while one holds it.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.active.as_ref()?.lease
    }

    /// What its attempt has, to change it.
    pub fn active_mut(&mut self) -> &mut Active {
        self.active.get_or_insert_default()
    }
}

impl Tasks {
    /// Tasks held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The task of that id.
    #[must_use]
    pub fn get(&self, id: TaskId) -> Option<&Held> {
        self.held.get(self.find(id)?)
    }

    /// The task of that id, to change it.
    pub fn get_mut(&mut self, id: TaskId) -> Option<&mut Held> {
        self.held.get_mut(self.find(id)?)
    }

    /// Adds a new task. Panics where one of its id is among the recent ones; [`Tasks::settle`]
    /// looks at the others.
    pub fn insert(&mut self, held: Held) {
        assert!(!held.is_settled);
        let number = self.held.insert(held);
        insert(&mut self.recent, &self.held, number);
    }

    /// Adds a task that was loaded. Panics where one of its id is held.
    pub fn insert_settled(&mut self, mut held: Held) {
        held.is_settled = true;
        let number = self.held.insert(held);
        insert(&mut self.settled, &self.held, number);
    }

    /// Moves a recent task to the settled ones. Panics where it is not recent, or one of its id is
    /// settled already.
    pub fn settle(&mut self, id: TaskId) {
        let number = take(&mut self.recent, &self.held, id).expect("a recent task settles");
        self.held[number].is_settled = true;
        insert(&mut self.settled, &self.held, number);
        self.shrink_recent();
    }

    /// Takes a task out.
    pub fn remove(&mut self, id: TaskId) -> Option<Held> {
        let number = match take(&mut self.recent, &self.held, id) {
            Some(number) => {
                self.shrink_recent();
                number
            }
            None => take(&mut self.settled, &self.held, id)?,
        };
        Some(self.held.remove(number))
    }

    /// All of them, in an order that is the same in every run.
    pub fn values(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    fn find(&self, id: TaskId) -> Option<u32> {
        let place = place(id);
        let is_it = |number: &u32| self.held[*number].task.id == id;
        self.recent.find(place, is_it).or_else(|| self.settled.find(place, is_it)).copied()
    }

    /// A burst must not leave a large table behind: it would miss the caches for ever.
    fn shrink_recent(&mut self) {
        let (len, capacity) = (self.recent.len(), self.recent.capacity());
        if RECENT_PLACES_MIN < capacity && len < capacity / 8 {
            let held = &self.held;
            self.recent.shrink_to(len * 2, |number| place_of(held, *number));
        }
    }
}

fn insert(table: &mut HashTable<u32>, held: &Slab<Held>, number: u32) {
    let id = held[number].task.id;
    let is_it = |other: &u32| held[*other].task.id == id;
    match table.entry(place(id), is_it, |number| place_of(held, *number)) {
        Entry::Vacant(entry) => drop(entry.insert(number)),
        Entry::Occupied(_) => panic!("task {id} is held already"),
    }
}

fn take(table: &mut HashTable<u32>, held: &Slab<Held>, id: TaskId) -> Option<u32> {
    let entry = table.find_entry(place(id), |number| held[*number].task.id == id).ok()?;
    Some(entry.remove().0)
}

fn place_of(held: &Slab<Held>, number: u32) -> u64 {
    place(held[number].task.id)
}

fn place(id: TaskId) -> u64 {
    let id = id.to_u128();
    mix((id >> 64) as u64, id as u64)
}

impl PartitionState {
    /// A partition without tasks.
    #[must_use]
    pub fn new(id: PartitionId) -> PartitionState {
        let (tasks, keys) = (Tasks::default(), Keys::new(id));
        PartitionState { id, tasks, keys, ready_seq: 0, is_leaving: false }
    }

    /// What a store should give back for this state: live tasks and dead letters.
    #[must_use]
    pub fn image(&self) -> Loaded {
        let mut tasks: Vec<Task> = self
            .tasks
            .values()
            .map(|held| held.task.clone())
            .filter(|task| !task.state.is_ended() || task.state == State::Failed)
            .collect();
        tasks.sort_by_key(|task| task.id);
        Loaded { tasks, keys: self.keys.rows(), feedback: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;
    use crate::task::NewTask;
    use crate::time::Millis;

    fn held(n: u64) -> Held {
        let new = NewTask::plain(
            TaskId::new(1_000 + n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), PartitionId(1)),
            "a".into(),
            "t".into(),
            Payload::null(),
        );
        Held::new(Task::new(&new, new.budget, Millis(1)), LaneId(0), KeyId(0))
    }

    #[test]
    fn a_task_is_found_in_either_table_and_a_burst_leaves_a_small_one() {
        let mut tasks = Tasks::default();
        let ids: Vec<TaskId> = (0..10_000).map(|n| held(n).task.id).collect();
        (0..10_000).for_each(|n| tasks.insert(held(n)));
        let (settle, remove) = ids.split_at(3_000);
        settle.iter().for_each(|id| tasks.settle(*id));
        for (n, id) in remove.iter().enumerate() {
            assert_eq!(tasks.remove(*id).map(|held| held.task.id), Some(*id), "the {n}th");
            assert!(tasks.get(*id).is_none());
        }
        assert!(tasks.recent.capacity() < 2 * RECENT_PLACES_MIN, "{}", tasks.recent.capacity());
        assert!(settle.iter().all(|id| tasks.get(*id).is_some_and(|held| held.is_settled)));
        assert_eq!((tasks.len(), tasks.values().count()), (3_000, 3_000));
        assert!(tasks.remove(settle[0]).is_some() && tasks.get_mut(settle[0]).is_none());
    }

    #[test]
    #[should_panic(expected = "is held already")]
    fn an_id_is_held_once() {
        let mut tasks = Tasks::default();
        tasks.insert(held(1));
        tasks.settle(held(1).task.id);
        tasks.insert(held(1));
        tasks.settle(held(1).task.id);
    }
}
