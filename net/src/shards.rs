//! The sending side of the links to the shards: two lanes each, and a queue for what must not be
//! lost.
//!
//! A request that finds its lane full is refused, and that is the answer. What a shard has been
//! promised (an outcome it ordered, the end of a wait that it holds) is kept here instead and sent
//! by the pump once there is room; there is never more of it than calls and waits under way.

use no_engine::command::Command;
use no_engine::control;
use no_engine::id::{PartitionId, ShardId, TaskId};
use no_engine::ring::{Full, Sender};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use tokio::sync::Notify;

/// The two lanes to one shard.
pub struct Lanes {
    /// For requests.
    pub normal: Sender<Command>,
    /// For what keeps a busy node from looking dead.
    pub reserved: Sender<Command>,
}

struct Link {
    lanes: RefCell<Lanes>,
    kept: RefCell<VecDeque<Command>>,
    full: Cell<u64>,
}

/// All shards, as one net core reaches them.
pub struct Shards {
    links: Vec<Link>,
    partitions: u16,
    /// Rung when something is kept, as the pump may be asleep by then.
    has_kept: Notify,
}

/// Why a command was not sent. It is dropped: whoever asked is told, and asks again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotSent {
    /// The lane is full.
    Full,
    /// The shard's thread is gone.
    Gone,
}

impl Shards {
    /// Links in the order of the shards' numbers.
    ///
    /// Panics without any.
    #[must_use]
    pub fn new(lanes: Vec<Lanes>, partitions: u16) -> Shards {
        assert!(!lanes.is_empty() && lanes.len() <= usize::from(u16::MAX));
        assert!(0 < partitions);
        let link = |lanes| Link {
            lanes: RefCell::new(lanes),
            kept: RefCell::default(),
            full: Cell::new(0),
        };
        Shards { links: lanes.into_iter().map(link).collect(), partitions, has_kept: Notify::new() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u16 {
        self.links.len() as u16
    }

    /// Never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// All shards.
    pub fn all(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.len()).map(ShardId)
    }

    /// Partitions of the store.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// The shard of a partition that is known to exist.
    #[must_use]
    pub fn of_partition(&self, partition: PartitionId) -> ShardId {
        control::placement(partition, self.partitions, self.len())
    }

    /// The shard of a task; `None` when no partition has the id's number.
    #[must_use]
    pub fn of_task(&self, task: TaskId) -> Option<ShardId> {
        (task.partition().0 < self.partitions).then(|| self.of_partition(task.partition()))
    }

    /// Whether every shard's lane for requests is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.links.iter().all(|link| link.lanes.borrow().normal.free() == 0)
    }

    /// Sends that found a lane full, since the start.
    #[must_use]
    pub fn full_count(&self, shard: ShardId) -> u64 {
        self.links[usize::from(shard.0)].full.get()
    }

    /// Sends on the command's lane, or not at all.
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn try_send(&self, shard: ShardId, command: Command) -> Result<(), NotSent> {
        let link = &self.links[usize::from(shard.0)];
        match link.try_send(command) {
            Ok(()) => Ok(()),
            Err(_) if link.lanes.borrow().normal.is_abandoned() => Err(NotSent::Gone),
            Err(_) => {
                link.full.set(link.full.get() + 1);
                Err(NotSent::Full)
            }
        }
    }

    /// Sends now, or as soon as there is room; only for what there is a bounded number of.
    pub fn send_surely(&self, shard: ShardId, command: Command) {
        let link = &self.links[usize::from(shard.0)];
        let mut kept = link.kept.borrow_mut();
        if !kept.is_empty() {
            kept.push_back(command);
        } else if let Err(Full(command)) = link.try_send(command) {
            kept.push_back(command);
            self.has_kept.notify_one();
        }
    }

    /// Sends a call's outcome to the shard that ordered it. Never loses it.
    pub fn send_outcome(&self, outcome: Command) {
        let Command::Outcome { task, .. } = &outcome else {
            debug_assert!(false, "only outcomes come back from outside");
            return;
        };
        if let Some(shard) = self.of_task(*task) {
            self.send_surely(shard, outcome);
        }
    }

    /// Returns once something has been kept since the last time.
    pub async fn kept(&self) {
        self.has_kept.notified().await;
    }

    /// Sends what was kept as far as there is room; whether something is still kept.
    pub fn flush(&self) -> bool {
        let mut is_kept = false;
        for link in &self.links {
            let mut kept = link.kept.borrow_mut();
            while let Some(command) = kept.pop_front() {
                if let Err(Full(command)) = link.try_send(command) {
                    if link.lanes.borrow().normal.is_abandoned() {
                        // Nobody will ever read it: the process is on its way out.
                        kept.clear();
                    } else {
                        kept.push_front(command);
                    }
                    break;
                }
            }
            is_kept |= !kept.is_empty();
        }
        is_kept
    }
}

impl Link {
    fn try_send(&self, command: Command) -> Result<(), Full<Command>> {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.normal.is_abandoned() {
            return Err(Full(command));
        }
        if command.is_reserved() {
            lanes.reserved.try_send(command)
        } else {
            lanes.normal.try_send(command)
        }
    }
}
