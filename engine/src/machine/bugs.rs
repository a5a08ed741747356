//! Bugs to plant, so that the simulator can show that it finds them. Outside of tests none can be
//! switched on, and asking costs nothing.

/// One planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Effects leave before their batch is durable.
    ActBeforeCommit,
    /// A report or outcome with a stale fence is taken.
    NoFenceCheck,
    /// A timer of a parked task is not set.
    LostTimer,
    /// A retry's timer fires before its time.
    EarlyTimer,
    /// An idempotency key is not remembered.
    KeyForgotten,
    /// A task is woken twice: its ended step is made again.
    StepRepeated,
    /// After a crash an unsafe call is made again instead of parking.
    UnsafeRepeated,
    /// A success after a cancel is taken.
    CancelLoses,
    /// After a crash what ran is not started again.
    LostAfterCrash,
    /// A slot is not given back when a task parks.
    SlotLeak,
    /// After a crash ready tasks are queued in no particular order.
    OrderLost,
    /// A crash is not counted: poison tasks crash the process for ever.
    PoisonNotCounted,
    /// A task's image is missing from its batch.
    ImageMissing,
    /// A commit's failure is taken for success.
    FailedCommitTaken,
    /// A partition is said to be gone before what was decided of it is durable.
    LeaveTooEarly,
    /// A partition that goes leaves its tasks' slots taken.
    LeaveLeaksSlots,
    /// A partition that goes leaves its ready tasks in the queue.
    LeaveKeepsReady,
}

/// All of them.
pub const BUGS: [Bug; 17] = [
    Bug::ActBeforeCommit,
    Bug::NoFenceCheck,
    Bug::LostTimer,
    Bug::EarlyTimer,
    Bug::KeyForgotten,
    Bug::StepRepeated,
    Bug::UnsafeRepeated,
    Bug::CancelLoses,
    Bug::LostAfterCrash,
    Bug::SlotLeak,
    Bug::OrderLost,
    Bug::PoisonNotCounted,
    Bug::ImageMissing,
    Bug::FailedCommitTaken,
    Bug::LeaveTooEarly,
    Bug::LeaveLeaksSlots,
    Bug::LeaveKeepsReady,
];

/// The planted bug, if any.
#[derive(Default)]
pub(crate) struct Bugs {
    #[cfg(any(test, feature = "sim"))]
    planted: Option<Bug>,
}

impl Bugs {
    /// Whether `bug` is planted. Always false outside of tests.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.planted == Some(bug)
    }

    /// Whether `bug` is planted. Always false outside of tests.
    #[cfg(not(any(test, feature = "sim")))]
    pub(crate) fn has(&self, _: Bug) -> bool {
        false
    }
}

impl super::Machine {
    /// Plants a bug.
    #[cfg(any(test, feature = "sim"))]
    pub fn plant(&mut self, bug: Bug) {
        self.bugs.planted = Some(bug);
    }

    /// Whether a bug is planted, for the turn around the machine.
    pub(crate) fn has_bug(&self, bug: Bug) -> bool {
        self.bugs.has(bug)
    }
}
