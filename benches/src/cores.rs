//! Which core a thread or a child runs on, so that what is compared stands on equal feet.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::OnceLock;

/// The cores that this process may use, in order: as they were when first asked for, since a thread
/// that is pinned sees its own core alone.
#[must_use]
pub fn available() -> Vec<usize> {
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    let read = || {
        let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
        if cores.is_empty() { vec![0] } else { cores }
    };
    CORES.get_or_init(read).clone()
}

/// Keeps the calling thread, and whatever it starts from now on, on the `place`th of `cores`,
/// counted around. Where the system refuses, it stays where it was.
pub fn pin(cores: &[usize], place: usize) {
    let mut set = CpuSet::new();
    set.set(cores[place % cores.len()]);
    let _ = sched_setaffinity(None, &set);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_still_knows_the_others() {
        let cores = available();
        pin(&cores, 0);
        assert_eq!(available(), cores);
    }
}
