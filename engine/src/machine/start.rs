//! Starting what is ready: as many as slots, permits, rates and pauses allow.

use super::agents::StartAsk;
use super::{Gated, Machine, held_mut};
use crate::agent::definition::{Agent, Kind, ToolEffect};
use crate::agent::state::StepKind;
use crate::command::Intake;
use crate::effect::{Call, Effect, Work};
use crate::event::Event;
use crate::id::{Step, TaskId};
use crate::limits::{TIMER_MS_MAX, TURN_STARTS_MAX};
use crate::queue::LaneId;
use crate::task::{State, Task, TaskError, WaitReason, Waiting};
use crate::time::Now;
use std::sync::Arc;

impl Machine {
    /// Starts ready tasks in their order until nothing more may start.
    pub(super) fn start_ready(&mut self, now: Now) {
        if self.intake == Intake::Draining {
            return;
        }
        self.agents.take_recheck();
        self.offer_probes(now.mono);
        self.start_suspect(now);
        for _ in 0..TURN_STARTS_MAX {
            let ask = self.start_ask(now);
            let agents = std::cell::RefCell::new(&mut self.agents);
            let is_open = |lane| agents.borrow_mut().may_start(lane, ask);
            let is_eligible = |lane, key| agents.borrow().may_start_key(lane, key);
            let Some(ready) = self.queue.pop_open(is_open, is_eligible) else { break };
            self.start(now, ready.task);
        }
        self.agents.drop_hands();
    }

    fn start_ask(&self, now: Now) -> StartAsk {
        let has_slot = self.slots.used() < self.slots.len();
        StartAsk { now: now.mono, has_slot, is_lease: false }
    }

    fn may_start_one(&mut self, now: Now, id: TaskId) -> bool {
        let ask = self.start_ask(now);
        let held = self.held(id).expect("ready tasks are held");
        let (lane, key) = (held.lane, held.key);
        self.agents.may_start(lane, ask) && self.agents.may_start_key(lane, key)
    }

    /// What two crashes interrupted is started one at a time, so that the third names the culprit.
    fn start_suspect(&mut self, now: Now) {
        while self.suspect_running.is_none()
            && let Some(id) = self.suspects.front().copied()
        {
            if !self.may_start_one(now, id) {
                return;
            }
            self.suspects.pop_front();
            self.suspect_running = Some(id);
            self.start(now, id);
        }
    }

    fn start(&mut self, now: Now, id: TaskId) {
        let held = held_mut(&mut self.partitions, id).expect("ready tasks are held");
        assert!(held.is_queued, "started what was not ready");
        held.is_queued = false;
        let (lane, key) = (held.lane, held.key);
        let Some(agent) = self.agents.of_lane(lane) else {
            let message = format!("agent {} was deleted while the task waited", held.task.agent);
            return self.dead_letter(now, id, "agent_unknown", &message);
        };
        let kind = agent.kind;
        if agent.takes_slot() {
            let slot = self.slots.try_take(id).expect("a slot was free");
            held.active_mut().slot = Some(slot);
        }
        self.agents.enter(lane, key, id);
        held.is_counted = true;
        if held.task.state == State::Waiting {
            self.record(now, id, Event::Woken);
            return match kind {
                Kind::Sleep => self.finish_sleep(now, id),
                _ => self.go_on_in(now, id, lane),
            };
        }
        let waited_ms = now.wall.0.saturating_sub(held.task.ready_at.0);
        let (attempt, own) = (held.task.attempt.next(), held.task.fence);
        let fence = self.fence_after(own);
        self.agents.stats_mut(lane).queue_wait_us.record(waited_ms * 1_000);
        self.record(now, id, Event::Started { attempt, fence, lease_ms: None });
        match kind {
            Kind::Echo => self.open.gated.push(Gated::Echo { task: id, fence }),
            Kind::Sleep => self.begin_sleep(now, id),
            Kind::Http => self.begin_http(id, lane),
            Kind::Model => self.go_on_in(now, id, lane),
            Kind::Worker => panic!("a worker's task starts by a lease"),
        }
    }

    /// Ends an `echo` attempt whose start is durable.
    pub fn finish_echo(&mut self, now: Now, id: TaskId, fence: crate::id::Fence) {
        let Some(held) = self.held(id) else { return };
        if held.task.state == State::Running && held.task.fence == fence {
            let output = held.task.input.clone();
            self.record(now, id, Event::Succeeded { output });
        }
    }

    fn begin_sleep(&mut self, now: Now, id: TaskId) {
        let task = &self.held(id).expect("just started").task;
        if task.run.as_ref().is_some_and(|run| !run.open.is_empty()) {
            // Interrupted between start and park cannot be: they are in one batch.
            return self.park_timer(now, id);
        }
        if 0 < task.steps {
            return self.finish_sleep(now, id);
        }
        let Some(ms) = task.input.bytes().and_then(sleep_ms) else {
            return self.dead_letter(now, id, "invalid_input", "sleep takes {\"ms\":N}");
        };
        let event = Event::StepStarted {
            step: Step(1),
            kind: StepKind::Timer,
            name: Arc::clone(&task.agent),
            call_id: None,
            input: None,
            effect: ToolEffect::Pure,
            until: Some(now.wall + ms),
        };
        self.record(now, id, event);
        self.park_timer(now, id);
    }

    fn finish_sleep(&mut self, now: Now, id: TaskId) {
        let output = self.held(id).expect("just woken").task.input.clone();
        self.record(now, id, Event::Succeeded { output });
    }

    /// Parks a task whose open steps are all timers.
    pub(super) fn park_timer(&mut self, now: Now, id: TaskId) {
        let run = self.held(id).and_then(|held| held.task.run.as_ref()).expect("has timers");
        let until = run.open.iter().filter_map(|open| open.timer()).min();
        let waiting = Waiting { reason: WaitReason::Timer, name: None, until };
        self.record(now, id, Event::Waited { waiting: Box::new(waiting) });
    }

    fn go_on_in(&mut self, now: Now, id: TaskId, lane: LaneId) {
        let agent = Arc::clone(self.agents.of_lane(lane).expect("looked at when it started"));
        self.go_on(now, id, &agent);
    }

    fn begin_http(&mut self, id: TaskId, lane: LaneId) {
        let agent = self.agents.of_lane(lane).expect("looked at when it started");
        let task = &self.held(id).expect("just started").task;
        let work = Work::Http { input: task.input.clone() };
        let call = call(task, agent, Step(0), work);
        self.open.gated.push(Gated::Effect(Effect::Call(call)));
    }

    /// Fails a task for good.
    pub(super) fn dead_letter(&mut self, now: Now, id: TaskId, code: &str, message: &str) {
        let error =
            TaskError { code: Box::from(code), message: Box::from(message), retryable: false };
        self.end_failed(now, id, Box::new(error));
    }
}

/// A call for a task as it stands.
pub(super) fn call(task: &Task, agent: &Arc<Agent>, step: Step, work: Work) -> Box<Call> {
    Box::new(Call {
        task: task.id,
        fence: task.fence,
        step,
        attempt: task.attempt,
        trace: task.trace(),
        tenant: Arc::clone(&task.tenant),
        agent_name: Arc::clone(&task.agent),
        agent: Arc::clone(agent),
        timeout_ms: task.timeout_ms.min(crate::limits::TIMEOUT_MS),
        work,
    })
}

/// The `ms` of a sleep's input.
fn sleep_ms(input: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Sleep {
        ms: u64,
    }
    let sleep: Sleep = serde_json::from_slice(input).ok()?;
    (sleep.ms <= TIMER_MS_MAX).then_some(sleep.ms)
}
