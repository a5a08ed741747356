//! Which thread runs on which core.
//!
//! A core is whatever the kernel lets this process use (a container's cpuset counts). Shards and
//! net cores are the threads that must not disturb each other, so each gets a core of its own as
//! long as there are enough; journal, reader and the rest run where the net cores are, as they
//! mostly wait.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The core of each thread; `None` leaves a thread to the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// By net core.
    pub net: Vec<Option<usize>>,
    /// By shard.
    pub shards: Vec<Option<usize>>,
}

/// The cores that this process may use, ascending; empty when the kernel does not say.
#[must_use]
pub fn allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Places net cores first, then shards, each on a core of its own.
///
/// With fewer cores than threads nothing is pinned: two pinned threads on one core would wait for
/// each other while another core is idle.
#[must_use]
pub fn place(allowed: &[usize], net_cores: u16, shards: u16, pin_cores: bool) -> Placement {
    let (net, shards) = (usize::from(net_cores), usize::from(shards));
    if !pin_cores || allowed.len() < net + shards {
        return Placement { net: vec![None; net], shards: vec![None; shards] };
    }
    let core = |number: usize| Some(allowed[number]);
    Placement { net: (0..net).map(core).collect(), shards: (net..net + shards).map(core).collect() }
}

/// Pins the calling thread, and with it the threads that it starts from now on.
///
/// # Errors
/// What the kernel said; the thread runs on, unpinned.
pub fn pin(core: usize) -> std::io::Result<()> {
    if CpuSet::MAX_CPU <= core {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_a_core_of_its_own_or_none_has() {
        let placed = place(&[2, 3, 7], 1, 2, true);
        assert_eq!(placed, Placement { net: vec![Some(2)], shards: vec![Some(3), Some(7)] });
        let loose = Placement { net: vec![None], shards: vec![None, None] };
        assert_eq!(place(&[0, 1], 1, 2, true), loose);
        assert_eq!(place(&[0, 1, 2], 1, 2, false), loose);
        assert_eq!(place(&[], 1, 2, true), loose);
    }

    #[test]
    fn a_thread_is_pinned_to_an_allowed_core() {
        let thread = std::thread::spawn(|| {
            let cores = allowed();
            let last = *cores.last().expect("at least one core");
            pin(last).expect("allowed");
            assert_eq!(allowed(), [last]);
        });
        thread.join().expect("pinned");
        assert!(pin(usize::MAX).is_err());
    }
}
