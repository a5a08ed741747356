//! A node for tests, all on one thread: real routes, rings and links; a shard of a few lines that
//! knows just enough to answer, and a store in memory.

mod shard;
mod store;

use crate::agents::Registry;
use crate::body::InBody;
use crate::browser::Browsers;
use crate::core::{Core, CountProof, Phase, Verify};
use crate::gate::Gate;
use crate::net_core::{NetCore, NetCoreParts, ShardLink};
use crate::oidc::Provider;
use crate::orders::NetOrders;
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
use no_engine::shard::Pulse;
use no_engine::stats::{AgentStats, ShardStats};
use no_engine::task::{NewTask, State, Task, TaskError, TaskParts, Usage};
use no_engine::time::Millis;
use no_engine::trace::{Origin, Sampling};
use shard::Shard;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
pub(crate) use store::Store;
use store::StoreReader;

/// The longest that a test waits for something to happen, in virtual ms.
const UNTIL_MS_MAX: u64 = 60_000;

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
    Task::from(TaskParts {
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
        max_attempts: new.max_attempts.unwrap_or(3) as u16,
        crashes: 0,
        fence: Fence(0),
        ready_seq: 0,
        ready_at: AT,
        events: 1,
        events_bytes: 0,
        budget: new.budget,
        usage: Usage::default(),
        key: new.key,
        origin: Origin { caller: new.caller.as_deref().copied(), redrives: 0 },
        steps: 0,
        run: None,
    })
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
    /// What each shard shows of itself.
    pub(crate) pulses: Vec<Arc<Pulse>>,
    shards: RefCell<Vec<Shard>>,
    effects: RefCell<Vec<Receiver<Effect>>>,
    links: RefCell<Vec<ReaderLink>>,
    pending: Rc<Pending>,
}

/// Tokens are `tenant:role`, so that a test reads well; `bad` is refused.
fn verify(bearer: &str, _: u64) -> Result<Principal, Denied> {
    let (tenant, role) = bearer.split_once(':').ok_or(Denied::Malformed)?;
    let permissions = Role::of_name(role).ok_or(Denied::Claims)?.permissions();
    Ok(Principal { subject: "somebody".into(), tenant: tenant.into(), permissions })
}

/// How a node checks who asks.
pub(crate) struct Proofs {
    pub(crate) verify: Verify,
    pub(crate) provider: Option<Provider>,
    pub(crate) browsers: Option<Arc<Browsers>>,
    pub(crate) count_proof: CountProof,
    pub(crate) gate: Gate,
}

impl Default for Proofs {
    fn default() -> Proofs {
        Proofs {
            verify: Box::new(verify),
            provider: None,
            browsers: None,
            count_proof: Box::new(|_| {}),
            gate: Gate::default(),
        }
    }
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

    /// A node that checks who asks like this.
    pub(crate) fn proving(proofs: Proofs) -> World {
        World::made(1, RING_LEN, proofs)
    }

    pub(crate) fn of(shards: u16, ring_len: usize) -> World {
        World::made(shards, ring_len, Proofs::default())
    }

    pub(crate) fn with_gate(shards: u16, ring_len: usize, gate: Gate) -> World {
        World::made(shards, ring_len, Proofs { gate, ..Proofs::default() })
    }

    fn made(shards: u16, ring_len: usize, proofs: Proofs) -> World {
        let store = Rc::new(RefCell::new(Store::default()));
        let (mut fakes, mut links, mut effects) = (Vec::new(), Vec::new(), Vec::new());
        let mut pulses = Vec::new();
        for id in (0..shards).map(ShardId) {
            let (to_normal, normal) = ring(ring_len, silent_bell());
            let (to_reserved, reserved) = ring(RING_RESERVED_LEN, silent_bell());
            let (to_net, from_shard) = ring(RING_LEN, silent_bell());
            let (_, unused) = ring(1, silent_bell());
            let lanes = Lanes { normal: to_normal, reserved: to_reserved };
            let pulse = Arc::<Pulse>::default();
            pulses.push(Arc::clone(&pulse));
            links.push(ShardLink { lanes, effects: unused, pulse });
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
            verify: Some(proofs.verify),
            provider: proofs.provider,
            browsers: proofs.browsers,
            cluster: None,
            redis: None,
            count_proof: proofs.count_proof,
            gate: proofs.gate,
            sampling: Sampling::ALL,
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
            pulses,
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

    pub(crate) async fn drive<T>(&self, future: impl Future<Output = T>) -> T {
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
                    task.change(|task| task.output = Some(output.clone()));
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
        self.router.serve(parts, body, IpAddr::V4(Ipv4Addr::LOCALHOST)).await
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

/// Lets the world go on, a virtual ms at a time, until `is` holds; fails when it never does.
pub(crate) async fn until(is: impl Fn() -> bool) {
    for _ in 0..UNTIL_MS_MAX {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("what was waited for did not come");
}

/// An error for tests.
pub(crate) fn late() -> TaskError {
    TaskError { code: "timeout".into(), message: "late".into(), retryable: true }
}

/// Says that the node stops.
pub(crate) fn stop(world: &World) {
    world.orders.set_phase(Phase::Stopping);
}
