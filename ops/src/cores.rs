//! Threads and cores: pins a thread to its core, wakes it by an eventfd, and tells the time.
//!
//! An eventfd because one file descriptor serves both a thread that blocks in `poll` and a net core's
//! reactor, and because a write to it is never lost, whoever sleeps or not.

use no_engine::port::{Clock, Wake};
use no_engine::time::{Millis, Mono, Now};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The waking side of a thread's doorbell.
#[derive(Clone, Debug)]
pub struct Eventfd(Arc<OwnedFd>);

impl Eventfd {
    /// A new one; non-blocking.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Eventfd> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Eventfd(Arc::new(eventfd(0, flags)?)))
    }

    /// Another descriptor of the same eventfd, for a reactor to own.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// Waits until it was woken, at most so long, and forgets the wake-up.
    pub fn block(&self, timeout: Option<Duration>) {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut fds = [PollFd::new(&*self.0, PollFlags::IN)];
        // Interrupted or timed out: the caller looks at its rings either way.
        let _ = poll(&mut fds, timeout.as_ref());
        let mut count = [0_u8; 8];
        let _ = rustix::io::read(&*self.0, &mut count);
    }
}

impl Wake for Eventfd {
    fn wake(&self) {
        // The counter cannot overflow in a lifetime, and a full one means that it is readable.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// The cores that this process may use, in order.
#[must_use]
pub fn available() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

/// Pins the calling thread to one core.
///
/// # Errors
/// When the kernel refuses; the thread then runs where it did.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic side starts now.
    #[must_use]
    pub fn start() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            wall: Millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
            mono: Mono(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)),
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use no_engine::doorbell::doorbell;

    #[test]
    fn a_wake_up_before_the_block_is_not_lost() {
        let eventfd = Eventfd::new().expect("a descriptor");
        eventfd.wake();
        // Without the wake-up this would hang, and the test with it.
        eventfd.block(None);
    }

    #[test]
    fn a_ring_wakes_a_thread_that_sleeps() {
        let eventfd = Eventfd::new().expect("a descriptor");
        let (bell, sleeper) = doorbell(Box::new(eventfd.clone()));
        let (mut sender, mut receiver) = no_engine::ring::ring(1, bell);
        let thread = std::thread::spawn(move || {
            loop {
                if let Some(item) = receiver.try_recv() {
                    return item;
                }
                sleeper.park(|| receiver.is_empty(), || eventfd.block(None));
            }
        });
        sender.try_send(7).expect("an empty ring has room");
        assert_eq!(thread.join().expect("no panics"), 7);
    }

    #[test]
    fn the_wall_clock_is_of_this_century() {
        assert!(1_700_000_000_000 < SystemClock::start().now().wall.0);
        assert!(!available().is_empty());
    }
}
