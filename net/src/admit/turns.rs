//! Whose turn it is: new requests queue for the net core's time, and those of operators do not.
//!
//! The runtime polls whatever is ready in the order in which it became so. With thousands of
//! connections ready, a health check would wait for all of them. So a connection with a new request
//! takes a *turn* first: while few are ready it has one at once, otherwise it queues, which costs a
//! tenth of a microsecond, and turns are given out [`TURNS_PER_PASS`] at a time. Connections whose
//! last request was an operator's, and answers to requests that were accepted, need no turn: they
//! go first, and wait for one pass at most.
//!
//! The order is first come first served, one request a turn, so no connection gets more by sending
//! more. [`Codel`] watches the queue, and refuses from its head while it stands.

use super::codel::Codel;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Turns given out before those who need none are looked at again.
pub const TURNS_PER_PASS: u32 = 32;
/// A new request should have its turn within this, in µs.
const TARGET_US: u64 = 50_000;
/// How long it may take longer before requests are refused, in µs.
const INTERVAL_US: u64 = 500_000;

/// One connection's place.
#[derive(Debug, Default)]
pub struct Place(Cell<State>);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Away,
    Queued,
    Given(Verdict),
}

/// What a turn is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The request.
    Serve,
    /// Refusing it, if it brings new work.
    Refuse,
}

struct Queued {
    place: Rc<Place>,
    waker: Waker,
    since_us: u64,
}

/// The queue of one net core.
pub struct Turns {
    start: Instant,
    queue: RefCell<VecDeque<Queued>>,
    codel: RefCell<Codel>,
    /// Turns taken in this pass.
    taken: Cell<u32>,
    /// Whether the pass has to end although nobody queues: the count is to be set back.
    giver: RefCell<Option<Waker>>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            start: Instant::now(),
            queue: RefCell::default(),
            codel: RefCell::new(Codel::new(TARGET_US, INTERVAL_US)),
            taken: Cell::new(0),
            giver: RefCell::default(),
        }
    }
}

impl Turns {
    /// A turn, now or once `cx` is woken for it.
    pub fn poll_turn(&self, place: &Rc<Place>, cx: &Context<'_>) -> Poll<Verdict> {
        match place.0.get() {
            State::Given(verdict) => {
                place.0.set(State::Away);
                Poll::Ready(verdict)
            }
            State::Queued => Poll::Pending,
            State::Away => self.take_or_queue(place, cx),
        }
    }

    fn take_or_queue(&self, place: &Rc<Place>, cx: &Context<'_>) -> Poll<Verdict> {
        let mut queue = self.queue.borrow_mut();
        let taken = self.taken.get();
        if taken == 0 || queue.is_empty() {
            // Whoever is first in a pass makes sure that it ends.
            self.wake_giver();
        }
        if queue.is_empty() && taken < TURNS_PER_PASS {
            self.taken.set(taken + 1);
            return Poll::Ready(Verdict::Serve);
        }
        place.0.set(State::Queued);
        let (place, waker) = (Rc::clone(place), cx.waker().clone());
        queue.push_back(Queued { place, waker, since_us: self.now_us() });
        Poll::Pending
    }

    fn wake_giver(&self) {
        if let Some(waker) = self.giver.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Begins a pass: gives turns to those who queue.
    pub fn pass(&self) {
        self.taken.set(0);
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            return;
        }
        let now_us = self.now_us();
        let mut codel = self.codel.borrow_mut();
        while self.taken.get() < TURNS_PER_PASS {
            let Some(next) = queue.pop_front() else { break };
            if Rc::strong_count(&next.place) == 1 {
                // Its connection is gone.
                continue;
            }
            let is_refused = codel.leaves(now_us, now_us.saturating_sub(next.since_us));
            let verdict = if is_refused { Verdict::Refuse } else { Verdict::Serve };
            next.place.0.set(State::Given(verdict));
            next.waker.wake();
            self.taken.set(self.taken.get() + 1);
        }
        if queue.is_empty() {
            codel.is_empty_now();
        } else {
            drop(queue);
            self.wake_giver();
        }
    }

    /// Passes whenever the task that awaits this has its turn. For ever.
    pub async fn pass_always(&self) {
        poll_fn(|cx| {
            {
                let mut giver = self.giver.borrow_mut();
                if !giver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *giver = Some(cx.waker().clone());
                }
            }
            self.pass();
            Poll::Pending
        })
        .await
    }

    /// Requests that queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(count: u32) -> Vec<Rc<Place>> {
        (0..count).map(|_| Rc::default()).collect()
    }

    #[test]
    fn few_have_their_turn_at_once_and_the_rest_in_order() {
        let turns = Turns::default();
        let cx = Context::from_waker(Waker::noop());
        let all = places(TURNS_PER_PASS + 40);
        let ready = |place: &Rc<Place>| turns.poll_turn(place, &cx).is_ready();
        let at_once = all.iter().filter(|place| ready(place)).count();
        assert_eq!(at_once, TURNS_PER_PASS as usize);
        assert_eq!(turns.len(), 40);
        assert!(!ready(&all[all.len() - 1]), "asking again is not queueing again");
        assert_eq!(turns.len(), 40);
        turns.pass();
        let after: Vec<bool> = all[TURNS_PER_PASS as usize..].iter().map(ready).collect();
        assert_eq!(after.iter().take_while(|ready| **ready).count(), 32);
        assert_eq!(after.iter().filter(|ready| **ready).count(), 32);
        assert!(!ready(&Rc::default()), "nobody overtakes those who queue");
        turns.pass();
        assert!(ready(&all[all.len() - 1]));
        assert!(turns.is_empty());
        turns.pass();
        assert!(ready(&Rc::default()));
    }

    #[test]
    fn a_place_whose_connection_is_gone_takes_no_turn() {
        let turns = Turns::default();
        let cx = Context::from_waker(Waker::noop());
        let all = places(TURNS_PER_PASS * 2 + 1);
        for place in &all {
            let _ = turns.poll_turn(place, &cx);
        }
        let last = Rc::clone(&all[all.len() - 1]);
        drop(all);
        turns.pass();
        assert_eq!(turns.poll_turn(&last, &cx), Poll::Ready(Verdict::Serve));
    }
}
