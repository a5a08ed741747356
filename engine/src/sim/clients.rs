//! Clients and workers: what they were told, and what they do with it. What a client was told may
//! never turn out to be wrong.

use super::store::Store;
use super::workload::new_task;
use crate::command::{Answer, AnswerWhen, Command, Grant, Holder, Refusal, Report, Resolution};
use crate::id::{NetId, PartitionId, ReplyTo, TaskId, Token};
use crate::payload::Payload;
use crate::rng::Rng;
use crate::task::{Key, State, Task, TaskError};
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a waiting request was about.
#[derive(Clone)]
enum Asked {
    Submit(Vec<(TaskId, Option<Key>)>),
    Cancel,
    Retry,
    Lease,
    Other,
}

/// All clients and workers.
#[derive(Default)]
pub(super) struct Clients {
    tokens: u64,
    asked: BTreeMap<u64, Asked>,
    /// Tasks whose submission was acknowledged.
    pub(super) acknowledged: BTreeSet<TaskId>,
    /// Tasks that were said to be cancelled.
    pub(super) cancelled: BTreeSet<TaskId>,
    /// Ends that were shown; a retry takes one back.
    pub(super) ended: BTreeMap<TaskId, State>,
    leases: Vec<Holder>,
    known: Vec<TaskId>,
    pub(super) refused: BTreeMap<&'static str, u64>,
}

impl Clients {
    fn token(&mut self, asked: Asked) -> ReplyTo {
        self.tokens += 1;
        self.asked.insert(self.tokens, asked);
        ReplyTo { net: NetId(0), token: Token(self.tokens) }
    }

    /// Something a client or a worker sends, with the partition that it goes to.
    pub(super) fn next(
        &mut self,
        rng: &mut Rng,
        now: Now,
        partitions: u16,
        is_calm: bool,
    ) -> (PartitionId, Command) {
        if is_calm {
            return if rng.chance(50) { self.work(rng, true) } else { self.lease(rng, partitions) };
        }
        match rng.up_to(99) {
            0..=39 => self.submit(rng, now, partitions),
            40..=59 => self.lease(rng, partitions),
            60..=79 => self.work(rng, false),
            _ => self.steer(rng, partitions),
        }
    }

    fn submit(&mut self, rng: &mut Rng, now: Now, partitions: u16) -> (PartitionId, Command) {
        let first = new_task(rng, now, partitions);
        let partition = first.id.partition();
        let mut tasks = vec![first];
        while rng.chance(30) {
            let other = new_task(rng, now, partitions);
            if other.id.partition() == partition {
                tasks.push(other);
            }
        }
        self.known.extend(tasks.iter().map(|new| new.id));
        let asked = tasks.iter().map(|new| (new.id, new.key)).collect();
        let reply = self.token(Asked::Submit(asked));
        let when = if tasks.len() == 1 && rng.chance(30) {
            AnswerWhen::Ended
        } else {
            AnswerWhen::Durable
        };
        (partition, Command::Submit { reply, tasks, when })
    }

    fn lease(&mut self, rng: &mut Rng, partitions: u16) -> (PartitionId, Command) {
        let reply = self.token(Asked::Lease);
        let partition = PartitionId(rng.up_to(u64::from(partitions) - 1) as u16);
        let tenant = Arc::from(if rng.chance(70) { "a" } else { "b" });
        let command = Command::Lease {
            reply,
            agents: vec![Arc::from("work")],
            tenant,
            max_tasks: 1 + rng.index(3),
            lease_ms: 100 + rng.up_to(200),
            waits: rng.chance(30),
        };
        (partition, command)
    }

    /// A worker reports on one of its leases, perhaps one that it lost long ago.
    fn work(&mut self, rng: &mut Rng, is_calm: bool) -> (PartitionId, Command) {
        if self.leases.is_empty() {
            return if is_calm { self.lease(rng, 1) } else { self.steer(rng, 1) };
        }
        let at = rng.index(self.leases.len());
        let holder = self.leases[at];
        let output = Payload::inline(format!("{{\"fence\":{}}}", holder.fence.0).as_bytes());
        let report = match if is_calm { 2 } else { rng.up_to(4) } {
            0 => Report::Heartbeat { lease_ms: None },
            1 => Report::Step {
                name: Arc::from(format!("s{}", rng.up_to(5)).as_str()),
                result: output,
            },
            2 | 3 => Report::Complete { output },
            _ => Report::Fail {
                error: TaskError {
                    code: "no".into(),
                    message: "no".into(),
                    retryable: rng.chance(70),
                },
            },
        };
        if rng.chance(50) || is_calm {
            self.leases.swap_remove(at);
        }
        let tenant = Arc::from(if rng.chance(5) { "c" } else { "a" });
        let reply = self.token(Asked::Other);
        let command = Command::Report { reply, tenant, reports: vec![(holder, report)] };
        (holder.task.partition(), command)
    }

    fn steer(&mut self, rng: &mut Rng, partitions: u16) -> (PartitionId, Command) {
        if self.known.is_empty() || rng.chance(5) {
            let reply = self.token(Asked::Retry);
            let agent = rng.chance(50).then(|| Arc::from("loop"));
            let partition = PartitionId(rng.up_to(u64::from(partitions) - 1) as u16);
            return (partition, Command::Redrive { reply, tenant: None, agent });
        }
        let recent = self.known.len().min(60);
        let task = self.known[self.known.len() - 1 - rng.index(recent)];
        let command = match rng.up_to(9) {
            0..=2 => Command::Cancel { reply: self.token(Asked::Cancel), task },
            3 => Command::Retry { reply: self.token(Asked::Retry), task },
            4..=7 => Command::Watch { reply: self.token(Asked::Other), task },
            8 => Command::Subscribe { reply: self.token(Asked::Other), task },
            _ => Command::Stats { reply: self.token(Asked::Other) },
        };
        (task.partition(), command)
    }

    /// Somebody says what became of a call of unknown outcome.
    pub(super) fn settle(&mut self, rng: &mut Rng, task: TaskId, is_calm: bool) -> Command {
        let resolution = match if is_calm { 2 } else { rng.up_to(2) } {
            0 => Resolution::Done(Payload::inline(b"{}")),
            1 => Resolution::Retry,
            _ => Resolution::Fail,
        };
        Command::Resolve { reply: self.token(Asked::Other), task, resolution }
    }

    /// An answer came: remember what it promises, and hold it against what was promised before.
    pub(super) fn answered(
        &mut self,
        to: ReplyTo,
        answer: Answer,
        store: &Store,
    ) -> Result<(), String> {
        let asked = self.asked.get(&to.token.0).cloned().unwrap_or(Asked::Other);
        match (asked, answer) {
            (Asked::Submit(asked), Answer::Task(task)) => {
                self.taken(asked[0], &task, store)?;
                self.shown(&task)
            }
            (Asked::Submit(asked), Answer::Many(results)) => {
                asked.into_iter().zip(results).try_for_each(|(asked, result)| match result {
                    Ok(task) => self.taken(asked, &task, store),
                    Err(refusal) => self.not_taken(&refusal),
                })
            }
            (Asked::Cancel, Answer::Task(task)) => {
                self.cancelled.insert(task.id);
                Ok(())
            }
            (Asked::Retry, Answer::Task(task)) => {
                self.ended.remove(&task.id);
                Ok(())
            }
            (Asked::Retry, Answer::Count(_)) => {
                self.ended.retain(|_, state| *state != State::Failed);
                Ok(())
            }
            (_, Answer::Leases(grants)) => {
                self.leases.extend(grants.iter().map(|grant: &Grant| grant.holder));
                Ok(())
            }
            (_, Answer::Task(task)) => self.shown(&task),
            (_, Answer::Refused(refusal)) => self.not_taken(&refusal),
            _ => Ok(()),
        }
    }

    fn not_taken(&mut self, refusal: &Refusal) -> Result<(), String> {
        *self.refused.entry(refusal.name()).or_default() += 1;
        Ok(())
    }

    fn taken(
        &mut self,
        asked: (TaskId, Option<Key>),
        task: &Task,
        store: &Store,
    ) -> Result<(), String> {
        self.acknowledged.insert(task.id);
        let Some(key) = asked.1 else {
            return if asked.0 == task.id { Ok(()) } else { Err("another task's answer".into()) };
        };
        if !store.made_by_key.contains(&(key.hash, task.id)) {
            return Err(format!("{} was answered for a key that did not make it", task.id));
        }
        Ok(())
    }

    fn shown(&mut self, task: &Task) -> Result<(), String> {
        if task.state.is_ended() {
            self.ended.insert(task.id, task.state);
        }
        Ok(())
    }

    /// Requests of a process that died get no answer.
    pub(super) fn forget(&mut self) {
        self.asked.clear();
    }
}
