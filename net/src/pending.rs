//! The bounded table of requests that wait for a shard: replies, offers and events find their way
//! back by a token.
//!
//! A token is a place and the place's generation, so that a reply to somebody who has gone is
//! dropped instead of reaching the next one in that place. No allocation for a plain request.

use no_engine::command::Answer;
use no_engine::event::Record;
use no_engine::id::{NetId, ReplyTo, Token};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Requests that may wait at once on one net core.
pub const PENDING_MAX: usize = 131_072;
/// Events that one subscriber may lag behind before it is cut off.
pub const FEED_LEN_MAX: usize = 1_024;

/// What a subscription brings next.
#[derive(Clone, PartialEq, Debug)]
pub enum Fed {
    /// An event.
    Event {
        /// What happened.
        record: Record,
        /// Whether the stream ends here.
        is_last: bool,
    },
    /// The subscriber was too slow and lost events, or the task went to another node: it must start
    /// again from the store.
    Lagged,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    is_open: bool,
    answer: Option<Answer>,
    offered: bool,
    feed: Option<Box<Feed>>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Feed {
    events: VecDeque<(Record, bool)>,
    lagged: bool,
}

#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<u32>,
}

/// The table.
pub struct Pending {
    net: NetId,
    len_max: usize,
    slots: RefCell<Slots>,
}

/// The table is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableFull;

impl Pending {
    /// An empty table of at most `len_max` places.
    #[must_use]
    pub fn new(net: NetId, len_max: usize) -> Rc<Pending> {
        Rc::new(Pending { net, len_max, slots: RefCell::default() })
    }

    /// A place, until the ticket is dropped.
    ///
    /// # Errors
    /// [`TableFull`].
    pub fn open(self: &Rc<Pending>) -> Result<Ticket, TableFull> {
        let mut slots = self.slots.borrow_mut();
        let index = match slots.free.pop() {
            Some(index) => index,
            None if slots.all.len() < self.len_max => {
                slots.all.push(Slot::default());
                (slots.all.len() - 1) as u32
            }
            None => return Err(TableFull),
        };
        let slot = &mut slots.all[index as usize];
        slot.is_open = true;
        Ok(Ticket { pending: Rc::clone(self), index, generation: slot.generation })
    }

    /// Whether no further request can wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let slots = self.slots.borrow();
        slots.free.is_empty() && self.len_max <= slots.all.len()
    }

    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        let slots = self.slots.borrow();
        slots.all.len() - slots.free.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A shard answered.
    pub fn reply(&self, to: ReplyTo, answer: Answer) {
        self.with(to, |slot| slot.answer = Some(answer));
    }

    /// A shard has tasks for a waiting lease request.
    pub fn offer(&self, to: ReplyTo) {
        self.with(to, |slot| slot.offered = true);
    }

    /// A shard published an event.
    pub fn publish(&self, to: ReplyTo, record: Record, is_last: bool) {
        self.with(to, |slot| {
            let feed = slot.feed.get_or_insert_default();
            if FEED_LEN_MAX <= feed.events.len() {
                feed.lagged = true;
            }
            if !feed.lagged {
                feed.events.push_back((record, is_last));
            }
        });
    }

    fn with(&self, to: ReplyTo, change: impl FnOnce(&mut Slot)) {
        let (index, generation) = ((to.token.0 & 0xffff_ffff) as usize, (to.token.0 >> 32) as u32);
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.all.get_mut(index) else { return };
        if !slot.is_open || slot.generation != generation {
            return;
        }
        change(slot);
        let waker = slot.waker.take();
        drop(slots);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One place in the table. Dropping it frees the place; what comes for it afterwards is dropped.
pub struct Ticket {
    pending: Rc<Pending>,
    index: u32,
    generation: u32,
}

impl Ticket {
    /// What a command carries so that its answer comes here.
    #[must_use]
    pub fn reply_to(&self) -> ReplyTo {
        let token = u64::from(self.generation) << 32 | u64::from(self.index);
        ReplyTo { net: self.pending.net, token: Token(token) }
    }

    /// The answer, once it comes.
    pub async fn answer(&self) -> Answer {
        self.poll(|slot| slot.answer.take()).await
    }

    /// Returns when an offer has come.
    pub async fn offered(&self) {
        self.poll(|slot| std::mem::take(&mut slot.offered).then_some(())).await;
    }

    /// The next event of a subscription.
    pub async fn fed(&self) -> Fed {
        self.poll(|slot| {
            // Another answer than the one that began it says that the task is elsewhere now.
            let has_moved = slot.answer.is_some();
            let feed = slot.feed.as_mut();
            let (event, lagged) = match feed {
                Some(feed) => (feed.events.pop_front(), feed.lagged),
                None => (None, false),
            };
            match event {
                Some((record, is_last)) => Some(Fed::Event { record, is_last }),
                None => (lagged || has_moved).then_some(Fed::Lagged),
            }
        })
        .await
    }

    async fn poll<T>(&self, mut take: impl FnMut(&mut Slot) -> Option<T>) -> T {
        poll_fn(|cx| {
            let mut slots = self.pending.slots.borrow_mut();
            let slot = &mut slots.all[self.index as usize];
            assert_eq!(slot.generation, self.generation, "a ticket outlived its place");
            if let Some(taken) = take(slot) {
                return Poll::Ready(taken);
            }
            if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                slot.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut slots = self.pending.slots.borrow_mut();
        let slot = &mut slots.all[self.index as usize];
        let generation = slot.generation.wrapping_add(1);
        *slot = Slot { generation, ..Slot::default() };
        slots.free.push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reply_finds_its_request_and_no_other() {
        let pending = Pending::new(NetId(0), 2);
        let first = pending.open().expect("room");
        let gone = first.reply_to();
        drop(first);
        let second = pending.open().expect("room");
        assert_ne!(second.reply_to(), gone, "the same place, another generation");
        pending.reply(gone, Answer::Count(1));
        pending.reply(second.reply_to(), Answer::Count(2));
        assert!(matches!(second.answer().await, Answer::Count(2)));
    }

    #[test]
    fn a_full_table_refuses_until_one_leaves() {
        let pending = Pending::new(NetId(0), 1);
        let ticket = pending.open().expect("room");
        assert!(pending.is_full());
        assert_eq!(pending.open().err(), Some(TableFull));
        drop(ticket);
        assert!(pending.open().is_ok());
        assert!(pending.is_empty());
    }

    #[tokio::test]
    async fn a_slow_subscriber_gets_what_it_has_and_is_told() {
        use no_engine::event::Event;
        use no_engine::id::{PartitionId, TaskId};
        let pending = Pending::new(NetId(0), 1);
        let ticket = pending.open().expect("room");
        let task = TaskId::new(1, 1, PartitionId(0));
        for n in 0..=FEED_LEN_MAX as u32 {
            let record = Record { task, n, at: Default::default(), event: Event::Woken.into() };
            pending.publish(ticket.reply_to(), record, false);
        }
        for n in 0..FEED_LEN_MAX as u32 {
            assert!(matches!(ticket.fed().await, Fed::Event { record, .. } if record.n == n));
        }
        assert_eq!(ticket.fed().await, Fed::Lagged);
    }
}
