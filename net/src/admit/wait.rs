//! How long a new submission would wait for its shard, foretold from how many wait already and how
//! fast they have been answered lately.
//!
//! By J. Little's law ("A Proof for the Queuing Formula: L = λW", 1961) the wait is the number that
//! waits by the rate at which they leave. The rate is the best of the last windows that were busy
//! throughout, as in N. Cardwell et al., "BBR: Congestion-Based Congestion Control", 2016: commits
//! are shared, so what a few get says nothing about what many would get, and a window that was not
//! busy is not counted. Without a rate nothing is refused: the rings have bounds of their own.
//!
//! While the queue stands by [`Codel`] the patience is its target: it is kept short then instead of
//! full (B. Maurer, "Fail at Scale", 2015). Pure: the clock is handed in.

use super::codel::Codel;

/// The longest foretold wait with which a submission is taken, in µs.
pub const PATIENCE_US: u64 = 1_000_000;
/// The same while the queue stands, in µs: 16 clients with 1,000 a batch stay below at 110,000/s.
pub const TARGET_US: u64 = 150_000;
/// How long a queue is above its target before it is taken to stand, in µs.
pub const INTERVAL_US: u64 = 500_000;
/// So many are taken whatever is foretold: less does not fill the commits under way.
pub const WAITING_MIN: u64 = 256;
/// A window in which ever fewer waited is not busy.
const BUSY_MIN: u64 = 64;
/// Length of a window, in µs, at least.
const WINDOW_US: u64 = 100_000;
/// Windows whose best is the rate.
const WINDOWS: usize = 16;

/// What waits for the shards, and the rate at which it is answered.
#[derive(Clone, Debug)]
pub struct Wait {
    waiting: u64,
    codel: Codel,
    window_began_us: u64,
    /// Answered in this window.
    answered: u64,
    /// The fewest that waited in this window.
    waiting_min: u64,
    /// Answers a second in the last busy windows, 0 for none.
    rates: [u64; WINDOWS],
    next: usize,
}

impl Default for Wait {
    fn default() -> Wait {
        Wait {
            waiting: 0,
            codel: Codel::new(TARGET_US, INTERVAL_US),
            window_began_us: 0,
            answered: 0,
            waiting_min: 0,
            rates: [0; WINDOWS],
            next: 0,
        }
    }
}

impl Wait {
    /// So many tasks were sent to a shard.
    pub fn sent(&mut self, tasks: u64) {
        self.waiting += tasks;
    }

    /// So many were answered at `now_us`, sent so long before.
    pub fn answered(&mut self, now_us: u64, tasks: u64, waited_us: u64) {
        self.codel.leaves(now_us, waited_us);
        self.answered += tasks;
        self.gone(tasks);
        let window_us = now_us.saturating_sub(self.window_began_us);
        if window_us < WINDOW_US {
            return;
        }
        let is_busy = BUSY_MIN <= self.waiting_min;
        self.rates[self.next] = if is_busy { self.answered * 1_000_000 / window_us } else { 0 };
        self.next = (self.next + 1) % WINDOWS;
        self.window_began_us = now_us;
        self.answered = 0;
        self.waiting_min = self.waiting;
    }

    /// So many will not be answered, or nobody waits for them any more.
    pub fn gone(&mut self, tasks: u64) {
        assert!(tasks <= self.waiting, "more left than came");
        self.waiting -= tasks;
        self.waiting_min = self.waiting_min.min(self.waiting);
        if self.waiting == 0 {
            self.codel.is_empty_now();
        }
    }

    /// How long one that is sent now would wait, in µs; 0 while no rate is known.
    #[must_use]
    pub fn foretold_us(&self) -> u64 {
        match self.rates.iter().max() {
            None | Some(0) => 0,
            Some(rate) => self.waiting.saturating_mul(1_000_000) / rate,
        }
    }

    /// Whether that is too long.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        let patience_us = if self.codel.is_standing() { TARGET_US } else { PATIENCE_US };
        WAITING_MIN < self.waiting && patience_us < self.foretold_us()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `waiting` wait at any time and one leaves every `every_us`, for so long.
    fn run(wait: &mut Wait, from_us: u64, waiting: u64, every_us: u64, for_us: u64) -> u64 {
        wait.sent(waiting - wait.waiting.min(waiting));
        let mut now_us = from_us;
        while now_us < from_us + for_us {
            now_us += every_us;
            wait.sent(1);
            wait.answered(now_us, 1, waiting * every_us);
        }
        now_us
    }

    #[test]
    fn the_wait_is_the_queue_by_the_rate() {
        let mut wait = Wait::default();
        assert_eq!(wait.foretold_us(), 0, "nothing is known");
        run(&mut wait, 0, 2_000, 100, 1_000_000);
        let foretold_us = wait.foretold_us();
        assert!((190_000..=210_000).contains(&foretold_us), "{foretold_us}");
    }

    #[test]
    fn a_long_wait_is_refused_at_once_and_a_standing_queue_sooner() {
        let mut wait = Wait::default();
        let now_us = run(&mut wait, 0, 2_000, 100, 400_000);
        assert!(!wait.is_too_long(), "200 ms, and it may be a burst");
        wait.sent(9_000);
        assert!(wait.is_too_long(), "1.1 s");
        wait.gone(9_000);
        run(&mut wait, now_us, 2_000, 100, 200_000);
        assert!(wait.is_too_long(), "200 ms for longer than the interval");
        wait.gone(600);
        assert!(!wait.is_too_long(), "140 ms");
    }

    #[test]
    fn a_burst_on_a_quiet_node_is_taken() {
        let mut wait = Wait::default();
        // One at a time, 5 ms each: that is the disk's time, not what it could take at once.
        run(&mut wait, 0, 1, 5_000, 2_000_000);
        wait.sent(5_000);
        assert!(!wait.is_too_long());
    }

    #[test]
    fn a_slow_disk_shortens_the_queue_down_to_its_least() {
        let mut wait = Wait::default();
        run(&mut wait, 0, 300, 10_000, 3_000_000);
        assert!(wait.is_too_long(), "3 s");
        wait.gone(300 - WAITING_MIN);
        assert!(!wait.is_too_long(), "commits stay filled");
    }

    #[test]
    fn an_old_rate_is_forgotten() {
        let mut wait = Wait::default();
        let now_us = run(&mut wait, 0, 1_000, 100, 1_000_000);
        run(&mut wait, now_us, 1_000, 2_000, 4_000_000);
        assert!((1_800_000..2_200_000).contains(&wait.foretold_us()), "{}", wait.foretold_us());
    }
}
