//! What is derived from tasks: the ready queue, timers, slots, counts. One function brings it up to
//! date after any event, and the same one builds it when a partition is loaded.

use super::expire::Timer;
use super::{Bug, Machine, held_mut};
use crate::agent::state::OpenState;
use crate::id::TaskId;
use crate::queue::Ready;
use crate::task::{State, Task};
use crate::time::{Millis, Mono, Now};

/// What of a task the derived structures depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Standing {
    state: State,
}

impl Standing {
    pub(super) fn of(task: &Task) -> Standing {
        Standing { state: task.state }
    }
}

/// Whether a task waits for nothing but its turn.
pub(super) fn is_ready(task: &Task) -> bool {
    match task.state {
        State::Queued => true,
        State::Waiting => task.run.as_ref().is_none_or(|run| {
            run.open
                .iter()
                .all(|open| !matches!(open.state, OpenState::Timer(_) | OpenState::Unknown))
        }),
        _ => false,
    }
}

/// When its next wall-clock timer is due.
fn wall_at(task: &Task) -> Option<Millis> {
    match task.state {
        State::Scheduled => Some(task.run_at),
        State::Waiting | State::Running => task.run.as_ref().and_then(|run| {
            run.open
                .iter()
                .filter_map(|open| match open.state {
                    OpenState::Timer(until) => Some(until),
                    _ => None,
                })
                .min()
        }),
        _ => None,
    }
}

impl Machine {
    /// Brings the queue, timers, slots and counts up to date with a task. `before` is how it stood,
    /// `None` when it was just submitted or loaded.
    pub(super) fn index(&mut self, now: Now, id: TaskId, before: Option<Standing>) {
        let held = held_mut(&mut self.partitions, id).expect("indexed tasks are held");
        let after = Standing::of(&held.task);
        let is_ready = is_ready(&held.task);
        if is_ready != held.is_queued {
            if is_ready { self.enqueue(id) } else { self.dequeue(id) }
        }
        self.set_wall_timer(id);
        if before == Some(after) {
            return;
        }
        let task = &self.held(id).expect("still held").task;
        let (agent, state) = (task.agent.clone(), task.state);
        let stats = self.agent_stats(&agent);
        if let Some(before) = before {
            stats.live[before.state as usize] -= 1;
        }
        if !state.is_ended() || state == State::Failed {
            stats.live[state as usize] += 1;
        }
        let was_running = before.is_some_and(|before| before.state == State::Running);
        if was_running {
            self.leave_running(id);
        }
        if state == State::Running {
            self.enter_running(now, id);
        }
        if state.is_ended() {
            self.index_end(now, id, before.is_some());
        } else if before.is_none() || before.is_some_and(|before| before.state.is_ended()) {
            self.set_deadline_timer(id);
        }
    }

    fn enqueue(&mut self, id: TaskId) {
        let held = held_mut(&mut self.partitions, id).expect("held");
        held.is_queued = true;
        if 2 <= held.task.crashes {
            self.suspects.push_back(id);
            return;
        }
        let (task, lane) = (&held.task, held.lane);
        self.queue.push(Ready {
            task: id,
            lane,
            key: held.key,
            priority: task.priority,
            ready_seq: task.ready_seq,
            ready_at: task.ready_at,
        });
        self.offer(lane);
    }

    /// Forgets a ready task that was not started: it was cancelled, or parked again.
    fn dequeue(&mut self, id: TaskId) {
        let held = held_mut(&mut self.partitions, id).expect("held");
        held.is_queued = false;
        if let Some(at) = self.suspects.iter().position(|suspect| *suspect == id) {
            self.suspects.remove(at);
            return;
        }
        self.queue.forget(id, held.task.ready_seq);
    }

    fn set_wall_timer(&mut self, id: TaskId) {
        let has_bug = self.has_bug(Bug::LostTimer);
        let is_early = self.has_bug(Bug::EarlyTimer);
        let held = held_mut(&mut self.partitions, id).expect("held");
        let mut wanted = wall_at(&held.task);
        if has_bug && held.task.state == State::Waiting {
            wanted = None;
        }
        if wanted == held.wall_timer.map(|(_, at)| at) {
            return;
        }
        if let Some((timer, _)) = held.wall_timer.take() {
            self.wall.cancel(timer);
        }
        if let Some(at) = wanted {
            let due = if is_early { at.0.saturating_sub(40) } else { at.0 };
            held.wall_timer = Some((self.wall.insert(due, Timer::Wall(id)), at));
        }
    }

    fn set_deadline_timer(&mut self, id: TaskId) {
        let held = held_mut(&mut self.partitions, id).expect("held");
        if let (Some(deadline), None) = (held.task.deadline(), held.deadline_timer) {
            held.deadline_timer = Some(self.wall.insert(deadline.0, Timer::Deadline(id)));
        }
    }

    /// Sets the attempt's time-out. Slot and permit were taken by whoever started it.
    fn enter_running(&mut self, now: Now, id: TaskId) {
        let held = held_mut(&mut self.partitions, id).expect("held");
        let attempt_ends_at = now.mono + held.task.timeout_ms;
        if attempt_ends_at < Mono(u64::MAX) || held.active.is_some() {
            held.active_mut().attempt_ends_at = attempt_ends_at;
            self.set_mono_timer(id);
        }
    }

    /// Sets the timer of lease and attempt to whichever comes first.
    pub(super) fn set_mono_timer(&mut self, id: TaskId) {
        let held = held_mut(&mut self.partitions, id).expect("held");
        let active = held.active_mut();
        let lease_ends_at = active.lease.map_or(Mono(u64::MAX), |lease| lease.expires_at);
        let at = active.attempt_ends_at.min(lease_ends_at);
        if let Some(timer) = active.mono_timer.take() {
            self.mono.cancel(timer);
        }
        if at < Mono(u64::MAX) {
            active.mono_timer = Some(self.mono.insert(at.0, Timer::Attempt(id)));
        }
    }

    fn leave_running(&mut self, id: TaskId) {
        let leaks = self.has_bug(Bug::SlotLeak);
        let held = held_mut(&mut self.partitions, id).expect("held");
        if let Some(active) = held.active.take() {
            if let Some(timer) = active.mono_timer {
                self.mono.cancel(timer);
            }
            if let Some(slot) = active.slot
                && !(leaks && held.task.state == State::Waiting)
            {
                self.slots.release(slot);
            }
        }
        if std::mem::take(&mut held.is_counted) {
            let (lane, key) = (held.lane, held.key);
            self.agents.leave(lane, key);
        }
        self.drained.remove(&id);
        if self.suspect_running == Some(id) {
            self.suspect_running = None;
        }
    }

    /// Starts the clocks of what is kept after the end: the key, and a dead letter.
    fn index_end(&mut self, now: Now, id: TaskId, is_new_end: bool) {
        let key_kept_ms = self.limits.key_kept_ms;
        let held = held_mut(&mut self.partitions, id).expect("held");
        if let Some(timer) = held.deadline_timer.take() {
            self.wall.cancel(timer);
        }
        let task = &held.task;
        let ended_at = task.ended_at().expect("an ended task has an end");
        let (state, key) = (task.state, task.key());
        let (agent, created_at) = (task.agent.clone(), task.created_at);
        if state == State::Failed {
            let at = ended_at + self.limits.retention_ms;
            self.wall.insert(at.0, Timer::Retention(id));
        }
        if is_new_end {
            let duration_ms = now.wall.0.saturating_sub(created_at.0);
            let stats = self.agent_stats(&agent);
            stats.ended[state as usize] += 1;
            stats.duration_us.record(duration_ms * 1_000);
            if let Some(key) = key {
                self.set_key_expiry(id.partition(), key.hash, Some(ended_at + key_kept_ms));
            }
        }
    }
}
