//! CoDel: tells a standing queue from a burst by the least time that anything spent in it.
//!
//! A burst empties again within an interval; a queue in which everything waited longer than the
//! target for a whole interval only costs latency. From then on one is refused, and after it
//! another ever sooner, until something comes through in time (K. Nichols and V. Jacobson,
//! "Controlling Queue Delay", 2012). Pure: the clock is handed in.

/// The state of one queue.
#[derive(Clone, Debug)]
pub struct Codel {
    target_us: u64,
    interval_us: u64,
    /// When the queue will have stood for an interval; `None` while it does not stand.
    stands_at_us: Option<u64>,
    /// When the next is refused; `None` while none is.
    refuse_at_us: Option<u64>,
    /// Refused since that began.
    refused: u64,
}

impl Codel {
    /// A queue that does not stand.
    #[must_use]
    pub fn new(target_us: u64, interval_us: u64) -> Codel {
        assert!(0 < target_us && target_us <= interval_us);
        Codel { target_us, interval_us, stands_at_us: None, refuse_at_us: None, refused: 0 }
    }

    /// Something leaves the queue at `now_us` after so long; whether it is one to refuse.
    ///
    /// Whoever cannot refuse it any more asks [`Codel::is_standing`] instead.
    pub fn leaves(&mut self, now_us: u64, waited_us: u64) -> bool {
        if waited_us < self.target_us {
            self.stands_at_us = None;
            self.refuse_at_us = None;
            return false;
        }
        let stands_at_us = *self.stands_at_us.get_or_insert(now_us + self.interval_us);
        if now_us < stands_at_us {
            return false;
        }
        let Some(refuse_at_us) = self.refuse_at_us else {
            // A queue that stands again soon is taken up where it was left, as it is the same one.
            let is_recent = now_us < stands_at_us + self.interval_us;
            self.refused = if is_recent && 2 < self.refused { self.refused - 2 } else { 1 };
            self.refuse_at_us = Some(now_us + self.pause_us());
            return true;
        };
        if now_us < refuse_at_us {
            return false;
        }
        self.refused += 1;
        self.refuse_at_us = Some(refuse_at_us + self.pause_us());
        true
    }

    /// The queue is empty.
    pub fn is_empty_now(&mut self) {
        self.stands_at_us = None;
        self.refuse_at_us = None;
    }

    /// Whether the queue has stood for an interval.
    #[must_use]
    pub fn is_standing(&self) -> bool {
        self.refuse_at_us.is_some()
    }

    /// The control law: the pause shrinks with the square root of what was refused.
    fn pause_us(&self) -> u64 {
        (self.interval_us as f64 / (self.refused.max(1) as f64).sqrt()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn codel() -> Codel {
        Codel::new(5 * MS, 100 * MS)
    }

    #[test]
    fn a_burst_is_let_through() {
        let mut codel = codel();
        for ms in 0..99 {
            assert!(!codel.leaves(ms * MS, 50 * MS), "{ms}");
        }
        assert!(!codel.leaves(99 * MS, 4 * MS), "one that came through in time");
        for ms in 100..199 {
            assert!(!codel.leaves(ms * MS, 50 * MS), "{ms}: the interval began anew");
        }
        assert!(!codel.is_standing());
    }

    #[test]
    fn a_standing_queue_is_refused_ever_sooner() {
        let mut codel = codel();
        let refused: Vec<u64> = (0..500).filter(|ms| codel.leaves(ms * MS, 50 * MS)).collect();
        // Pauses of 100, 70.7, 57.7, 50 and 44.7 ms, seen by a clock of whole ms.
        assert_eq!(refused[..6], [100, 200, 271, 329, 379, 424]);
        assert!(codel.is_standing());
        assert!(!codel.leaves(500 * MS, MS));
        assert!(!codel.is_standing(), "over as soon as one comes through in time");
    }

    #[test]
    fn an_empty_queue_does_not_stand() {
        let mut codel = codel();
        assert!((0..=100).any(|ms| codel.leaves(ms * MS, 50 * MS)));
        codel.is_empty_now();
        assert!(!codel.is_standing());
        assert!(!codel.leaves(101 * MS, 50 * MS));
    }
}
