//! The sending side of the links to the shards: two lanes each, and a queue for what must not be
//! lost.
//!
//! A request that finds its lane full is refused, and that is the answer. What a shard has been
//! promised (an outcome it ordered, the end of a wait that it holds) is kept here instead and sent
//! by the pump once there is room; there is never more of it than calls and waits under way.
//!
//! Waking a shard that sleeps is a system call of 10 µs, so a push does not ring: the bells ring
//! once for all that the connections looked at in one go have pushed, or for every
//! [`PUSHES_PER_RING_MAX`]. The shard finds more at a time, and its batches are larger.

use no_engine::command::Command;
use no_engine::control;
use no_engine::id::{PartitionId, ShardId, TaskId};
use no_engine::ring::{Full, Sender};
use no_engine::shard::Pulse;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use tokio::sync::Notify;

/// Pushes after which a shard's bell rings even while connections are still looked at.
pub const PUSHES_PER_RING_MAX: u32 = 16;

/// The two lanes to one shard.
pub struct Lanes {
    /// For requests.
    pub normal: Sender<Command>,
    /// For what keeps a busy node from looking dead.
    pub reserved: Sender<Command>,
}

struct Link {
    lanes: RefCell<Lanes>,
    pulse: Arc<Pulse>,
    kept: RefCell<VecDeque<Command>>,
    full: Cell<u64>,
    /// Pushes since the bell rang.
    unrung: Cell<u32>,
}

/// All shards, as one net core reaches them.
pub struct Shards {
    links: Vec<Link>,
    partitions: u16,
    /// Rung when something is kept, as the pump may be asleep by then.
    has_kept: Notify,
    /// Who rings the bells; woken by the first push since they rang.
    ringer: RefCell<Option<Waker>>,
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
    pub fn new(shards: Vec<(Lanes, Arc<Pulse>)>, partitions: u16) -> Shards {
        assert!(!shards.is_empty() && shards.len() <= usize::from(u16::MAX));
        assert!(0 < partitions);
        let link = |(lanes, pulse)| Link {
            lanes: RefCell::new(lanes),
            pulse,
            kept: RefCell::default(),
            full: Cell::new(0),
            unrung: Cell::new(0),
        };
        Shards {
            links: shards.into_iter().map(link).collect(),
            partitions,
            has_kept: Notify::new(),
            ringer: RefCell::default(),
        }
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

    /// New tasks that the shard would take, as its last turn left it.
    #[must_use]
    pub fn room(&self, shard: ShardId) -> usize {
        self.links[usize::from(shard.0)].pulse.room()
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
        match self.push(link, command) {
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
        } else if let Err(Full(command)) = self.push(link, command) {
            kept.push_back(command);
            self.has_kept.notify_one();
        }
    }

    fn push(&self, link: &Link, command: Command) -> Result<(), Full<Command>> {
        link.try_push(command)?;
        let unrung = link.unrung.get() + 1;
        link.unrung.set(unrung);
        if PUSHES_PER_RING_MAX <= unrung {
            link.ring();
        } else if unrung == 1
            && let Some(waker) = self.ringer.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
        Ok(())
    }

    /// Rings the bells of all that was pushed to since the last time.
    pub fn ring(&self) {
        self.links.iter().filter(|link| 0 < link.unrung.get()).for_each(Link::ring);
    }

    /// Rings whenever something was pushed and the task that awaits this has its turn. For ever.
    pub async fn ring_always(&self) {
        poll_fn(|cx| {
            let mut ringer = self.ringer.borrow_mut();
            if !ringer.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *ringer = Some(cx.waker().clone());
            }
            self.ring();
            Poll::Pending
        })
        .await
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
                if let Err(Full(command)) = self.push(link, command) {
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
    fn try_push(&self, command: Command) -> Result<(), Full<Command>> {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.normal.is_abandoned() {
            return Err(Full(command));
        }
        if command.is_reserved() {
            lanes.reserved.try_push(command)
        } else {
            lanes.normal.try_push(command)
        }
    }

    /// Both lanes have the same reader, and so the same bell.
    fn ring(&self) {
        self.unrung.set(0);
        self.lanes.borrow().normal.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use no_engine::doorbell::doorbell;
    use no_engine::id::{NetId, ReplyTo, Token};
    use no_engine::port::Wake;
    use no_engine::ring::ring;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Counted(Arc<AtomicUsize>);

    impl Wake for Counted {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_sleeping_shard_is_woken_once_for_many_pushes() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let (bell, sleeper) = doorbell(Box::new(Counted(Arc::clone(&wakes))));
        let (normal, _commands) = ring(64, bell.clone());
        let (reserved, _reserved) = ring(64, bell);
        let shards = Shards::new(vec![(Lanes { normal, reserved }, Arc::default())], 1);
        let push = |count: u32| {
            for _ in 0..count {
                let reply = ReplyTo { net: NetId(0), token: Token(0) };
                assert_eq!(shards.try_send(ShardId(0), Command::Stats { reply }), Ok(()));
            }
        };
        sleeper.announce();
        push(3);
        assert_eq!(wakes.load(Ordering::Relaxed), 0, "the bell has not rung yet");
        shards.ring();
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        sleeper.announce();
        shards.ring();
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "nothing new, no wake-up");
        push(PUSHES_PER_RING_MAX);
        assert_eq!(wakes.load(Ordering::Relaxed), 2, "so many are not kept waiting");
    }
}
