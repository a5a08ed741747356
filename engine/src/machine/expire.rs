//! Timers that fire: scheduled tasks, waits, deadlines, attempts, leases, keys, retention, ageing.
//!
//! Each timer is checked against the task when it fires, so that a stale one does nothing, and one
//! that comes early by the wall clock (it was set back) is set again.

use super::{Bug, Gated, Machine, index};
use crate::agent::state::{OpenState, OpenStep, StepKind};
use crate::effect::Effect;
use crate::event::Event;
use crate::id::{Fence, PartitionId, Step, TaskId};
use crate::limits::{TURN_STARTS_MAX, TURN_TIMERS_MAX};
use crate::payload::Payload;
use crate::task::{State, TaskError};
use crate::time::{Millis, Now};

/// What a timer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// A task's `run_at` or the next of its waits.
    Wall(TaskId),
    /// A task's deadline.
    Deadline(TaskId),
    /// The end of an attempt's time or of its lease.
    Attempt(TaskId),
    /// An idempotency key is forgotten: its partition, and the halves of its hash.
    Key(PartitionId, [u64; 2]),
    /// A dead letter is removed.
    Retention(TaskId),
}

// A timer is 24 bytes, so that its place in the wheel is 48.
const _: () = assert!(size_of::<Option<Timer>>() == 24);

impl Timer {
    /// The timer of an idempotency key.
    pub(super) fn key(partition: PartitionId, hash: u128) -> Timer {
        Timer::Key(partition, [(hash >> 64) as u64, hash as u64])
    }
}

impl Machine {
    /// Fires what is due, at most [`TURN_TIMERS_MAX`] of each clock; whether more is due.
    pub fn fire_timers(&mut self, now: Now) -> bool {
        let mut due = Vec::new();
        let more_wall = self.wall.advance(now.wall.0, TURN_TIMERS_MAX, &mut due);
        let more_mono = self.mono.advance(now.mono.0, TURN_TIMERS_MAX, &mut due);
        for timer in due {
            match timer {
                Timer::Wall(id) => self.fire_wall(now, id),
                Timer::Deadline(id) => self.fire_deadline(now, id),
                Timer::Attempt(id) => self.fire_attempt(now, id),
                Timer::Key(partition, [high, low]) => {
                    let hash = (u128::from(high) << 64) | u128::from(low);
                    self.fire_key(now.wall, partition, hash);
                }
                Timer::Retention(id) => self.fire_retention(now, id),
            }
        }
        let mut more_aged = false;
        if self.ages_at_mono <= now.mono.0 {
            more_aged = self.queue.age(now.wall, TURN_STARTS_MAX);
            if !more_aged {
                self.ages_at_mono = now.mono.0 + (self.limits.ageing_ms / 4).max(1);
            }
        }
        more_wall || more_mono || more_aged
    }

    /// How long the shard may sleep if nothing comes, in ms; `None`: for ever.
    #[must_use]
    pub fn sleep_ms(&self, now: Now) -> Option<u64> {
        let wall = self.wall.next_at_ms().map(|at| at.saturating_sub(now.wall.0));
        let mono = self.mono.next_at_ms().map(|at| at.saturating_sub(now.mono.0));
        let ageing = (!self.queue.is_empty()).then_some(self.ages_at_mono);
        let ageing = ageing.map(|at| at.saturating_sub(now.mono.0));
        let recheck = self.agents.recheck_at().map(|at| at.0.saturating_sub(now.mono.0));
        let leaves = self.leaves_at().map(|at| at.0.saturating_sub(now.mono.0));
        [wall, mono, ageing, recheck, leaves].into_iter().flatten().min()
    }

    fn fire_wall(&mut self, now: Now, id: TaskId) {
        let is_early = self.has_bug(Bug::EarlyTimer);
        let Some(held) = self.held_mut(id) else { return };
        if held.wall_timer.take().is_none() {
            return;
        }
        let at = index::wall_at(&held.task).filter(|_| is_early);
        let until = at.map_or(now.wall, |at| at.max(now.wall));
        match held.task.state {
            State::Scheduled if held.task.run_at <= until => {
                let ready_seq = self.next_ready_seq(id.partition());
                self.record(now, id, Event::Queued { ready_seq });
            }
            State::Waiting | State::Running => self.fire_waits(now, id, until),
            // The clock was set back: the timer is set again.
            State::Scheduled => {
                let standing = self.standing(id);
                self.index(now, id, standing);
            }
            State::Queued | State::Succeeded | State::Failed | State::Cancelled => {}
        }
    }

    fn standing(&self, id: TaskId) -> Option<super::index::Standing> {
        self.held(id).map(|held| super::index::Standing::of(&held.task))
    }

    fn fire_waits(&mut self, now: Now, id: TaskId, until: Millis) {
        let held = self.held(id).expect("looked at by the caller");
        let is_running = held.task.state == State::Running;
        let name = held.task.agent.clone();
        let Some(run) = held.task.run.as_ref() else { return };
        let is_due = |open: &&OpenStep| open.timer().is_some_and(|at| at <= until);
        let due: Vec<OpenStep> = run.open.iter().filter(is_due).cloned().collect();
        for open in &due {
            let open = OpenStep { kind: StepKind::Timer, ..open.clone() };
            self.step_ended(now, id, &open, Payload::inline(br#"{"ok":true}"#));
        }
        if due.is_empty() {
            let standing = self.standing(id);
            self.index(now, id, standing);
        }
        if is_running && let Some(agent) = self.agents.get(&name).cloned() {
            self.go_on(now, id, &agent);
        }
    }

    fn fire_deadline(&mut self, now: Now, id: TaskId) {
        let Some(held) = self.held_mut(id) else { return };
        let Some(deadline) = held.task.deadline() else { return };
        held.deadline_timer = None;
        if held.task.state.is_ended() {
            return;
        }
        if now.wall < deadline {
            let timer = self.wall.insert(deadline.0, Timer::Deadline(id));
            self.held_mut(id).expect("looked at above").deadline_timer = Some(timer);
            return;
        }
        self.dead_letter(now, id, "deadline_exceeded", "the deadline of all attempts passed");
    }

    fn fire_attempt(&mut self, now: Now, id: TaskId) {
        // An attempt that ended took its timer with it; this one may be of a later attempt that
        // began in the meantime, whose own times are looked at.
        let Some(held) = self.held_mut(id) else { return };
        let Some(active) = &mut held.active else { return };
        if held.task.state != State::Running {
            return;
        }
        active.mono_timer = None;
        let is_over = active.attempt_ends_at <= now.mono;
        let is_lease_over = active.lease.is_some_and(|lease| lease.expires_at <= now.mono);
        let (code, message) = match (is_over, is_lease_over) {
            (true, _) => ("timeout", format!("no end within {} ms", held.task.timeout_ms)),
            (_, true) => ("lease_expired", "the worker's lease ended without a report".to_owned()),
            (false, false) => return self.set_mono_timer(id),
        };
        let error = TaskError { code: code.into(), message: message.into(), retryable: true };
        self.fail_attempt(now, id, Box::new(error), 0);
    }

    fn fire_key(&mut self, now: Millis, partition: PartitionId, hash: u128) {
        let Some(state) = self.partition_mut(partition) else { return };
        let Some(row) = state.keys.get(hash) else { return };
        let Some(expires_at) = row.expires_at else { return };
        if now < expires_at {
            self.wall.insert(expires_at.0, Timer::key(partition, hash));
            return;
        }
        state.keys.remove(hash);
        self.keys_len -= 1;
        self.open.batch.keys.retain(|row| (row.partition, row.hash) != (partition, hash));
        self.open.batch.keys_gone.push((partition, hash));
    }

    fn fire_retention(&mut self, now: Now, id: TaskId) {
        let retention_ms = self.limits.retention_ms;
        let Some(held) = self.held(id) else { return };
        let ended_at = held.task.ended_at();
        if held.task.state != State::Failed || self.open.removed.contains(&id) {
            return;
        }
        let due = ended_at.expect("an ended task has an end") + retention_ms;
        if now.wall < due {
            self.wall.insert(due.0, Timer::Retention(id));
            return;
        }
        self.record(now, id, Event::Removed);
        self.open.removed.push(id);
    }

    /// Ends an attempt that failed: another follows, or the dead letters.
    pub(super) fn fail_attempt(
        &mut self,
        now: Now,
        id: TaskId,
        error: Box<TaskError>,
        retry_after_ms: u64,
    ) {
        self.settle_called(now, id, &error);
        let held = self.held_mut(id).expect("a failing task is held");
        if let Some(active) = &mut held.active {
            active.retry_after_ms = 0;
        }
        let task = &held.task;
        let failures = task.failures + 1;
        let (agent, max_attempts) = (task.agent.clone(), task.max_attempts);
        let deadline = task.deadline().unwrap_or(Millis(u64::MAX));
        if !error.retryable || max_attempts <= failures {
            return self.end_failed(now, id, error);
        }
        let retry = self.agents.get(&agent).map(|agent| agent.retry).unwrap_or_default();
        let wait_ms = retry.backoff_ms(u32::from(failures), &mut self.rng).max(retry_after_ms);
        let run_at = now.wall + wait_ms;
        if deadline <= run_at {
            return self.end_failed(now, id, error);
        }
        self.record(now, id, Event::RetryScheduled { error, run_at });
    }

    /// Calls under way are dropped: those that may not be repeated are of unknown outcome from now
    /// on.
    fn settle_called(&mut self, now: Now, id: TaskId, error: &TaskError) {
        let task = &self.held(id).expect("a failing task is held").task;
        let fence = task.fence;
        let open = task.run.as_ref().map_or(&[][..], |run| &run.open);
        let is_called = |open: &&OpenStep| open.state == OpenState::Called;
        let called: Vec<(Step, bool)> = open
            .iter()
            .filter(is_called)
            .map(|open| (open.step, open.effect == crate::agent::definition::ToolEffect::Unsafe))
            .collect();
        self.abort(id, fence);
        for (step, is_unsafe) in called {
            let event = if is_unsafe {
                Event::StepUnknown { step }
            } else {
                Event::StepFailed { step, error: Box::new(error.clone()) }
            };
            self.record(now, id, event);
        }
    }

    /// Makes a task a dead letter.
    pub(super) fn end_failed(&mut self, now: Now, id: TaskId, error: Box<TaskError>) {
        let fence = self.held(id).expect("a failing task is held").task.fence;
        self.abort(id, fence);
        self.record(now, id, Event::DeadLettered { error });
    }

    /// Has the calls of this node's own for a task dropped, if it may have some.
    pub(super) fn abort(&mut self, id: TaskId, fence: Fence) {
        if self.held(id).is_some_and(|held| held.slot().is_some()) {
            self.open.gated.push(Gated::Effect(Effect::Abort { task: id, fence }));
        }
    }
}
