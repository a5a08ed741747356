//! What workers report on their leases. A stale fence is refused, whoever sends it.

use super::{Bug, Machine};
use crate::agent::state::StepKind;
use crate::command::{Answer, Holder, Refusal, Report, Reported};
use crate::event::Event;
use crate::id::{ReplyTo, Step, TaskId};
use crate::limits::{HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX, LEASE_MS_MAX, LEASE_MS_MIN};
use crate::map::stable_hash;
use crate::payload::Payload;
use crate::task::{Lease, State, Usage};
use crate::time::{Millis, Now};
use std::sync::Arc;

impl Machine {
    pub(super) fn report(
        &mut self,
        now: Now,
        reply: ReplyTo,
        tenant: &str,
        reports: Vec<(Holder, Report)>,
    ) {
        let mut results = Vec::with_capacity(reports.len());
        for (holder, report) in reports {
            let result = self.report_one(now, tenant, holder, report);
            if let Err(refusal) = &result {
                self.count_refusal(refusal);
            }
            results.push(result);
        }
        self.reply(reply, Answer::Reports(results));
    }

    fn report_one(
        &mut self,
        now: Now,
        tenant: &str,
        holder: Holder,
        report: Report,
    ) -> Result<Reported, Refusal> {
        if let Err(lost) = self.check_holder(tenant, holder) {
            let is_heartbeat = matches!(report, Report::Heartbeat { .. });
            if is_heartbeat && self.cancelled.has(holder.task, holder.fence) {
                return Ok(Reported::Extended { cancelled: true, expires_at: now.wall });
            }
            self.stats.stale += 1;
            return Err(lost);
        }
        let id = holder.task;
        match report {
            Report::Heartbeat { lease_ms } => {
                let expires_at = self.extend(now, id, lease_ms);
                return Ok(Reported::Extended { cancelled: false, expires_at });
            }
            Report::Step { name, result } => return self.worker_step(now, id, name, result),
            Report::Complete { output } => self.record(now, id, Event::Succeeded { output }),
            Report::Fail { error } => self.fail_attempt(now, id, Box::new(error), 0),
        }
        Ok(Reported::Taken)
    }

    fn check_holder(&self, tenant: &str, holder: Holder) -> Result<(), Refusal> {
        let is_fenced = !self.has_bug(Bug::NoFenceCheck);
        let missing = || match self.missing(holder.task) {
            Refusal::NotLive(_) => Refusal::LeaseLost,
            moved => moved,
        };
        let held = self.held(holder.task).ok_or_else(missing)?;
        let task = &held.task;
        let holds = task.state == State::Running
            && &*task.tenant == tenant
            && held.lease().is_some()
            && (!is_fenced || (task.fence == holder.fence && task.attempt == holder.attempt));
        if holds { Ok(()) } else { Err(Refusal::LeaseLost) }
    }

    /// Extends a lease; it is soft, so nothing is journaled.
    fn extend(&mut self, now: Now, id: TaskId, lease_ms: Option<u64>) -> Millis {
        let held = self.held_mut(id).expect("its holder was checked");
        let granted_ms = held.lease().expect("its holder was checked").lease_ms;
        let lease_ms = lease_ms.unwrap_or(granted_ms).clamp(LEASE_MS_MIN, LEASE_MS_MAX);
        held.active_mut().lease = Some(Lease { expires_at: now.mono + lease_ms, lease_ms });
        self.set_mono_timer(id);
        now.wall + lease_ms
    }

    fn worker_step(
        &mut self,
        now: Now,
        id: TaskId,
        name: Arc<str>,
        result: Payload,
    ) -> Result<Reported, Refusal> {
        let task = &self.held(id).expect("its holder was checked").task;
        let text = result.bytes().unwrap_or(b"");
        // Never 0, which means that nothing was reported.
        let reported = stable_hash(&[name.as_bytes(), text]) | 1;
        if task.run.as_ref().is_some_and(|run| run.reported == reported) {
            return Ok(Reported::Taken);
        }
        let size = result.bytes_len() as u64;
        if HISTORY_EVENTS_MAX <= task.events
            || HISTORY_BYTES_MAX < u64::from(task.events_bytes) + size
        {
            return Err(Refusal::HistoryFull);
        }
        let event = Event::StepEnded {
            step: Step(task.steps + 1),
            kind: StepKind::Worker,
            name,
            call_id: None,
            output: result,
            usage: Usage::default(),
            planned: Vec::new(),
            empty: false,
            reported,
        };
        self.record(now, id, event);
        self.attempt_progressed(id);
        Ok(Reported::Taken)
    }
}
