//! A shard of a few lines: it answers, and stores at once.

use super::*;

/// One fake shard.
pub(super) struct Shard {
    pub(super) id: ShardId,
    pub(super) normal: Receiver<Command>,
    pub(super) reserved: Receiver<Command>,
    pub(super) effects: Sender<Effect>,
    pub(super) watchers: Vec<(ReplyTo, TaskId)>,
    pub(super) subscribers: Vec<(ReplyTo, TaskId)>,
    pub(super) lessees: Vec<ReplyTo>,
}

impl Shard {
    fn reply(&mut self, to: ReplyTo, answer: Answer) {
        self.effects.try_send(Effect::Reply { to, answer }).expect("room");
    }

    pub(super) fn publish(&mut self, record: &Record, store: &Store) {
        let is_last = record.event.is_end();
        for (to, task) in &self.subscribers {
            if *task == record.task {
                let (to, record) = (*to, record.clone());
                self.effects.try_send(Effect::Publish { to, record, is_last }).expect("room");
            }
        }
        if is_last {
            self.subscribers.retain(|(_, task)| *task != record.task);
            let of_task = |(_, task): &mut (ReplyTo, TaskId)| *task == record.task;
            let ended: Vec<_> = self.watchers.extract_if(.., of_task).collect();
            for (to, task) in ended {
                self.reply(to, Answer::Task(Box::new(store.tasks[&task].clone())));
            }
        }
    }

    fn submit(&mut self, new: &NewTask, store: &mut Store) -> Result<Box<Task>, Refusal> {
        if let Some(key) = new.key {
            let same = |task: &&Task| task.key().is_some_and(|known| known.hash == key.hash);
            if let Some(first) = store.tasks.values().find(same) {
                let is_same = first.key() == Some(key);
                return if is_same { Ok(first.clone().into()) } else { Err(Refusal::KeyReused) };
            }
        }
        let mut task = task_of(new);
        if let Payload::Blob(blob) = &new.input {
            store.blobs.insert(blob.hash, blob.bytes.clone().expect("new ones come with bytes"));
            task.input = new.input.stored();
        }
        if *new.agent == *"echo" {
            task.state = State::Succeeded;
            task.attempt = Attempt(1);
            task.change(|task| {
                task.output = Some(task.input.clone());
                (task.started_at, task.ended_at) = (Some(AT), Some(AT));
            });
        }
        store.tasks.insert(task.id, task.clone());
        if *new.agent == *"work" {
            for to in std::mem::take(&mut self.lessees) {
                self.effects.try_send(Effect::Offer { to }).expect("room");
            }
        }
        Ok(task.into())
    }

    pub(super) fn decide(&mut self, command: Command, store: &mut Store) {
        match command {
            Command::Submit { reply, tasks, when } => {
                let mut rows: Vec<_> = tasks.iter().map(|new| self.submit(new, store)).collect();
                if 1 < rows.len() {
                    return self.reply(reply, Answer::Many(rows));
                }
                match rows.remove(0) {
                    Ok(task) if when == AnswerWhen::Ended && !task.state.is_ended() => {
                        self.watchers.push((reply, task.id));
                    }
                    Ok(task) => self.reply(reply, Answer::Task(task)),
                    Err(refusal) => self.reply(reply, Answer::Refused(refusal)),
                }
            }
            Command::Lease { reply, max_tasks, waits, tenant, .. } => {
                let grants = self.lease(&tenant, max_tasks, store);
                if grants.is_empty() && waits {
                    self.lessees.push(reply);
                }
                self.reply(reply, Answer::Leases(grants));
            }
            Command::Unlease { reply } => self.lessees.retain(|to| *to != reply),
            Command::Report { reply, reports, .. } => {
                let rows = reports.iter().map(|(holder, report)| reported(holder, report, store));
                let rows = rows.collect();
                self.reply(reply, Answer::Reports(rows));
            }
            Command::Stats { reply } => self.stats(reply, store),
            Command::KeepAgent { reply, .. } | Command::SetAgent { reply, .. } => {
                self.reply(reply, Answer::Done);
            }
            Command::Redrive { reply, .. } => self.reply(reply, Answer::Count(2)),
            Command::Outcome { .. } | Command::SetIntake(_) | Command::SetPool { .. } => {}
            other => self.decide_one(other, store),
        }
    }

    /// What concerns one task that is already there.
    fn decide_one(&mut self, command: Command, store: &mut Store) {
        let is_live = |store: &Store, id: TaskId| {
            store.tasks.get(&id).is_some_and(|task| !task.state.is_ended())
        };
        let answer = |store: &Store, id: TaskId| Answer::Task(store.tasks[&id].clone().into());
        match command {
            Command::Watch { reply, task } if is_live(store, task) => {
                self.watchers.push((reply, task));
            }
            Command::Unwatch { reply, task } => {
                let before = self.watchers.len();
                self.watchers.retain(|(to, _)| *to != reply);
                if self.watchers.len() < before {
                    self.reply(reply, answer(store, task));
                }
            }
            Command::Subscribe { reply, task } if is_live(store, task) => {
                self.subscribers.push((reply, task));
                let n = store.records.get(&task).map_or(0, Vec::len) as u32;
                self.reply(reply, Answer::Subscribed { n });
            }
            Command::Unsubscribe { reply, .. } => self.subscribers.retain(|(to, _)| *to != reply),
            Command::Cancel { reply, task } if is_live(store, task) => {
                store.tasks.get_mut(&task).expect("live").state = State::Cancelled;
                self.reply(reply, answer(store, task));
            }
            Command::Retry { reply, task } => {
                let state = store.tasks[&task].state;
                let refused = Answer::Refused(Refusal::WrongState { task, state });
                self.reply(reply, refused);
            }
            Command::Resolve { reply, task, resolution } if is_live(store, task) => {
                let found = store.tasks.get_mut(&task).expect("live");
                if let Resolution::Done(result) = resolution {
                    found.state = State::Succeeded;
                    found.change(|task| task.output = Some(result));
                }
                self.reply(reply, answer(store, task));
            }
            other => {
                if let Some(to) = other.reply() {
                    let task = TaskId::new(0, 0, no_engine::id::PartitionId(0));
                    self.reply(to, Answer::Refused(Refusal::NotLive(task)));
                }
            }
        }
    }

    fn lease(&mut self, tenant: &str, max_tasks: usize, store: &mut Store) -> Vec<Grant> {
        let partitions = no_engine::control::partitions_of(self.id, 64, 2);
        let ready = store.tasks.values_mut().filter(|task| {
            *task.agent == *"work"
                && task.state == State::Queued
                && *task.tenant == *tenant
                && partitions.contains(&task.id.partition())
        });
        let grant = |task: &mut Task| {
            (task.state, task.attempt) = (State::Running, Attempt(1));
            let holder = Holder { task: task.id, attempt: task.attempt, fence: task.fence };
            let (agent, input) = (Arc::clone(&task.agent), task.input.clone());
            let (steps, expires_at, trace) = (task.steps, AT + 30_000, task.trace());
            Grant { holder, agent, input, steps, expires_at, trace }
        };
        ready.take(max_tasks).map(grant).collect()
    }

    fn stats(&mut self, reply: ReplyTo, store: &Store) {
        let mut stats = ShardStats::new(self.id);
        for task in store.tasks.values().filter(|_| self.id.0 == 0) {
            let agent: &mut AgentStats = stats.agents.entry(Arc::clone(&task.agent)).or_default();
            agent.live[task.state as usize] += 1;
        }
        self.reply(reply, Answer::Stats(Box::new(stats)));
    }
}

fn reported(holder: &Holder, report: &Report, store: &mut Store) -> Result<Reported, Refusal> {
    let task = store.tasks.get_mut(&holder.task).ok_or(Refusal::LeaseLost)?;
    if task.state != State::Running || task.fence != holder.fence {
        return Err(Refusal::LeaseLost);
    }
    match report {
        Report::Heartbeat { lease_ms } => {
            let expires_at = AT + lease_ms.unwrap_or(30_000);
            return Ok(Reported::Extended { cancelled: false, expires_at });
        }
        Report::Complete { output } => {
            task.state = State::Succeeded;
            task.change(|task| task.output = Some(output.clone()));
        }
        Report::Fail { error } => {
            (task.state, task.error) = (State::Failed, Some(Box::new(error.clone())));
        }
        Report::Step { .. } => task.steps += 1,
    }
    Ok(Reported::Taken)
}
