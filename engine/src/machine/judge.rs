//! What the end of an attempt says about its agent: the score, and whether its breaker opens or
//! closes.

use super::Machine;
use crate::breaker::{Breaker, Verdict};
use crate::id::TaskId;
use crate::queue::LaneId;
use crate::task::State;
use crate::time::{Mono, Now};

impl Machine {
    /// Judges an attempt that has just left `running`, whatever it came to.
    pub(super) fn judge(&mut self, now: Now, id: TaskId) {
        let held = self.held(id).expect("judged while it is held");
        let (task, lane) = (&held.task, held.lane);
        let verdict = Verdict::of(task.state, task.error.as_deref());
        let took_ms = task
            .ended_at()
            .zip(task.started_at())
            .map(|(end, start)| end.0.saturating_sub(start.0));
        let is_failed = task.state == State::Failed;
        let is_in_time = took_ms.is_some_and(|ms| ms <= self.limits.latency_objective_ms);
        let recent = self.agents.window_mut(lane).now(now.mono);
        match verdict {
            Verdict::None => {}
            Verdict::Good => {
                recent.good += 1;
                recent.in_time += u64::from(is_in_time);
            }
            Verdict::Bad => {
                recent.bad += 1;
                recent.failed += u64::from(is_failed);
                recent.in_time += u64::from(is_failed && is_in_time);
            }
        }
        if let Some(rules) = self.limits.breaker {
            let is_over = |breaker: &mut Breaker| breaker.ended(now.mono, id, verdict, &rules);
            self.move_breaker(lane, is_over);
        }
    }

    /// A running attempt got an answer: it shows that its agent works.
    pub(super) fn attempt_progressed(&mut self, id: TaskId) {
        let lane = self.held(id).expect("a running task is held").lane;
        if self.agents.is_held_back(lane) {
            self.move_breaker(lane, |breaker| breaker.progressed(id));
        }
    }

    fn move_breaker(&mut self, lane: LaneId, change: impl FnOnce(&mut Breaker)) {
        if self.agents.change_breaker(lane, change) {
            self.offer_all(lane);
        }
    }

    /// Tells the workers that wait for this lane's agent that its tasks may start.
    fn offer_all(&mut self, lane: LaneId) {
        for lane in self.agents.lanes_beside(lane) {
            self.offer(lane);
        }
    }

    /// Tells workers of agents whose pause has passed: one of them may probe.
    pub(super) fn offer_probes(&mut self, now: Mono) {
        for lane in self.agents.take_probes_due(now) {
            self.offer_all(lane);
        }
    }
}
