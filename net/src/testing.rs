//! A node for tests, all on one thread: real routes, rings and links; a shard of a few lines that
//! knows just enough to answer, and a store in memory.

use crate::agents::Registry;
use crate::body::InBody;
use crate::core::{Core, Phase};
use crate::net_core::{NetCore, NetCoreParts, NetOrders, ShardLink};
use crate::pending::Pending;
use crate::reads::{self, ReaderLink};
use crate::route::{Response, Router};
use crate::shards::Lanes;
use http_body_util::BodyExt;
use hyper::Request;
use no_auth::{Denied, Principal, Role};
use no_engine::agent::definition::{Agent, Kind};
use no_engine::command::{
    Answer, AnswerWhen, Command, Grant, Holder, Refusal, Report, Reported, Resolution,
};
use no_engine::doorbell::{Bell, doorbell};
use no_engine::effect::Effect;
use no_engine::event::{AgentRow, Event, Record};
use no_engine::id::{Attempt, Fence, NetId, ReplyTo, ShardId, TaskId};
use no_engine::limits::{RING_LEN, RING_RESERVED_LEN};
use no_engine::payload::{Hash, Payload};
use no_engine::port::{Filter, Page, Reader, Wake};
use no_engine::ring::{Receiver, Sender, ring};
use no_engine::stats::{AgentStats, ShardStats};
use no_engine::task::{NewTask, State, Task, TaskError, Usage};
use no_engine::time::Millis;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// When everything in these tests happens.
pub(crate) const AT: Millis = Millis(1_764_038_329_007);

pub(crate) struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

pub(crate) fn silent_bell() -> Bell {
    doorbell(Box::new(Silent)).0
}

/// A task with nothing but its submission.
pub(crate) fn task_of(new: &NewTask) -> Task {
    Task {
        id: new.id,
        agent: Arc::clone(&new.agent),
        tenant: Arc::clone(&new.tenant),
        state: State::Queued,
        input: new.input.clone(),
        output: None,
        error: None,
        waiting: None,
        priority: new.priority,
        fairness_key: new.fairness_key.clone(),
        tags: new.tags.clone(),
        created_at: AT,
        run_at: new.run_at.unwrap_or(AT),
        started_at: None,
        ended_at: None,
        deadline: new.deadline,
        timeout_ms: new.timeout_ms.unwrap_or(300_000),
        attempt: Attempt(0),
        failures: 0,
        max_attempts: new.max_attempts.unwrap_or(3),
        crashes: 0,
        fence: Fence(0),
        ready_seq: 0,
        ready_at: AT,
        events: 1,
        events_bytes: 0,
        budget: new.budget,
        usage: Usage::default(),
        key: new.key,
        steps: 0,
        run: None,
        lease: None,
    }
}

/// What the fake shards have committed.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) records: BTreeMap<TaskId, Vec<Record>>,
    pub(crate) blobs: BTreeMap<Hash, Arc<[u8]>>,
}

impl Store {
    /// Adds an event to a task's history.
    pub(crate) fn add(&mut self, task: TaskId, event: Event) -> Record {
        let records = self.records.entry(task).or_default();
        let n = records.len() as u32 + 1;
        let record = Record { task, n, at: AT, event: event.into() };
        records.push(record.clone());
        record
    }
}

struct StoreReader(Rc<RefCell<Store>>);

impl Reader for StoreReader {
    fn task(&mut self, id: TaskId) -> Result<Option<Task>, String> {
        Ok(self.0.borrow().tasks.get(&id).cloned())
    }

    fn events(&mut self, id: TaskId, after: u32, limit: usize) -> Result<Vec<Record>, String> {
        let store = self.0.borrow();
        let records = store.records.get(&id).map(Vec::as_slice).unwrap_or_default();
        Ok(records.iter().filter(|record| after < record.n).take(limit).cloned().collect())
    }

    fn list(
        &mut self,
        filter: &Filter,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Page, String> {
        let store = self.0.borrow();
        let fits = |task: &&Task| {
            before.is_none_or(|before| task.id < before)
                && filter.tenant.as_ref().is_none_or(|tenant| *tenant == task.tenant)
                && filter.agent.as_ref().is_none_or(|agent| *agent == task.agent)
                && filter.state.is_none_or(|state| state == task.state)
        };
        let mut tasks: Vec<Task> =
            store.tasks.values().rev().filter(fits).take(limit + 1).cloned().collect();
        let more = limit < tasks.len();
        tasks.truncate(limit);
        let next = if more { tasks.last().map(|task| task.id) } else { None };
        Ok(Page { tasks, next })
    }

    fn blob(&mut self, _: TaskId, hash: Hash) -> Result<Option<Arc<[u8]>>, String> {
        Ok(self.0.borrow().blobs.get(&hash).cloned())
    }
}

/// One fake shard.
struct Shard {
    id: ShardId,
    normal: Receiver<Command>,
    reserved: Receiver<Command>,
    effects: Sender<Effect>,
    watchers: Vec<(ReplyTo, TaskId)>,
    subscribers: Vec<(ReplyTo, TaskId)>,
    lessees: Vec<ReplyTo>,
}

/// The node.
pub(crate) struct World {
    pub(crate) router: Rc<Router>,
    pub(crate) core: Rc<Core>,
    pub(crate) orders: NetOrders,
    pub(crate) store: Rc<RefCell<Store>>,
    /// The commands that came, by their variant's name.
    pub(crate) seen: RefCell<Vec<String>>,
    /// Whether the shards answer at all.
    pub(crate) is_stuck: Cell<bool>,
    shards: RefCell<Vec<Shard>>,
    effects: RefCell<Vec<Receiver<Effect>>>,
    links: RefCell<Vec<ReaderLink>>,
    pending: Rc<Pending>,
}

/// Tokens are `tenant:role`, so that a test reads well; `bad` is refused.
fn verify(bearer: &str, _: u64) -> Result<Principal, Denied> {
    let (tenant, role) = bearer.split_once(':').ok_or(Denied::Malformed)?;
    let roles = vec![Role::of_name(role).ok_or(Denied::Claims)?];
    Ok(Principal { subject: "somebody".into(), tenant: tenant.into(), roles })
}

pub(crate) fn registry() -> Arc<Registry> {
    let row = |name: &str, kind| {
        let agent = Arc::new(Agent::of_kind(kind));
        AgentRow { name: name.into(), agent, paused: false }
    };
    let models = ["small".into()].into();
    Arc::new(Registry::new(models, vec![row("work", Kind::Worker)]))
}

impl World {
    pub(crate) fn new(shards: u16) -> World {
        World::of(shards, RING_LEN)
    }

    pub(crate) fn of(shards: u16, ring_len: usize) -> World {
        let store = Rc::new(RefCell::new(Store::default()));
        let (mut fakes, mut links, mut effects) = (Vec::new(), Vec::new(), Vec::new());
        for id in (0..shards).map(ShardId) {
            let (to_normal, normal) = ring(ring_len, silent_bell());
            let (to_reserved, reserved) = ring(RING_RESERVED_LEN, silent_bell());
            let (to_net, from_shard) = ring(RING_LEN, silent_bell());
            let (_, unused) = ring(1, silent_bell());
            let lanes = Lanes { normal: to_normal, reserved: to_reserved };
            links.push(ShardLink { lanes, effects: unused });
            effects.push(from_shard);
            let (watchers, subscribers, lessees) = Default::default();
            let effects = to_net;
            fakes.push(Shard { id, normal, reserved, effects, watchers, subscribers, lessees });
        }
        let (reads, reader_link) = reads::link(silent_bell(), silent_bell());
        let (orders, ordered) = NetOrders::new();
        let bell = std::fs::File::open("/dev/null").expect("a file").into();
        let core = NetCore::new(NetCoreParts {
            net: NetId(0),
            shards: links,
            partitions: 64,
            reads,
            sleeper: doorbell(Box::new(Silent)).1,
            bell,
            agents: registry(),
            stats: Arc::default(),
            ordered,
            verify: Some(Box::new(verify)),
            seed: 7,
        });
        let (router, core) = core.into_router();
        let pending = Rc::clone(&core.pending);
        World {
            router: Rc::new(router),
            core,
            orders,
            store,
            seen: RefCell::default(),
            is_stuck: Cell::new(false),
            shards: RefCell::new(fakes),
            effects: RefCell::new(effects),
            links: RefCell::new(vec![reader_link]),
            pending,
        }
    }

    /// Runs a test's future with the node around it.
    pub(crate) async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::task::LocalSet::new().run_until(self.drive(future)).await
    }

    async fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                biased;
                out = &mut future => return out,
                () = self.turn() => {}
            }
        }
    }

    /// One pass over everything; a virtual ms passes when nothing happened.
    pub(crate) async fn turn(&self) {
        let mut busy = !self.is_stuck.get() && self.shards_turn();
        for ring in self.effects.borrow_mut().iter_mut() {
            while let Some(effect) = ring.try_recv() {
                busy = true;
                match effect {
                    Effect::Reply { to, answer } => self.pending.reply(to, answer),
                    Effect::Publish { to, record, is_last } => {
                        self.pending.publish(to, record, is_last);
                    }
                    Effect::Offer { to } => self.pending.offer(to),
                    Effect::Call(_) | Effect::Abort { .. } => {}
                }
            }
        }
        let mut reader = StoreReader(Rc::clone(&self.store));
        busy |= 0 < reads::serve(&mut reader, &mut self.links.borrow_mut());
        self.core.reads.pump();
        self.core.shards.flush();
        if busy {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn shards_turn(&self) -> bool {
        let mut busy = false;
        for shard in self.shards.borrow_mut().iter_mut() {
            while let Some(command) = shard.reserved.try_recv().or_else(|| shard.normal.try_recv())
            {
                busy = true;
                let name = format!("{command:?}");
                let name = name.split([' ', '(']).next().unwrap_or_default().to_owned();
                self.seen.borrow_mut().push(name);
                shard.decide(command, &mut self.store.borrow_mut());
            }
        }
        busy
    }

    /// Something happens to a task: it is stored, and published to who watches.
    pub(crate) fn happens(&self, id: TaskId, event: Event) {
        let mut store = self.store.borrow_mut();
        if let Some(task) = store.tasks.get_mut(&id) {
            match &event {
                Event::Succeeded { output } => {
                    task.state = State::Succeeded;
                    task.output = Some(output.clone());
                }
                Event::DeadLettered { error } => {
                    task.state = State::Failed;
                    task.error = Some(error.clone());
                }
                _ => {}
            }
        }
        let record = store.add(id, event);
        for shard in self.shards.borrow_mut().iter_mut() {
            shard.publish(&record, &store);
        }
    }

    /// How often a command came.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.seen.borrow().iter().filter(|seen| *seen == name).count()
    }

    /// Calls a route with a token of tenant `t`, role admin.
    pub(crate) async fn call(&self, method: &str, uri: &str, body: &str) -> Answered {
        self.call_with(method, uri, body, &[("authorization", "Bearer t:admin")]).await
    }

    pub(crate) async fn call_with(
        &self,
        method: &str,
        uri: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answered {
        Answered::of(self.response(method, uri, body, headers).await).await
    }

    pub(crate) async fn response(
        &self,
        method: &str,
        uri: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let bytes = (!body.is_empty()).then(|| body.to_owned().into());
        let (parts, body) = request.body(InBody::Given(bytes)).expect("a request").into_parts();
        self.router.serve(parts, body).await
    }
}

/// A whole response.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) text: String,
}

impl Answered {
    async fn of(response: Response) -> Answered {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("infallible").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Answered { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// Status, code and pointer of a problem.
    pub(crate) fn problem(&self) -> String {
        let json = self.json();
        assert_eq!(json["status"], self.status, "{}", self.text);
        let part = |name: &str| json[name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {}", self.status, part("code"), part("pointer"))
    }
}

impl Shard {
    fn reply(&mut self, to: ReplyTo, answer: Answer) {
        self.effects.try_send(Effect::Reply { to, answer }).expect("room");
    }

    fn publish(&mut self, record: &Record, store: &Store) {
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
            let same = |task: &&Task| task.key.is_some_and(|known| known.hash == key.hash);
            if let Some(first) = store.tasks.values().find(same) {
                let is_same = first.key == Some(key);
                return if is_same { Ok(first.clone().into()) } else { Err(Refusal::KeyReused) };
            }
        }
        let mut task = task_of(new);
        if let Payload::Blob { hash, bytes: Some(bytes), .. } = &new.input {
            store.blobs.insert(*hash, Arc::clone(bytes));
            task.input = new.input.stored();
        }
        if *new.agent == *"echo" {
            task.state = State::Succeeded;
            task.attempt = Attempt(1);
            task.output = Some(task.input.clone());
            (task.started_at, task.ended_at) = (Some(AT), Some(AT));
        }
        store.tasks.insert(task.id, task.clone());
        if *new.agent == *"work" {
            for to in std::mem::take(&mut self.lessees) {
                self.effects.try_send(Effect::Offer { to }).expect("room");
            }
        }
        Ok(task.into())
    }

    fn decide(&mut self, command: Command, store: &mut Store) {
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
            Command::Outcome { .. } | Command::SetIntake(_) => {}
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
                    (found.state, found.output) = (State::Succeeded, Some(result));
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
                && partitions.contains(&task.id.partition().0)
        });
        let grant = |task: &mut Task| {
            (task.state, task.attempt) = (State::Running, Attempt(1));
            let holder = Holder { task: task.id, attempt: task.attempt, fence: task.fence };
            let (agent, input) = (Arc::clone(&task.agent), task.input.clone());
            Grant { holder, agent, input, steps: task.steps, expires_at: AT + 30_000 }
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
            (task.state, task.output) = (State::Succeeded, Some(output.clone()));
        }
        Report::Fail { error } => {
            (task.state, task.error) = (State::Failed, Some(Box::new(error.clone())));
        }
        Report::Step { .. } => task.steps += 1,
    }
    Ok(Reported::Taken)
}

/// An error for tests.
pub(crate) fn late() -> TaskError {
    TaskError { code: "timeout".into(), message: "late".into(), retryable: true }
}

/// Says that the node stops.
pub(crate) fn stop(world: &World) {
    world.orders.set_phase(Phase::Stopping);
}
