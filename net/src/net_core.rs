//! One net core, put together: what ops hands in, what it gets back, and the run to the end.

use crate::admit::Admission;
use crate::agents::Registry;
use crate::api;
use crate::bodies::Bodies;
use crate::browser::Browsers;
use crate::cluster::{self, Joined};
use crate::core::{Core, CountProof, Verify};
use crate::cost::{Costs, Layer};
use crate::deltas::Deltas;
use crate::gate::Gate;
use crate::oidc::Provider;
use crate::orders::{NetOrdered, follow_intake, follow_orders, follow_slots};
use crate::pending::{PENDING_MAX, Pending};
use crate::pump::{Outside, Pump};
use crate::reads::Reads;
use crate::redis::Redis;
use crate::route::Router;
use crate::server::{Door, ServerLimits, serve};
use crate::shards::{Lanes, Shards};
use crate::stats::HttpStats;
use no_engine::doorbell::Sleeper;
use no_engine::effect::Effect;
use no_engine::id::NetId;
use no_engine::ring::Receiver;
use no_engine::rng::Rng;
use no_engine::shard::Pulse;
use no_engine::trace::Sampling;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

/// One shard's rings, as a net core holds them.
pub struct ShardLink {
    /// To the shard.
    pub lanes: Lanes,
    /// From the shard.
    pub effects: Receiver<Effect>,
    /// Its signs of life.
    pub pulse: Arc<Pulse>,
}

/// What a net core is made of. Everything but the registry, the figures and the orders is its own.
pub struct NetCoreParts {
    /// Its number.
    pub net: NetId,
    /// The links to all shards, in the order of their numbers.
    pub shards: Vec<ShardLink>,
    /// Partitions of the store.
    pub partitions: u16,
    /// The link to the reader thread.
    pub reads: Reads,
    /// This thread's side of its doorbell: the bells of the rings above wake it.
    pub sleeper: Sleeper,
    /// The eventfd that the doorbell's waker writes to; non-blocking.
    pub bell: OwnedFd,
    /// All agents.
    pub agents: Arc<Registry>,
    /// Where requests are counted; its own, shared with who shows them.
    pub stats: Arc<HttpStats>,
    /// What ops tells.
    pub ordered: NetOrdered,
    /// Checks tokens; `None` when access control is off.
    pub verify: Option<Verify>,
    /// The issuer of tokens that are not our own.
    pub provider: Option<Provider>,
    /// Browsers that log in or have.
    pub browsers: Option<Arc<Browsers>>,
    /// The other nodes that share the store, if it is shared.
    pub cluster: Option<Joined>,
    /// What nodes share; net core 0 keeps it for all.
    pub redis: Option<Arc<Redis>>,
    /// Counts what proofs of identity come to.
    pub count_proof: CountProof,
    /// Rate limits and the audit log.
    pub gate: Gate,
    /// Which traces are kept, where their caller does not say.
    pub sampling: Sampling,
    /// For ids: different on each net core and at each start.
    pub seed: u64,
}

/// A net core before it runs: the place to mount further routes and to make what calls out.
pub struct NetCore {
    router: Router,
    effects: Vec<Receiver<Effect>>,
    sleeper: Sleeper,
    bell: OwnedFd,
    ordered: NetOrdered,
    net: NetId,
    redis: Option<Arc<Redis>>,
}

impl NetCore {
    /// Puts the parts together and mounts the API. To be called on the net core's thread.
    #[must_use]
    pub fn new(parts: NetCoreParts) -> NetCore {
        let mut lanes = Vec::with_capacity(parts.shards.len());
        let mut effects = Vec::with_capacity(parts.shards.len());
        for link in parts.shards {
            lanes.push((link.lanes, link.pulse));
            effects.push(link.effects);
        }
        let intake = *parts.ordered.intake.borrow();
        let core = Rc::new(Core {
            shards: Rc::new(Shards::new(lanes, parts.partitions)),
            pending: Pending::new(parts.net, PENDING_MAX),
            reads: parts.reads,
            agents: parts.agents,
            deltas: Rc::default(),
            cluster: parts.cluster,
            bodies: Bodies::default(),
            admission: Rc::new(Admission::new(effects.len(), Arc::clone(&parts.stats))),
            costs: Rc::new(Costs::new(Arc::clone(&parts.stats))),
            stats: parts.stats,
            intake: Cell::new(intake),
            phase: parts.ordered.phase.clone(),
            verify: parts.verify,
            provider: parts.provider.map(Rc::new),
            browsers: parts.browsers,
            count_proof: parts.count_proof,
            gate: parts.gate,
            sampling: parts.sampling,
            rng: RefCell::new(Rng::new(parts.seed)),
        });
        let mut router = Router::new(core);
        api::mount(&mut router);
        cluster::mount(&mut router);
        let NetCoreParts { sleeper, bell, ordered, net, redis, .. } = parts;
        NetCore { router, effects, sleeper, bell, ordered, net, redis }
    }

    /// The table alone, for tests that play the shards themselves.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn into_router(self) -> (Router, Rc<Core>) {
        let core = self.core();
        (self.router, core)
    }

    /// The table of routes, for those of ops.
    pub fn router(&mut self) -> &mut Router {
        &mut self.router
    }

    /// What handlers work with.
    #[must_use]
    pub fn core(&self) -> Rc<Core> {
        Rc::clone(self.router.core())
    }

    /// The way back for outcomes, for who makes the calls.
    #[must_use]
    pub fn shards(&self) -> Rc<Shards> {
        Rc::clone(&self.router.core().shards)
    }

    /// Where the text of running model calls goes.
    #[must_use]
    pub fn deltas(&self) -> Rc<Deltas> {
        Rc::clone(&self.router.core().deltas)
    }

    /// Serves until the orders say [`Phase::Stopping`] and what was under way is done.
    ///
    /// To be awaited in a `LocalSet` on a current-thread runtime with time and I/O. The pump stops
    /// with it: by then nobody waits for a shard any more.
    ///
    /// # Errors
    /// When the reactor does not take the listener or the eventfd.
    pub async fn run(
        self,
        door: impl Into<Door>,
        limits: ServerLimits,
        outside: Box<dyn Outside>,
    ) -> io::Result<()> {
        let core = Rc::clone(self.router.core());
        let pump = Pump {
            effects: self.effects,
            pending: Rc::clone(&core.pending),
            shards: Rc::clone(&core.shards),
            reads: core.reads.clone(),
            outside,
            costs: Rc::clone(&core.costs),
            sleeper: self.sleeper,
            bell: self.bell,
        };
        let phase = self.ordered.phase.clone();
        let ringing = core.costs.always(Layer::Ring, core.shards.ring_always());
        tokio::select! {
            served = serve(door, Rc::new(self.router), limits, phase) => served,
            pumped = pump.run() => pumped,
            () = ringing => Ok(()),
            () = keep_issuer_fresh(&core, self.net) => Ok(()),
            () = keep_shared(&core, self.redis, self.net) => Ok(()),
            () = follow_intake(&core, self.ordered.intake.clone(), self.net) => Ok(()),
            () = follow_slots(&core, self.ordered.slots.clone(), self.net) => Ok(()),
            () = follow_orders(&core, &self.ordered, self.net) => Ok(()),
        }
    }
}

/// Has the issuer's keys fetched when they are due: by net core 0, for all.
async fn keep_issuer_fresh(core: &Core, net: NetId) {
    match &core.provider {
        Some(provider) if net == NetId(0) => provider.keep_fresh().await,
        _ => std::future::pending().await,
    }
}

/// Keeps the connection to Redis and what is shared over it: by net core 0, for all.
async fn keep_shared(core: &Core, redis: Option<Arc<Redis>>, net: NetId) {
    let Some(redis) = redis.filter(|_| net == NetId(0)) else {
        return std::future::pending().await;
    };
    let rng = Rng::new(core.rng.borrow_mut().next_u64());
    let sessions = async {
        match &core.browsers {
            Some(browsers) => browsers.keep().await,
            None => std::future::pending().await,
        }
    };
    tokio::join!(redis.keep(rng), core.gate.limits.share(&redis), sessions);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Phase;
    use crate::orders::NetOrders;
    use crate::pump::tests::{Eventfd, Nobody};
    use crate::testing::{registry, silent_bell, task_of};
    use no_engine::command::Answer;
    use no_engine::command::Command;
    use no_engine::doorbell::doorbell;
    use no_engine::limits::RING_LEN;
    use no_engine::ring::{Sender, ring};
    use no_engine::task::State;
    use rustix::event::{EventfdFlags, eventfd};
    use std::net::TcpListener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Ends every task at once, until the net core is gone.
    fn shard(mut commands: Receiver<Command>, mut effects: Sender<Effect>) {
        while !commands.is_abandoned() {
            let Some(Command::Submit { reply, tasks, .. }) = commands.try_recv() else {
                std::thread::yield_now();
                continue;
            };
            let mut task = task_of(&tasks[0]);
            task.state = State::Succeeded;
            let answer = Answer::Task(Box::new(task));
            assert!(effects.try_send(Effect::Reply { to: reply, answer }).is_ok());
        }
    }

    /// The whole net core over a real socket, a real eventfd and a shard on a thread.
    #[tokio::test]
    async fn a_submission_goes_through_and_the_node_stops() {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("eventfd");
        let waker = Eventfd(bell.try_clone().expect("a clone"));
        let (to_net, sleeper) = doorbell(Box::new(waker));
        let (normal, commands) = ring(RING_LEN, silent_bell());
        let (reserved, _reserved) = ring(RING_LEN, silent_bell());
        let (to_us, effects) = ring(RING_LEN, to_net.clone());
        let (reads, _reader) = crate::reads::link(silent_bell(), to_net);
        let shard = std::thread::spawn(move || shard(commands, to_us));
        let (orders, ordered) = NetOrders::new();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let core = NetCore::new(NetCoreParts {
            net: NetId(0),
            shards: vec![ShardLink {
                lanes: Lanes { normal, reserved },
                effects,
                pulse: Arc::default(),
            }],
            partitions: 64,
            reads,
            sleeper,
            bell,
            agents: registry(),
            stats: Arc::default(),
            ordered,
            verify: None,
            provider: None,
            browsers: None,
            cluster: None,
            redis: None,
            count_proof: Box::new(|_| {}),
            gate: Gate::default(),
            sampling: Sampling::ALL,
            seed: 1,
        });
        let run = core.run(listener, ServerLimits::default(), Box::new(Nobody));
        let client = async {
            let mut socket = tokio::net::TcpStream::connect(addr).await.expect("connects");
            let body = r#"{"agent":"echo","input":1}"#;
            let len = body.len();
            let head =
                format!("POST /v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-length: {len}\r\n\r\n");
            let mut text = String::new();
            for _ in 0..100 {
                socket.write_all(format!("{head}{body}").as_bytes()).await.expect("writes");
                let mut bytes = vec![0; 4_096];
                let len = socket.read(&mut bytes).await.expect("reads");
                text = String::from_utf8_lossy(&bytes[..len]).into_owned();
                assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            }
            orders.set_phase(Phase::Stopping);
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.expect("closed");
            text
        };
        let local = tokio::task::LocalSet::new();
        let (ran, text) = local.run_until(async { tokio::join!(run, client) }).await;
        ran.expect("ran to its end");
        assert!(text.contains(r#""state":"succeeded""#));
        shard.join().expect("no panic");
    }
}
