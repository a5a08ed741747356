//! One connection: what it is doing, told cheaply, so that one sweep can end those that dawdle.
//!
//! hyper's own header time-out also ends idle keep-alive connections and sets a timer for each
//! request. Here a connection only notes in plain cells when it last changed what it does, by a
//! coarse clock that the sweep moves; the sweep looks at all of them and orders an end. So a
//! time-out may come one sweep late, and a request costs no timer.

use crate::server::heads::Heads;
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use tokio::sync::Notify;

/// A coarse clock, in ms since the server started; moved by the sweep.
pub type Coarse = Rc<Cell<u64>>;

/// What the sweep tells a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Nothing.
    Go,
    /// Finish what is under way, then close.
    Finish,
    /// Close now.
    Close,
}

/// What a connection is doing. Times are of the coarse clock.
#[derive(Debug)]
pub struct ConnState {
    clock: Coarse,
    in_flight: Cell<u32>,
    idle_since: Cell<u64>,
    head_since: Cell<Option<u64>>,
    stalled_since: Cell<Option<u64>>,
    is_multiplexed: Cell<bool>,
    is_operators: Cell<bool>,
    heads: RefCell<Heads>,
    unread: RefCell<Option<Incoming>>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    closed: Rc<Notify>,
}

/// How long a connection may take over what, in ms.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the first byte of a request to the end of its head.
    pub head_ms: u64,
    /// Without a request.
    pub idle_ms: u64,
    /// Without taking a byte of a response.
    pub write_ms: u64,
}

impl Drop for ConnState {
    fn drop(&mut self) {
        self.closed.notify_one();
    }
}

impl ConnState {
    /// A connection that has just been accepted: its first head is due. Rings `closed` when nothing
    /// of it is left.
    #[must_use]
    pub fn new(clock: Coarse, closed: Rc<Notify>) -> Rc<ConnState> {
        let now = clock.get();
        Rc::new(ConnState {
            clock,
            in_flight: Cell::new(0),
            idle_since: Cell::new(now),
            head_since: Cell::new(Some(now)),
            stalled_since: Cell::new(None),
            is_multiplexed: Cell::new(false),
            is_operators: Cell::new(false),
            heads: RefCell::default(),
            unread: RefCell::default(),
            order: Cell::new(Order::Go),
            waker: RefCell::new(None),
            closed,
        })
    }

    /// Its first head is due from now on: what went before was TLS.
    pub fn secured(&self) {
        self.head_since.set(Some(self.clock.get()));
    }

    /// It speaks HTTP/2: bytes between requests are no head.
    pub fn multiplexed(&self) {
        self.is_multiplexed.set(true);
        self.head_since.set(None);
    }

    /// Whether its last request was an operator's.
    pub fn set_operators(&self, is_operators: bool) {
        self.is_operators.set(is_operators);
    }

    /// Whether what comes next waits for its turn: a new request of anybody but an operator.
    pub fn needs_turn(&self) -> bool {
        self.in_flight.get() == 0 && !self.is_operators.get()
    }

    /// A request's head is complete; the connection is busy until the guard is dropped.
    #[must_use]
    pub fn begin(self: &Rc<ConnState>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.head_since.set(None);
        InFlight(Rc::clone(self))
    }

    /// Whether it has overstayed by now.
    #[must_use]
    pub fn is_overdue(&self, patience: &Patience) -> bool {
        let now = self.clock.get();
        let past = |since: u64, ms: u64| since.saturating_add(ms) < now;
        if let Some(since) = self.stalled_since.get() {
            // Nothing else is due while an answer is on its way, however long that is.
            return past(since, patience.write_ms);
        }
        if 0 < self.in_flight.get() {
            return false;
        }
        match self.head_since.get() {
            Some(since) => past(since, patience.head_ms),
            None => past(self.idle_since.get(), patience.idle_ms),
        }
    }

    /// Gives an order; a harder one replaces a softer one.
    pub fn order(&self, order: Order) {
        if self.order.get() == Order::Close || self.order.get() == order {
            return;
        }
        self.order.set(order);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The order now; wakes `cx` when it changes.
    pub fn poll_order(&self, cx: &Context<'_>) -> Order {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.order.get()
    }

    /// Bytes have come.
    pub(crate) fn read_bytes(&self, bytes: &[u8]) {
        if self.is_multiplexed.get() {
            return;
        }
        self.heads.borrow_mut().look(bytes);
        if self.in_flight.get() == 0 && self.head_since.get().is_none() {
            self.head_since.set(Some(self.clock.get()));
        }
    }

    /// Whether the bytes that came since this was asked last hold a head with a length and a
    /// coding.
    pub(crate) fn take_doubt(&self) -> bool {
        self.heads.borrow_mut().take_doubt()
    }

    /// The request under way is answered without the rest of its body.
    pub(crate) fn put_unread(&self, body: Incoming) {
        // On HTTP/2 that is the end of one stream, and no matter of the connection.
        if !self.is_multiplexed.get() {
            self.unread.replace(Some(body));
        }
    }

    /// What the request just answered left of its body.
    pub(crate) fn take_unread(&self) -> Option<Incoming> {
        self.unread.take()
    }

    /// The socket takes nothing now.
    pub(crate) fn stalled(&self) {
        if self.stalled_since.get().is_none() {
            self.stalled_since.set(Some(self.clock.get()));
        }
    }

    /// The socket has taken what there was.
    pub(crate) fn moved(&self) {
        if self.stalled_since.take().is_none() {
            return;
        }
        let now = self.clock.get();
        self.idle_since.set(now);
        if self.head_since.get().is_some() {
            self.head_since.set(Some(now));
        }
    }
}

/// One request under way on a connection.
#[derive(Debug)]
pub struct InFlight(Rc<ConnState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
        self.0.idle_since.set(self.0.clock.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { head_ms: 5, idle_ms: 75, write_ms: 30 };

    #[test]
    fn heads_are_due_soon_and_idle_ones_later() {
        let clock = Coarse::default();
        let state = ConnState::new(Rc::clone(&clock), Rc::default());
        clock.set(5);
        assert!(!state.is_overdue(&PATIENCE));
        clock.set(6);
        assert!(state.is_overdue(&PATIENCE), "a connection that sends nothing");

        let request = state.begin();
        clock.set(1_000);
        assert!(!state.is_overdue(&PATIENCE), "a long poll");
        drop(request);
        clock.set(1_075);
        assert!(!state.is_overdue(&PATIENCE));
        clock.set(1_076);
        assert!(state.is_overdue(&PATIENCE), "idle");

        state.read_bytes(b"G");
        clock.set(1_081);
        assert!(!state.is_overdue(&PATIENCE));
        clock.set(1_082);
        state.read_bytes(b"G");
        assert!(state.is_overdue(&PATIENCE), "a head that drips in");
    }

    #[test]
    fn a_reader_that_takes_nothing_is_overdue_even_while_busy() {
        let clock = Coarse::default();
        let state = ConnState::new(Rc::clone(&clock), Rc::default());
        let _request = state.begin();
        state.stalled();
        clock.set(31);
        state.stalled();
        assert!(state.is_overdue(&PATIENCE));
        state.moved();
        assert!(!state.is_overdue(&PATIENCE));
    }

    #[test]
    fn a_long_answer_is_neither_idle_nor_a_late_head() {
        let clock = Coarse::default();
        let state = ConnState::new(Rc::clone(&clock), Rc::default());
        drop(state.begin());
        state.read_bytes(b"G");
        for now in (20..200).step_by(20) {
            state.stalled();
            clock.set(now);
            assert!(!state.is_overdue(&PATIENCE), "{now}: it takes its time, but it moves");
            state.moved();
        }
        clock.set(clock.get() + 6);
        assert!(state.is_overdue(&PATIENCE), "the head that began meanwhile is due now");
    }

    #[test]
    fn a_harder_order_stays() {
        let state = ConnState::new(Coarse::default(), Rc::default());
        state.order(Order::Close);
        state.order(Order::Finish);
        assert_eq!(state.order.get(), Order::Close);
    }
}
