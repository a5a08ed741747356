//! What is derived from tasks: the ready queue, timers, slots, counts. One function brings it up to
//! date after any event, and the same one builds it when a partition is loaded.

use super::expire::Timer;
use super::{Bug, Machine, held_mut};
use crate::agent::state::OpenState;
use crate::id::TaskId;
use crate::partition::Held;
use crate::queue::{LaneId, Ready, ReadyQueue};
use crate::task::{State, Task};
use crate::time::{Millis, Mono, Now};
use crate::wheel::Wheel;
use std::collections::VecDeque;

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
pub(super) fn wall_at(task: &Task) -> Option<Millis> {
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

/// Queues a task that became ready.
fn enqueue(held: &mut Held, queue: &mut ReadyQueue, suspects: &mut VecDeque<TaskId>) {
    held.is_queued = true;
    let task = &held.task;
    if 2 <= task.crashes {
        return suspects.push_back(task.id);
    }
    queue.push(Ready {
        task: task.id,
        lane: held.lane,
        key: held.key,
        priority: task.priority,
        ready_seq: task.ready_seq,
        ready_at: task.ready_at,
    });
}

/// Forgets a ready task that was not started: it was cancelled, or parked again.
fn dequeue(held: &mut Held, queue: &mut ReadyQueue, suspects: &mut VecDeque<TaskId>) {
    held.is_queued = false;
    match suspects.iter().position(|suspect| *suspect == held.task.id) {
        Some(at) => drop(suspects.remove(at)),
        None => queue.forget(held.task.id, held.task.ready_seq),
    }
}

/// Has the timer of `run_at` and of waits fire when it should; not with a planted bug, which loses
/// it or has it fire early.
fn set_wall_timer(held: &mut Held, wall: &mut Wheel<Timer>, (is_lost, is_early): (bool, bool)) {
    let is_lost = is_lost && held.task.state == State::Waiting;
    let at = wall_at(&held.task).filter(|_| !is_lost);
    let due = at.map(|at| if is_early { at.0.saturating_sub(40) } else { at.0 });
    if due.is_some() && due == held.wall_timer.and_then(|timer| wall.at_ms(timer)) {
        return;
    }
    if let Some(timer) = held.wall_timer.take() {
        wall.cancel(timer);
    }
    held.wall_timer = due.map(|due| wall.insert(due, Timer::Wall(held.task.id)));
}

impl Machine {
    /// Brings the queue, timers, slots and counts up to date with a task. `before` is how it stood,
    /// `None` when it was just submitted or loaded.
    pub(super) fn index(&mut self, now: Now, id: TaskId, before: Option<Standing>) {
        let timer_bugs = (self.has_bug(Bug::LostTimer), self.has_bug(Bug::EarlyTimer));
        let is_leaving = self.is_leaving(id);
        let held = held_mut(&mut self.partitions, id).expect("indexed tasks are held");
        let (lane, after) = (held.lane, Standing::of(&held.task));
        let is_ready = is_ready(&held.task);
        let has_come = is_ready && !held.is_queued && !is_leaving;
        if has_come {
            enqueue(held, &mut self.queue, &mut self.suspects);
        } else if !is_ready && held.is_queued {
            dequeue(held, &mut self.queue, &mut self.suspects);
        }
        set_wall_timer(held, &mut self.wall, timer_bugs);
        if before == Some(after) {
            return self.offer_if(has_come, lane);
        }
        let state = held.task.state;
        let has_timeout = held.task.timeout_ms != u64::MAX || held.active.is_some();
        let has_deadline = held.task.deadline().is_some();
        let stats = self.agents.stats_mut(lane);
        if let Some(before) = before {
            stats.live[before.state as usize] -= 1;
        }
        if !state.is_ended() || state == State::Failed {
            stats.live[state as usize] += 1;
        }
        self.offer_if(has_come, lane);
        if before.is_some_and(|before| before.state == State::Running) {
            self.judge(now, id);
            self.leave_running(id);
        }
        if state == State::Running && has_timeout {
            self.enter_running(now, id);
        }
        if state.is_ended() {
            self.index_end(now, id, before.is_some());
        } else if has_deadline && before.is_none_or(|before| before.state.is_ended()) {
            self.set_deadline_timer(id);
        }
    }

    /// Takes a ready task out of its queue; it does not start on this shard any more.
    pub(super) fn unqueue(&mut self, id: TaskId) {
        let held = held_mut(&mut self.partitions, id).expect("unqueued tasks are held");
        dequeue(held, &mut self.queue, &mut self.suspects);
    }

    fn offer_if(&mut self, has_come: bool, lane: LaneId) {
        if has_come {
            self.offer(lane);
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
        held.active_mut().attempt_ends_at = attempt_ends_at;
        self.set_mono_timer(id);
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
        if !self.drained.is_empty() {
            self.drained.remove(&id);
        }
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
        let (lane, created_at) = (held.lane, task.created_at);
        if state == State::Failed {
            let at = ended_at + self.limits.retention_ms;
            self.wall.insert(at.0, Timer::Retention(id));
        }
        if is_new_end {
            let duration_ms = now.wall.0.saturating_sub(created_at.0);
            let stats = self.agents.stats_mut(lane);
            stats.ended[state as usize] += 1;
            stats.duration_us.record(duration_ms * 1_000);
            if let Some(key) = key {
                self.set_key_expiry(id.partition(), key.hash, Some(ended_at + key_kept_ms));
            }
        }
    }
}
