//! Text of running model calls, from where it comes in to whoever watches the task's events.
//!
//! Nothing is kept: who does not listen misses it, and who is slow loses pieces. The whole answer
//! is in the journal when the step ends.

use no_engine::id::{Step, TaskId};
use no_engine::map::Map;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::mpsc;

/// Pieces that one listener may lag behind.
pub const DELTAS_LEN_MAX: usize = 256;

/// A piece of a model's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delta {
    /// The model's step.
    pub step: Step,
    /// The text.
    pub text: Rc<str>,
}

type Listeners = Vec<(u64, mpsc::Sender<Delta>)>;

/// The hub of one net core.
#[derive(Default)]
pub struct Deltas {
    listeners: RefCell<Map<TaskId, Listeners>>,
    next: std::cell::Cell<u64>,
}

impl Deltas {
    /// Gives a piece to all who listen; costs a look-up when nobody does.
    pub fn publish(&self, task: TaskId, step: Step, text: &str) {
        let listeners = self.listeners.borrow();
        let Some(listeners) = listeners.get(&task) else { return };
        let delta = Delta { step, text: text.into() };
        for (_, listener) in listeners {
            // Full: that listener loses this piece.
            let _ = listener.try_send(delta.clone());
        }
    }

    /// Listens to one task until the listener is dropped.
    #[must_use]
    pub fn subscribe(self: &Rc<Deltas>, task: TaskId) -> Listener {
        let (sender, pieces) = mpsc::channel(DELTAS_LEN_MAX);
        let number = self.next.get();
        self.next.set(number + 1);
        self.listeners.borrow_mut().entry(task).or_default().push((number, sender));
        Listener { hub: Rc::clone(self), task, number, pieces }
    }

    /// Whether nobody listens to anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.listeners.borrow().is_empty()
    }
}

/// One who listens.
pub struct Listener {
    hub: Rc<Deltas>,
    task: TaskId,
    number: u64,
    pieces: mpsc::Receiver<Delta>,
}

impl Listener {
    /// The next piece; waits for ever when none comes.
    pub async fn next(&mut self) -> Delta {
        match self.pieces.recv().await {
            Some(delta) => delta,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut all = self.hub.listeners.borrow_mut();
        if let Some(listeners) = all.get_mut(&self.task) {
            listeners.retain(|(number, _)| *number != self.number);
            if listeners.is_empty() {
                all.remove(&self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use no_engine::id::PartitionId;

    #[tokio::test]
    async fn who_listens_hears_and_who_leaves_is_forgotten() {
        let hub = Rc::new(Deltas::default());
        let task = TaskId::new(1, 1, PartitionId(0));
        hub.publish(task, Step(1), "unheard");
        let mut listener = hub.subscribe(task);
        let slow = hub.subscribe(task);
        hub.publish(task, Step(1), "hel");
        assert_eq!(&*listener.next().await.text, "hel");
        for _ in 0..2 * DELTAS_LEN_MAX {
            hub.publish(task, Step(1), "x");
        }
        assert_eq!(slow.pieces.len(), DELTAS_LEN_MAX);
        drop((listener, slow));
        assert!(hub.is_idle());
    }
}
