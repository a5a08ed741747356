//! The link to the reader thread: how the net core reads what is durable without blocking.
//!
//! Requests go out on one ring and replies come back on another. No more requests are under way
//! than either ring has places, so neither ever overflows; what comes on top waits here, up to a
//! bound.

use no_engine::doorbell::{Bell, Sleeper};
use no_engine::event::Record;
use no_engine::id::TaskId;
use no_engine::payload::{Hash, Payload};
use no_engine::port::{Filter, Page, Reader};
use no_engine::ring::{Full, Receiver, Sender, ring};
use no_engine::task::Task;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Reads under way at once between one net core and the reader thread: the places of either ring.
pub const READS_IN_FLIGHT_MAX: usize = 1_024;
/// Reads of one net core that wait for a place; more are refused.
pub const READS_WAITING_MAX: usize = 16_384;

/// A request to the reader thread.
#[derive(Debug)]
pub struct Read {
    /// Goes back with the reply.
    pub token: usize,
    /// What to read.
    pub what: What,
}

/// What may be read.
#[derive(Debug)]
pub enum What {
    /// One task.
    Task(TaskId),
    /// Events of a task with numbers above `after`.
    Events {
        /// Whose.
        id: TaskId,
        /// Above this number.
        after: u32,
        /// At most so many.
        limit: usize,
    },
    /// A page of tasks.
    List {
        /// Which.
        filter: Filter,
        /// With ids below this.
        before: Option<TaskId>,
        /// At most so many.
        limit: usize,
    },
    /// The bytes of a large payload.
    Blob {
        /// Of a task of the same partition.
        id: TaskId,
        /// Its name.
        hash: Hash,
    },
}

/// A reply of the reader thread.
#[derive(Debug)]
pub struct ReadDone {
    /// The request's token.
    pub token: usize,
    /// What was read, or what went wrong, for the log.
    pub found: Result<Found, String>,
}

/// What was read.
#[derive(Debug)]
pub enum Found {
    /// The task, if there is one.
    Task(Option<Box<Task>>),
    /// Events.
    Events(Vec<Record>),
    /// A page.
    List(Page),
    /// The bytes, if they are there.
    Blob(Option<Arc<[u8]>>),
}

/// The reader thread's ends of one link.
pub type ReaderLink = (Receiver<Read>, Sender<ReadDone>);

type Waiter = oneshot::Sender<Result<Found, String>>;

struct Inner {
    requests: Sender<Read>,
    replies: Receiver<ReadDone>,
    /// Who waits for the reply of that token; `None` is a free place.
    pending: Vec<Option<Waiter>>,
    free: Vec<usize>,
    waiting: VecDeque<(What, Waiter)>,
}

/// A net core's end of the link. Cheap to clone; all clones share one link.
#[derive(Clone)]
pub struct Reads(Rc<RefCell<Inner>>);

/// Makes the link between a net core and the reader thread.
///
/// `reader` wakes the reader thread, `net` the net core.
#[must_use]
pub fn link(reader: Bell, net: Bell) -> (Reads, ReaderLink) {
    let (requests, requested) = ring(READS_IN_FLIGHT_MAX, reader);
    let (replied, replies) = ring(READS_IN_FLIGHT_MAX, net);
    let pending = (0..READS_IN_FLIGHT_MAX).map(|_| None).collect();
    let free = (0..READS_IN_FLIGHT_MAX).rev().collect();
    let inner = Inner { requests, replies, pending, free, waiting: VecDeque::new() };
    (Reads(Rc::new(RefCell::new(inner))), (requested, replied))
}

impl Reads {
    /// The task, or `None`.
    ///
    /// # Errors
    /// What went wrong, for the log; "reader is busy" when too many reads wait.
    pub async fn task(&self, id: TaskId) -> Result<Option<Task>, String> {
        match self.ask(What::Task(id)).await? {
            Found::Task(task) => Ok(task.map(|task| *task)),
            other => Err(mismatch(&other)),
        }
    }

    /// Its events with numbers above `after`, at most `limit`, in order.
    ///
    /// # Errors
    /// As [`Reads::task`].
    pub async fn events(
        &self,
        id: TaskId,
        after: u32,
        limit: usize,
    ) -> Result<Vec<Record>, String> {
        match self.ask(What::Events { id, after, limit }).await? {
            Found::Events(records) => Ok(records),
            other => Err(mismatch(&other)),
        }
    }

    /// A page of tasks with ids below `before`, from the newest when absent.
    ///
    /// # Errors
    /// As [`Reads::task`].
    pub async fn list(
        &self,
        filter: Filter,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Page, String> {
        match self.ask(What::List { filter, before, limit }).await? {
            Found::List(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// The bytes of a payload of that task's partition: at once where they are at hand.
    ///
    /// # Errors
    /// As [`Reads::task`]; also when the bytes are missing.
    pub async fn resolve(&self, id: TaskId, payload: &Payload) -> Result<Arc<[u8]>, String> {
        let hash = match payload {
            Payload::Inline(bytes) => return Ok(Arc::clone(bytes)),
            Payload::Blob(blob) => match &blob.bytes {
                Some(bytes) => return Ok(Arc::clone(bytes)),
                None => blob.hash,
            },
        };
        match self.ask(What::Blob { id, hash }).await? {
            Found::Blob(bytes) => bytes.ok_or_else(|| format!("payload {hash} is missing")),
            other => Err(mismatch(&other)),
        }
    }

    /// Hands out the replies that came and sends on what waited for a place.
    pub fn pump(&self) {
        let mut inner = self.0.borrow_mut();
        while let Some(ReadDone { token, found }) = inner.replies.try_recv() {
            let waiter = inner.pending.get_mut(token).and_then(Option::take);
            assert!(waiter.is_some(), "a reply to no request");
            inner.free.push(token);
            if let Some(waiter) = waiter {
                // Who asked may be gone by now.
                let _ = waiter.send(found);
            }
        }
        inner.send_waiting();
    }

    /// Whether no reply waits to be pumped.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.borrow().replies.is_empty()
    }

    async fn ask(&self, what: What) -> Result<Found, String> {
        let (waiter, reply) = oneshot::channel();
        {
            let mut inner = self.0.borrow_mut();
            if READS_WAITING_MAX <= inner.waiting.len() {
                return Err("reader is busy".into());
            }
            inner.waiting.push_back((what, waiter));
            inner.send_waiting();
        }
        reply.await.unwrap_or_else(|_| Err("reader is gone".into()))
    }
}

impl Inner {
    /// Sends what waits while there are places; drops what nobody waits for any more.
    fn send_waiting(&mut self) {
        while let Some(token) = self.free.pop() {
            let Some((what, waiter)) = self.next_wanted() else {
                self.free.push(token);
                return;
            };
            let sent = self.requests.try_send(Read { token, what });
            assert!(sent.is_ok(), "more reads under way than the ring has places");
            self.pending[token] = Some(waiter);
        }
    }

    fn next_wanted(&mut self) -> Option<(What, Waiter)> {
        while let Some((what, waiter)) = self.waiting.pop_front() {
            if !waiter.is_closed() {
                return Some((what, waiter));
            }
        }
        None
    }
}

fn mismatch(found: &Found) -> String {
    format!("the reader answered another question: {found:?}")
}

/// The reader thread's loop: serves all links in turn until `stop`, and sleeps when none asks.
///
/// `block` waits for the doorbell, or a while.
pub fn run_reader(
    reader: &mut impl Reader,
    mut links: Vec<ReaderLink>,
    sleeper: &Sleeper,
    mut block: impl FnMut(),
    stop: impl Fn() -> bool,
) {
    while !stop() {
        if serve(reader, &mut links) == 0 {
            let is_idle = || links.iter().all(|(requests, _)| requests.is_empty()) && !stop();
            sleeper.park(is_idle, &mut block);
        }
    }
}

/// Answers one request of each link, so that none starves, and says how many there were.
pub fn serve(reader: &mut impl Reader, links: &mut [ReaderLink]) -> usize {
    let mut served = 0;
    for (requests, replies) in links {
        let Some(Read { token, what }) = requests.try_recv() else { continue };
        served += 1;
        let found = read(reader, what);
        if let Err(Full(_)) = replies.try_send(ReadDone { token, found }) {
            assert!(replies.is_abandoned(), "more replies than the ring has places");
        }
    }
    served
}

fn read(reader: &mut impl Reader, what: What) -> Result<Found, String> {
    match what {
        What::Task(id) => reader.task(id).map(|task| Found::Task(task.map(Box::new))),
        What::Events { id, after, limit } => reader.events(id, after, limit).map(Found::Events),
        What::List { filter, before, limit } => {
            reader.list(&filter, before, limit).map(Found::List)
        }
        What::Blob { id, hash } => reader.blob(id, hash).map(Found::Blob),
    }
}

#[cfg(test)]
mod tests;
