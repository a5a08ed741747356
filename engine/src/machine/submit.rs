//! Taking in tasks: bounds first, then the idempotency key, then the task itself.

use super::{Bug, Machine};
use crate::agent::definition::{Budget, Kind};
use crate::command::{Answer, AnswerWhen, Intake, Refusal};
use crate::event::{Event, KeyRow, Record};
use crate::id::{PartitionId, ReplyTo, TaskId};
use crate::limits::TIMEOUT_MS;
use crate::machine::apply;
use crate::partition::Held;
use crate::task::{NewTask, Task};
use crate::time::{Millis, Now};
use std::sync::Arc;

use super::expire::Timer;

/// What a submission came to.
enum Taken {
    /// A new task.
    New(TaskId),
    /// Its key had made this live task, or dead letter, before.
    Known(TaskId),
}

impl Machine {
    pub(super) fn submit(
        &mut self,
        now: Now,
        reply: ReplyTo,
        tasks: Vec<NewTask>,
        when: AnswerWhen,
    ) {
        assert!(!tasks.is_empty(), "an empty submission");
        if tasks.len() == 1 {
            let new = tasks.into_iter().next().expect("one");
            return self.submit_one(now, reply, new, when);
        }
        let ids: Vec<Result<TaskId, Refusal>> =
            tasks.into_iter().map(|new| self.take_in(now, new).map(taken_id)).collect();
        let results = ids.into_iter().map(|taken| taken.map(|id| self.copy(id))).collect();
        self.reply(reply, Answer::Many(results));
    }

    fn submit_one(&mut self, now: Now, reply: ReplyTo, new: NewTask, when: AnswerWhen) {
        let id = match self.take_in(now, new).map(taken_id) {
            Ok(id) => id,
            Err(refusal) => return self.refuse(reply, refusal),
        };
        match when {
            AnswerWhen::Ended => self.watch(reply, id),
            AnswerWhen::Durable => {
                let task = self.copy(id);
                self.reply(reply, Answer::Task(task));
            }
        }
    }

    fn copy(&self, id: TaskId) -> Box<Task> {
        Box::new(self.held(id).expect("just taken in").task.clone())
    }

    fn take_in(&mut self, now: Now, new: NewTask) -> Result<Taken, Refusal> {
        let taken = self.try_take_in(now, new);
        if let Err(refusal) = &taken {
            self.count_refusal(refusal);
        }
        taken
    }

    fn try_take_in(&mut self, now: Now, mut new: NewTask) -> Result<Taken, Refusal> {
        let partition = new.id.partition();
        if self.partition(partition).is_none() {
            return Err(Refusal::Moved(partition));
        }
        if let Some(known) = self.find_key(&new)? {
            return Ok(known);
        }
        self.check_bounds(&new)?;
        let lane = self.agents.known_lane(&new.agent, &new.tenant);
        let lane = lane.ok_or(Refusal::AgentUnknown)?;
        let (agent, tenant) = self.agents.names(lane);
        (new.agent, new.tenant) = (Arc::clone(agent), Arc::clone(tenant));
        let agent = self.agents.of_lane(lane).ok_or(Refusal::AgentUnknown)?;
        let (kind, agent_timeout_ms) = (agent.kind, agent.timeout_ms);
        let event = Event::Submitted {
            timeout_ms: new.timeout_ms.or(agent_timeout_ms).unwrap_or(if kind == Kind::Http {
                TIMEOUT_MS
            } else {
                u64::MAX
            }),
            max_attempts: new.max_attempts.unwrap_or(agent.attempts_max()),
            budget: Budget {
                max_iterations: new.budget.max_iterations.or(agent.budget.max_iterations),
            },
            ready_seq: 0,
            new: Box::new(new),
        };
        Ok(Taken::New(self.admit(now, event)))
    }

    /// The task that this key made before, if there is one.
    fn find_key(&self, new: &NewTask) -> Result<Option<Taken>, Refusal> {
        let Some(key) = new.key else { return Ok(None) };
        let partition = self.partition(new.id.partition()).expect("checked before");
        let Some(row) = partition.keys.get(key.hash) else { return Ok(None) };
        if row.fingerprint != key.fingerprint {
            return Err(Refusal::KeyReused);
        }
        match partition.tasks.get(row.task) {
            Some(_) => Ok(Some(Taken::Known(row.task))),
            None => Err(Refusal::NotLive(row.task)),
        }
    }

    fn check_bounds(&self, new: &NewTask) -> Result<(), Refusal> {
        match self.intake {
            Intake::Open if self.is_journal_full => return Err(Refusal::DiskFull),
            Intake::Open => {}
            Intake::DiskFull => return Err(Refusal::DiskFull),
            Intake::MemoryFull => return Err(Refusal::QueueFull { what: "the node's memory" }),
            Intake::Draining => return Err(Refusal::Draining),
        }
        if self.limits.live_tasks_max <= self.live_tasks {
            return Err(Refusal::QueueFull { what: "the shard's live tasks" });
        }
        if self.limits.live_bytes_max < self.live_bytes + new.input.stored().resident_bytes() {
            return Err(Refusal::QueueFull { what: "the shard's memory for inputs" });
        }
        if new.key.is_some() && self.limits.keys_max <= self.keys_len {
            return Err(Refusal::QueueFull { what: "the shard's idempotency keys" });
        }
        Ok(())
    }

    fn admit(&mut self, now: Now, mut event: Event) -> TaskId {
        let Event::Submitted { new, ready_seq, .. } = &mut event else {
            panic!("admits submissions");
        };
        let id = new.id;
        let waits = new.run_at.is_some_and(|run_at| now.wall < run_at);
        if !waits {
            *ready_seq = self.next_ready_seq(id.partition());
        }
        let record = Record { task: id, n: 1, at: now.wall, event: Arc::new(event) };
        let task = apply::submitted(&record);
        self.remember_key(&task);
        let mut held = self.hold(task);
        held.is_touched = true;
        held.is_new = true;
        let partition = self.partition_mut(id.partition()).expect("checked before");
        partition.tasks.insert(held);
        self.open.touched.push(id);
        self.open.batch.records.push(record);
        self.index(now, id, None);
        id
    }

    /// A task's place in memory, counted.
    pub(super) fn hold(&mut self, mut task: Task) -> Held {
        self.live_tasks += 1;
        self.live_bytes += task.input.resident_bytes();
        let lane = self.agents.lane(&task.agent, &task.tenant);
        let key = self.agents.retain_key(lane, task.fairness_key());
        let (agent, tenant) = self.agents.names(lane);
        task.share_names(agent, tenant);
        Held::new(task, lane, key)
    }

    fn remember_key(&mut self, task: &Task) {
        let Some(key) = task.key() else { return };
        let row = KeyRow {
            partition: task.id.partition(),
            hash: key.hash,
            fingerprint: key.fingerprint,
            task: task.id,
            expires_at: None,
        };
        if self.has_bug(Bug::KeyForgotten) {
            return;
        }
        self.keys_len += 1;
        self.put_key(row);
        let partition = self.partition_mut(task.id.partition()).expect("checked before");
        partition.keys.insert(row);
    }

    /// Starts or stops the clock after which a key is forgotten.
    pub(super) fn set_key_expiry(
        &mut self,
        partition: PartitionId,
        hash: u128,
        expires_at: Option<Millis>,
    ) {
        let state = self.partition_mut(partition).expect("its partition is held");
        let Some(row) = state.keys.set_expiry(hash, expires_at) else { return };
        self.put_key(row);
        if let Some(at) = expires_at {
            self.wall.insert(at.0, Timer::key(partition, hash));
        }
    }

    /// Has the open batch write a key's row. A batch names each key once: the last word on it.
    fn put_key(&mut self, row: KeyRow) {
        let batch = &mut self.open.batch;
        if !batch.keys_gone.is_empty() {
            batch.keys_gone.retain(|gone| *gone != (row.partition, row.hash));
        }
        batch.keys.push(row);
    }

    pub(super) fn next_ready_seq(&mut self, partition: PartitionId) -> u64 {
        let state = self.partition_mut(partition).expect("its partition is held");
        state.ready_seq += 1;
        state.ready_seq
    }
}

fn taken_id(taken: Taken) -> TaskId {
    match taken {
        Taken::New(id) | Taken::Known(id) => id,
    }
}
