//! What ops tells the net cores while they run, and what it asks of the shards through the first of
//! them: only net cores have rings to the shards.

use crate::agents;
use crate::cluster;
use crate::core::{Core, Phase, PhaseReceiver};
use no_engine::agent::definition::Agent;
use no_engine::command::{Answer, Command, Intake};
use no_engine::id::{NetId, PartitionId};
use no_engine::machine::LastStop;
use no_engine::port::Loaded;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Orders that may wait for net core 0.
const ORDERS_LEN: usize = 64;
/// How long an order may take that rests on nothing but the shard and its disk.
const ORDER_TIMEOUT: Duration = Duration::from_secs(60);

/// An agent that has changed: its definition and whether it is paused, `None` when it is gone.
pub type AgentChange = (Arc<str>, Option<(Arc<Agent>, bool)>);

enum Order {
    Adopt(PartitionId, Box<Loaded>, LastStop),
    Leave(PartitionId, Duration),
    Agents(Vec<AgentChange>),
    Nodes(u32, u32),
    Tell,
}

type Waiting = (Order, oneshot::Sender<Result<(), String>>);

/// What ops tells all net cores while they run. Dropping it stops them.
#[derive(Debug)]
pub struct NetOrders {
    intake: watch::Sender<Intake>,
    /// Slots of the pool; `None` while it is as the shards started with.
    slots: watch::Sender<Option<usize>>,
    phase: watch::Sender<Phase>,
    shards: ShardOrders,
}

/// A net core's end of [`NetOrders`].
#[derive(Clone)]
pub struct NetOrdered {
    pub(crate) intake: watch::Receiver<Intake>,
    pub(crate) slots: watch::Receiver<Option<usize>>,
    pub(crate) phase: PhaseReceiver,
    /// For net core 0 to take.
    shards: Arc<Mutex<Option<mpsc::Receiver<Waiting>>>>,
}

/// Asks the shards from any thread but a net core's. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShardOrders(mpsc::Sender<Waiting>);

impl NetOrders {
    /// Both ends; the receiving one is cloned for each net core.
    #[must_use]
    pub fn new() -> (NetOrders, NetOrdered) {
        let (intake, intake_receiver) = watch::channel(Intake::Open);
        let (slots, slots_receiver) = watch::channel(None);
        let (phase, phase_receiver) = watch::channel(Phase::Serving);
        let (shards, shards_receiver) = mpsc::channel(ORDERS_LEN);
        let ordered = NetOrdered {
            intake: intake_receiver,
            slots: slots_receiver,
            phase: phase_receiver,
            shards: Arc::new(Mutex::new(Some(shards_receiver))),
        };
        (NetOrders { intake, slots, phase, shards: ShardOrders(shards) }, ordered)
    }

    /// Whether new work is taken; net core 0 tells the shards.
    pub fn set_intake(&self, intake: Intake) {
        self.intake.send_if_modified(|now| std::mem::replace(now, intake) != intake);
    }

    /// So many slots on the node from now on; net core 0 tells the shards, which share them evenly.
    pub fn set_slots(&self, slots: usize) {
        self.slots.send_if_modified(|now| now.replace(slots) != Some(slots));
    }

    /// The next phase. A phase never goes back.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = *now < phase;
            *now = phase.max(*now);
            later
        });
    }

    /// The way to the shards, for another thread.
    #[must_use]
    pub fn shards(&self) -> ShardOrders {
        self.shards.clone()
    }
}

impl ShardOrders {
    /// Has its shard take a partition in; returns once it has.
    ///
    /// # Errors
    /// Why it did not: the shard has halted, or the node ends.
    pub fn adopt(&self, id: PartitionId, loaded: Loaded, stop: LastStop) -> Result<(), String> {
        self.order(Order::Adopt(id, Box::new(loaded), stop))?.blocking_recv().map_err(gone)?
    }

    /// Has their shards let partitions go, all at once; what runs has so long to end. Returns, for
    /// each, once all that was decided of it is durable.
    pub fn leave(&self, ids: &[PartitionId], within: Duration) -> Vec<Result<(), String>> {
        let asked: Vec<_> = ids.iter().map(|id| self.order(Order::Leave(*id, within))).collect();
        let done = |asked: Result<oneshot::Receiver<_>, String>| {
            asked?.blocking_recv().map_err(gone).and_then(|done| done)
        };
        asked.into_iter().map(done).collect()
    }

    /// Makes agents known that other nodes have changed.
    ///
    /// # Errors
    /// As [`ShardOrders::adopt`].
    pub fn set_agents(&self, changes: Vec<AgentChange>) -> Result<(), String> {
        self.order(Order::Agents(changes))?.blocking_recv().map_err(gone)?
    }

    /// Agents' bounds are shared out among so many nodes from now on, of which this one has that
    /// place.
    ///
    /// # Errors
    /// When the node ends.
    pub fn set_nodes(&self, place: u32, nodes: u32) -> Result<(), String> {
        self.order(Order::Nodes(place, nodes))?.blocking_recv().map_err(gone)?
    }

    /// Has all other nodes look at the store. Does not wait for them.
    pub fn tell(&self) {
        // A node that ends tells nobody.
        let _ = self.order(Order::Tell);
    }

    fn order(&self, order: Order) -> Result<oneshot::Receiver<Result<(), String>>, String> {
        let (done, waits) = oneshot::channel();
        self.0.blocking_send((order, done)).map_err(|_| "the node ends".to_owned())?;
        Ok(waits)
    }
}

fn gone(_: oneshot::error::RecvError) -> String {
    "the node ends".to_owned()
}

/// Keeps the core's intake as ordered; net core 0 tells the shards as well.
pub(crate) async fn follow_intake(core: &Core, mut intake: watch::Receiver<Intake>, net: NetId) {
    loop {
        let now = *intake.borrow_and_update();
        if core.intake.replace(now) != now {
            tracing::info!(target: "http", intake = ?now, "the intake changed");
            if net == NetId(0) {
                for shard in core.shards.all() {
                    core.shards.send_surely(shard, Command::SetIntake(now));
                }
            }
        }
        if intake.changed().await.is_err() {
            // Who gives orders is gone; the phase's end says the same to the server.
            std::future::pending::<()>().await;
        }
    }
}

/// Tells the shards how many slots there are, as ordered: by net core 0, for all.
pub(crate) async fn follow_slots(
    core: &Core,
    mut slots: watch::Receiver<Option<usize>>,
    net: NetId,
) {
    while net == NetId(0) && slots.changed().await.is_ok() {
        if let Some(slots) = *slots.borrow_and_update() {
            for shard in core.shards.all() {
                core.shards.send_surely(shard, Command::SetPool { slots });
            }
        }
    }
    // As above.
    std::future::pending::<()>().await;
}

/// Carries out what is asked of the shards: by net core 0, for all.
pub(crate) async fn follow_orders(core: &Rc<Core>, ordered: &NetOrdered, net: NetId) {
    let taken = ordered.shards.lock().unwrap_or_else(PoisonError::into_inner).take();
    if net == NetId(0)
        && let Some(mut orders) = taken
    {
        while let Some((order, done)) = orders.recv().await {
            let core = Rc::clone(core);
            // A partition that takes long to leave keeps no other from it.
            tokio::task::spawn_local(async move {
                let _ = done.send(carry_out(&core, order).await);
            });
        }
    }
    // As above.
    std::future::pending::<()>().await;
}

async fn carry_out(core: &Rc<Core>, order: Order) -> Result<(), String> {
    match order {
        Order::Adopt(partition, loaded, last_stop) => {
            let shard = core.shards.of_partition(partition);
            let adopt = |reply| Command::Adopt { reply, partition, loaded, last_stop };
            done(core.ask_surely(shard, adopt), ORDER_TIMEOUT).await
        }
        Order::Leave(partition, within) => {
            let shard = core.shards.of_partition(partition);
            let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
            let leave = |reply| Command::Leave { reply, partition, within_ms };
            done(core.ask_surely(shard, leave), within + ORDER_TIMEOUT).await
        }
        Order::Agents(changes) => {
            let set = agents::set_all(core, changes).await;
            set.map_err(|problem| problem.detail.into_owned())
        }
        Order::Nodes(place, nodes) => {
            core.agents.set_nodes(place, nodes);
            let nodes = u16::try_from(nodes).unwrap_or(u16::MAX);
            for shard in core.shards.all() {
                core.shards.send_surely(shard, Command::SetNodes { nodes });
            }
            Ok(())
        }
        Order::Tell => {
            cluster::tell(core).await;
            Ok(())
        }
    }
}

async fn done(
    asked: Result<crate::core::Asked, crate::problem::Problem>,
    timeout: Duration,
) -> Result<(), String> {
    let asked = asked.map_err(|problem| problem.detail.into_owned())?;
    match tokio::time::timeout(timeout, asked.untimed_answer()).await {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused(refusal)) => Err(refusal.to_string()),
        Ok(_) => Err("the shard answered another question".to_owned()),
        Err(_) => Err(format!("the shard did not answer within {} s", timeout.as_secs())),
    }
}
