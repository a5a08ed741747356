//! A journal that tells what its commits cost: CPU time of the thread, not the wait for the disk.

use no_engine::event::Batch;
use no_engine::port::{CommitError, Journal};
use no_engine::time::Millis;
use no_storage::writer::Finish;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// CPU time of all commits so far. Cheap to clone; read by whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct CommitCost(Arc<AtomicU64>);

impl CommitCost {
    /// The sum, in ns.
    #[must_use]
    pub fn ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A journal whose commits are timed. Two system calls a commit, of about 0.3 µs each.
pub struct Costed<J> {
    journal: J,
    cost: CommitCost,
}

impl<J> Costed<J> {
    /// Times `journal` into `cost`.
    pub fn new(journal: J, cost: CommitCost) -> Costed<J> {
        Costed { journal, cost }
    }
}

impl<J: Journal> Journal for Costed<J> {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), CommitError> {
        let begun = thread_cpu_ns();
        let done = self.journal.commit(batches);
        // ORDER: a sum that nothing else depends on.
        self.cost.0.fetch_add(thread_cpu_ns().saturating_sub(begun), Ordering::Relaxed);
        done
    }

    fn tidy(&mut self, now: Millis) -> Result<bool, CommitError> {
        self.journal.tidy(now)
    }
}

impl<J: Finish> Finish for Costed<J> {
    fn finish(&mut self) -> Result<(), CommitError> {
        self.journal.finish()
    }
}

fn thread_cpu_ns() -> u64 {
    let at = clock_gettime(ClockId::ThreadCPUTime);
    let s = u64::try_from(at.tv_sec).unwrap_or_default();
    s * 1_000_000_000 + u64::try_from(at.tv_nsec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Journal for Nothing {
        fn commit(&mut self, _: &[Batch]) -> Result<(), CommitError> {
            let begun = thread_cpu_ns();
            while thread_cpu_ns() == begun {
                std::hint::spin_loop();
            }
            Err(CommitError::Full)
        }

        fn tidy(&mut self, _: Millis) -> Result<bool, CommitError> {
            Ok(true)
        }
    }

    #[test]
    fn commits_are_passed_on_and_their_time_is_added() {
        let cost = CommitCost::default();
        let mut journal = Costed::new(Nothing, cost.clone());
        assert_eq!(journal.commit(&[]), Err(CommitError::Full));
        let once = cost.ns();
        assert!(0 < once);
        assert_eq!(journal.commit(&[]), Err(CommitError::Full));
        assert!(once < cost.ns());
        assert_eq!(journal.tidy(Millis(0)), Ok(true));
    }
}
