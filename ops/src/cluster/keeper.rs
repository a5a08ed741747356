//! The thread that looks at all nodes and moves this one's partitions.

use super::{Parts, State};
use no_engine::control::nodes::{Moves, NodeName, NodeRow, NodeWatch, PartitionRow, moves};
use no_engine::control::placement;
use no_engine::event::AgentRow;
use no_engine::id::{Fence, PartitionId};
use no_engine::machine::LastStop;
use no_engine::port::{Load, Loaded};
use no_engine::satisfaction::WINDOW_MS;
use no_engine::time::{Millis, Mono};
use no_net::AgentChange;
use no_net::cluster::{Owner, Peer};
use no_storage::postgres::{PgLoad, Shared};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// What runs in a partition has so long to end before it moves, unless the node drains.
const MOVE_PATIENCE: Duration = Duration::from_secs(10);
/// Partitions that are loaded at once: their tasks are in memory twice for a moment.
const LOAD_AT_ONCE: usize = 8;
/// From one look to the next while the node drains.
const DRAIN_PAUSE: Duration = Duration::from_millis(100);

/// It and what it knows.
pub(super) struct Keeper {
    parts: Parts,
    state: Arc<State>,
    loader: PgLoad,
    watch: NodeWatch,
    begun: Instant,
    pause: Duration,
    /// What the shards hold.
    held: BTreeMap<PartitionId, Fence>,
    agents: BTreeMap<Arc<str>, AgentRow>,
    agents_version: Option<i64>,
    says_draining: bool,
    /// Our place among the nodes that stay, and how many they are.
    among: (u32, u32),
}

impl Keeper {
    pub(super) fn new(
        parts: Parts,
        state: Arc<State>,
        pause: Duration,
    ) -> no_storage::Result<Keeper> {
        let loader = parts.store.loader()?;
        let lease_ms = u64::try_from(parts.lease.as_millis()).unwrap_or(u64::MAX);
        Ok(Keeper {
            parts,
            state,
            loader,
            watch: NodeWatch::new(lease_ms),
            begun: Instant::now(),
            pause,
            held: BTreeMap::new(),
            agents: BTreeMap::new(),
            agents_version: None,
            says_draining: false,
            among: (0, 1),
        })
    }

    /// Looks until the node ends; says after the first look how it went.
    pub(super) fn run(mut self, ready: &mpsc::Sender<Result<(), String>>) -> Keeper {
        let mut is_first = true;
        let mut pause = Duration::ZERO;
        while !self.state.is_over() {
            let turn = self.parts.cluster.await_look(pause);
            if self.state.is_over() {
                break;
            }
            let looked = self.look();
            if let Err(why) = &looked
                && !self.says_draining
            {
                tracing::warn!(target: "cluster", why, "the other nodes are not seen");
            }
            self.parts.cluster.looked(turn);
            if std::mem::take(&mut is_first) && ready.send(looked).is_err() {
                break;
            }
            pause = if self.says_draining { DRAIN_PAUSE } else { self.pause };
        }
        self
    }

    /// One look, and what it asks for.
    fn look(&mut self) -> Result<(), String> {
        if self.state.is_draining.load(Ordering::Acquire) && !self.says_draining {
            self.says_draining = self.parts.node.drain().map_err(text)?;
        }
        let now = Mono(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        let shared = self.parts.node.look().map_err(text)?;
        let dead = self.watch.look(now, &shared.nodes);
        if let Some(why) = self.lost(&shared) {
            self.state.fail(why);
            return Ok(());
        }
        self.follow_agents(&shared)?;
        self.show(&shared, &dead);
        self.share_bounds(&shared, &dead)?;
        let me = Arc::clone(self.parts.node.name());
        let held = self.held.keys().copied().collect();
        let Moves { take, give } = moves(&me, &held, &shared.nodes, &dead, &shared.partitions);
        let has_moves = !take.is_empty() || !give.is_empty();
        self.give(give, &shared);
        self.take(&take, &shared)?;
        self.bury(&shared, &dead);
        if has_moves {
            let shared = self.parts.node.look().map_err(text)?;
            self.show(&shared, &dead);
            self.parts.orders.tell();
        }
        if self.says_draining {
            let stays = |node: &NodeRow| !node.is_draining && !dead.contains(&node.name);
            let is_alone = !shared.nodes.iter().any(stays);
            self.state.is_drained.store(is_alone || self.held.is_empty(), Ordering::Release);
        }
        Ok(())
    }

    /// Whether a partition that we hold is another's by now: then we must not go on.
    fn lost(&self, shared: &Shared) -> Option<String> {
        let me = self.parts.node.name();
        let is_ours = |row: &PartitionRow, fence: &Fence| {
            row.fence == *fence && row.owner.as_ref() == Some(me)
        };
        let lost = self.held.iter().find_map(|(id, fence)| {
            let row = shared.partitions.get(usize::from(id.0))?;
            (!is_ours(row, fence)).then_some(row)
        })?;
        let by = lost.owner.as_deref().unwrap_or("nobody");
        Some(format!("partition {} is {by}'s by now: this node had not counted", lost.id.0))
    }

    /// Tells the net cores and shards among how many nodes agents' bounds are shared out.
    fn share_bounds(&mut self, shared: &Shared, dead: &BTreeSet<NodeName>) -> Result<(), String> {
        let stays = |node: &&NodeRow| !node.is_draining && !dead.contains(&node.name);
        let staying: Vec<&NodeRow> = shared.nodes.iter().filter(stays).collect();
        let me = self.parts.node.name();
        let Some(place) = staying.iter().position(|node| node.name == *me) else { return Ok(()) };
        let among = (place as u32, staying.len() as u32);
        if self.among != among {
            self.parts.orders.set_nodes(among.0, among.1)?;
            self.among = among;
        }
        Ok(())
    }

    /// Tells the net cores who has what.
    fn show(&self, shared: &Shared, dead: &BTreeSet<NodeName>) {
        let me = self.parts.node.name();
        let peer = |name: &NodeName| {
            let address = shared.addresses.get(name).filter(|_| !dead.contains(name))?;
            Some(Peer { name: Arc::clone(name), address: address.trim_end_matches('/').into() })
        };
        let peers: Vec<Peer> = shared
            .nodes
            .iter()
            .filter(|node| node.name != *me)
            .filter_map(|node| peer(&node.name))
            .collect();
        let owner = |row: &PartitionRow| match &row.owner {
            Some(owner) if owner == me && self.held.contains_key(&row.id) => Owner::Here,
            Some(owner) if owner != me => peer(owner).map_or(Owner::Nobody, Owner::There),
            _ => Owner::Nobody,
        };
        let owners = shared.partitions.iter().map(owner).collect();
        let before = self.parts.cluster.view();
        if before.owners != owners || before.peers != peers {
            self.parts.cluster.change(|view| (view.owners, view.peers) = (owners, peers));
        }
    }

    /// Has the shards let partitions go, all at once, and gives them away.
    fn give(&mut self, give: Vec<(PartitionId, NodeName)>, shared: &Shared) {
        // Half of a drain, so that there is time to give them.
        let drain = self.parts.drain_timeout / 2;
        let within = if self.says_draining { drain } else { MOVE_PATIENCE };
        let ids: Vec<PartitionId> = give.iter().map(|(id, _)| *id).collect();
        let left = self.parts.orders.leave(&ids, within);
        for ((id, to), left) in give.into_iter().zip(left) {
            if let Err(why) = left {
                tracing::warn!(target: "cluster", partition = id.0, why, "a partition stays");
                continue;
            }
            let fence = self.owned(id).remove(id).or_else(|| {
                // Ours in name only.
                shared.partitions.get(usize::from(id.0)).map(|row| row.fence)
            });
            self.held.remove(&id);
            let given = self.parts.node.give(id, fence.unwrap_or_default(), Some(&to));
            match given {
                Ok(true) => {
                    self.parts.cluster.count_moves(0, 1);
                    tracing::info!(target: "cluster", partition = id.0, to = &*to, "given");
                }
                Ok(false) => tracing::warn!(target: "cluster", partition = id.0, "was not ours"),
                // It is ours still, or the other's: the next look tells.
                Err(error) => {
                    tracing::warn!(target: "cluster", partition = id.0, %error, "not given");
                }
            }
        }
    }

    /// Takes partitions, and has the shards take them in.
    fn take(&mut self, take: &[PartitionRow], shared: &Shared) -> Result<(), String> {
        for some in take.chunks(LOAD_AT_ONCE) {
            let taken = self.parts.node.take(some).map_err(text)?;
            for (id, fence) in &taken {
                self.owned(*id).put(*id, *fence);
            }
            let mut loaded = self.load(&taken)?;
            for (id, fence) in taken {
                let was_left = some.iter().any(|row| row.id == id && row.owner.is_none());
                let was_given = was_left || shared.given.contains(&id);
                let last_stop = if was_given { LastStop::Clean } else { LastStop::Crash };
                let of_it = loaded.remove(&id).unwrap_or_default();
                let tasks = of_it.tasks.len();
                self.parts.orders.adopt(id, of_it, last_stop)?;
                self.held.insert(id, fence);
                self.parts.cluster.count_moves(1, 0);
                let from = some.iter().find(|row| row.id == id).and_then(|row| row.owner.clone());
                let from = from.as_deref().unwrap_or("nobody");
                tracing::info!(target: "cluster", partition = id.0, from, tasks, "taken");
            }
            self.parts.cluster.change(|view| {
                for id in self.held.keys() {
                    view.owners[usize::from(id.0)] = Owner::Here;
                }
            });
        }
        Ok(())
    }

    fn load(
        &mut self,
        taken: &[(PartitionId, Fence)],
    ) -> Result<BTreeMap<PartitionId, Loaded>, String> {
        let ids: Vec<PartitionId> = taken.iter().map(|(id, _)| *id).collect();
        let mut loaded: BTreeMap<PartitionId, Loaded> = BTreeMap::new();
        let tasks = self.loader.tasks(&ids, &mut |task| {
            loaded.entry(task.id.partition()).or_default().tasks.push(task);
        });
        tasks.map_err(|error| error.to_string())?;
        let keys = self.loader.keys(&ids, &mut |row| {
            loaded.entry(row.partition).or_default().keys.push(row);
        });
        keys.map_err(|error| error.to_string())?;
        let since = Millis(no_net::time::wall().0.saturating_sub(WINDOW_MS));
        let said = self.loader.feedback(&ids, since, &mut |row| {
            loaded.entry(row.task.partition()).or_default().feedback.push(row);
        });
        said.map_err(|error| error.to_string())?;
        Ok(loaded)
    }

    fn owned(&self, id: PartitionId) -> &no_storage::postgres::Owned {
        let shards = self.parts.owned.len() as u16;
        &self.parts.owned[usize::from(placement(id, self.parts.store.partitions(), shards).0)]
    }

    /// Makes changes of agents known that other nodes have made.
    fn follow_agents(&mut self, shared: &Shared) -> Result<(), String> {
        if self.agents_version == Some(shared.agents_version) {
            return Ok(());
        }
        let rows = self.loader.agents().map_err(|error| error.to_string())?;
        let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
        // What there is at the start is known already.
        if self.agents_version.is_some() {
            let is_new = |row: &&AgentRow| self.agents.get(&row.name) != Some(row);
            let set = rows.values().filter(is_new);
            let mut changes: Vec<AgentChange> = set
                .map(|row| (row.name.clone(), Some((Arc::clone(&row.agent), row.paused))))
                .collect();
            let gone = self.agents.keys().filter(|name| !rows.contains_key(*name));
            changes.extend(gone.map(|name| (Arc::clone(name), None)));
            self.parts.orders.set_agents(changes)?;
        }
        (self.agents, self.agents_version) = (rows, Some(shared.agents_version));
        Ok(())
    }

    /// Takes the rows of dead nodes away that have nothing left.
    fn bury(&mut self, shared: &Shared, dead: &BTreeSet<NodeName>) {
        let me = Arc::clone(self.parts.node.name());
        for node in shared.nodes.iter().filter(|node| dead.contains(&node.name)) {
            let is_owner = |row: &PartitionRow| row.owner.as_ref() == Some(&node.name);
            if node.name == me || shared.partitions.iter().any(is_owner) {
                continue;
            }
            tracing::warn!(target: "cluster", node = &*node.name, "a node is gone");
            if let Err(error) = self.parts.node.bury(node) {
                tracing::debug!(target: "cluster", %error, "its row stays for now");
            }
        }
    }

    /// Leaves the others what this node still has.
    pub(super) fn end(&mut self, is_clean: bool) {
        for (id, fence) in std::mem::take(&mut self.held) {
            if is_clean && let Err(error) = self.parts.node.give(id, fence, None) {
                tracing::warn!(target: "cluster", %error, "partitions are left as after a crash");
                return;
            }
        }
        if let Err(error) = self.parts.node.leave() {
            tracing::warn!(target: "cluster", %error, "the others wait for this node's lease");
        }
    }
}

fn text(error: no_storage::Error) -> String {
    error.to_string()
}
