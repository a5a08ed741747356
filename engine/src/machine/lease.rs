//! Leasing ready tasks to workers: a right to one attempt that ends by itself.

use super::agents::StartAsk;
use super::{Gated, Machine};
use crate::command::{Answer, Grant, Holder, Intake, Refusal};
use crate::effect::Effect;
use crate::event::Event;
use crate::id::{ReplyTo, TaskId};
use crate::limits::{LEASE_MS_MAX, LEASE_MS_MIN, LEASE_WAITERS_MAX, LEASES_PER_CALL_MAX};
use crate::queue::LaneId;
use crate::task::Lease;
use crate::time::Now;
use std::sync::Arc;

/// A worker's request for leases.
pub(super) struct Ask {
    pub(super) reply: ReplyTo,
    pub(super) agents: Vec<Arc<str>>,
    pub(super) tenant: Arc<str>,
    pub(super) max_tasks: usize,
    pub(super) lease_ms: u64,
    pub(super) waits: bool,
}

impl Machine {
    pub(super) fn lease(&mut self, now: Now, ask: &Ask) {
        if self.intake == Intake::Draining {
            return self.refuse(ask.reply, Refusal::Draining);
        }
        let known = |name: &&Arc<str>| self.agents.get(name).is_some();
        let names: Vec<Arc<str>> = ask.agents.iter().filter(known).cloned().collect();
        let lanes: Vec<LaneId> =
            names.iter().map(|name| self.agents.lane(name, &ask.tenant)).collect();
        let lease_ms = ask.lease_ms.clamp(LEASE_MS_MIN, LEASE_MS_MAX);
        let max_tasks = ask.max_tasks.min(LEASES_PER_CALL_MAX);
        let mut grants = Vec::new();
        for lane in &lanes {
            while grants.len() < max_tasks
                && let Some(id) = self.pop_for_lease(now, *lane)
            {
                grants.push(self.grant(now, id, lease_ms));
            }
        }
        self.agents.drop_hands();
        if grants.is_empty() && ask.waits {
            if LEASE_WAITERS_MAX <= self.lease_waiters_len {
                return self.refuse(ask.reply, Refusal::OverLimit { what: "leases" });
            }
            for lane in lanes {
                self.lease_waiters.entry(lane).or_default().push_back(ask.reply);
                self.lease_waiters_len += 1;
            }
        }
        self.reply(ask.reply, Answer::Leases(grants));
    }

    fn pop_for_lease(&mut self, now: Now, lane: LaneId) -> Option<TaskId> {
        let ask = StartAsk { now: now.mono, has_slot: true, is_lease: true };
        if !self.agents.may_start(lane, ask) {
            return None;
        }
        let agents = &self.agents;
        let ready = self.queue.pop_lane(lane, |key| agents.may_start_key(lane, key))?;
        Some(ready.task)
    }

    fn grant(&mut self, now: Now, id: TaskId, lease_ms: u64) -> Grant {
        let held = self.held_mut(id).expect("ready tasks are held");
        held.is_queued = false;
        held.is_counted = true;
        let (lane, key) = (held.lane, held.key);
        let waited_ms = now.wall.0.saturating_sub(held.task.ready_at.0);
        let (attempt, own) = (held.task.attempt.next(), held.task.fence);
        held.active_mut().lease = Some(Lease { expires_at: now.mono + lease_ms, lease_ms });
        let name = Arc::clone(&held.task.agent);
        let fence = self.fence_after(own);
        self.agents.enter(lane, key, id);
        self.agents.stats_mut(lane).queue_wait_us.record(waited_ms * 1_000);
        self.record(now, id, Event::Started { attempt, fence, lease_ms: Some(lease_ms) });
        let task = &self.held(id).expect("still held").task;
        Grant {
            holder: Holder { task: id, attempt, fence },
            agent: name,
            input: task.input.clone(),
            steps: task.steps,
            expires_at: now.wall + lease_ms,
            trace: task.trace(),
        }
    }

    pub(super) fn unlease(&mut self, reply: ReplyTo) {
        let mut lanes = Vec::new();
        for (lane, waiters) in &mut self.lease_waiters {
            let before = waiters.len();
            waiters.retain(|waiter| *waiter != reply);
            self.lease_waiters_len -= before - waiters.len();
            lanes.push(*lane);
        }
        lanes.sort_unstable();
        self.lease_waiters.retain(|_, waiters| !waiters.is_empty());
        // It may have been offered what it now leaves: offer that to the next.
        lanes.into_iter().for_each(|lane| self.offer(lane));
    }

    /// Tells one who waits for this lane that there is something, if both are so.
    pub(super) fn offer(&mut self, lane: LaneId) {
        if self.lease_waiters_len == 0 || self.queue.lane_len(lane) == 0 {
            return;
        }
        let Some(waiters) = self.lease_waiters.get_mut(&lane) else { return };
        let Some(to) = waiters.pop_front() else { return };
        self.lease_waiters_len -= 1;
        // It asks again with all its agents: one offer is enough.
        for waiters in self.lease_waiters.values_mut() {
            let before = waiters.len();
            waiters.retain(|waiter| *waiter != to);
            self.lease_waiters_len -= before - waiters.len();
        }
        self.lease_waiters.retain(|_, waiters| !waiters.is_empty());
        self.open.gated.push(Gated::Effect(Effect::Offer { to }));
    }
}
