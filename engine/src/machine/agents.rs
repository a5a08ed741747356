//! The agents a shard knows, and what bounds their starts: pause, concurrency, rate, fairness keys.
//! Names from outside become small numbers here: lanes (agent and tenant) and keys (tenant and
//! key).

mod held_back;

use super::Machine;
use crate::agent::definition::{Agent, Kind};
use crate::breaker::{Breaker, Gate, Window};
use crate::command::Answer;
use crate::control::share;
use crate::event::AgentRow;
use crate::id::{ReplyTo, TaskId};
use crate::map::Map;
use crate::permit::Permits;
use crate::queue::{KeyId, LaneId, ReadyQueue};
use crate::stats::AgentStats;
use crate::time::Mono;
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A shard that finds all permits of an agent taken by others looks again after this, in ms.
const PERMITS_RECHECK_MS: u64 = 5;

/// One agent on this shard.
struct Entry {
    agent: Option<Arc<Agent>>,
    is_paused: bool,
    permits: Arc<Permits>,
    /// Whether running tasks hold permits. Without a bound none is taken: the count is shared by
    /// all shards, and touching it would cost each of them every task.
    is_bounded: bool,
    /// A permit taken for a start that is being looked for.
    has_permit_in_hand: bool,
    running: u32,
    running_by_key: Map<KeyId, u32>,
    bucket: Bucket,
    lanes: BTreeMap<Arc<str>, LaneId>,
    stats: AgentStats,
    /// What ended lately.
    window: Window,
    breaker: Breaker,
}

/// An agent's tasks of one tenant.
struct Lane {
    entry: usize,
    agent: Arc<str>,
    tenant: Arc<str>,
    /// The tenant's tasks without a fairness key; held by the lane, which is never forgotten.
    plain: KeyId,
}

/// A token bucket by the monotonic clock.
#[derive(Clone, Copy, Default)]
struct Bucket {
    tokens: f64,
    filled_at: Mono,
}

/// A fairness key and how many tasks carry it.
struct Key {
    tenant: Arc<str>,
    name: Arc<str>,
    tasks: usize,
}

/// All agents, lanes and keys of a shard.
pub(super) struct Agents {
    entries: Vec<Entry>,
    by_name: BTreeMap<Arc<str>, usize>,
    lanes: Vec<Lane>,
    keys: Vec<Key>,
    keys_free: Vec<KeyId>,
    /// Keys by tenant and name. Outsiders choose those, but cannot choose colliding ones: they do
    /// not know the seed.
    keys_by_name: HashTable<KeyId>,
    seed: u64,
    /// The lane that was asked for last: most tasks follow one of their kind.
    last_lane: Option<LaneId>,
    shards: u16,
    nodes: u16,
    recheck_at: Option<Mono>,
    /// Entries with a permit in hand.
    hands: Vec<usize>,
    /// Entries whose breaker is open, each with when workers are to hear that one may probe.
    held_back: BTreeMap<usize, Option<Mono>>,
}

impl Agents {
    /// None yet; names are hashed with `seed`.
    pub(super) fn new(seed: u64) -> Agents {
        Agents {
            entries: Vec::new(),
            by_name: BTreeMap::new(),
            lanes: Vec::new(),
            keys: Vec::new(),
            keys_free: Vec::new(),
            keys_by_name: HashTable::new(),
            seed,
            last_lane: None,
            shards: 1,
            nodes: 1,
            recheck_at: None,
            hands: Vec::new(),
            held_back: BTreeMap::new(),
        }
    }

    fn entry(&mut self, name: &Arc<str>) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        self.entries.push(Entry {
            agent: None,
            is_paused: false,
            permits: Arc::new(Permits::new(None)),
            is_bounded: false,
            has_permit_in_hand: false,
            running: 0,
            running_by_key: Map::default(),
            bucket: Bucket::default(),
            lanes: BTreeMap::new(),
            stats: AgentStats::default(),
            window: Window::default(),
            breaker: Breaker::default(),
        });
        let at = self.entries.len() - 1;
        self.by_name.insert(Arc::clone(name), at);
        at
    }

    /// The agent of that name, if it is known.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Agent>> {
        self.entries[*self.by_name.get(name)?].agent.as_ref()
    }

    /// The agent of a lane, if it is still known.
    pub(super) fn of_lane(&self, lane: LaneId) -> Option<&Arc<Agent>> {
        self.entries[self.lanes[lane.0 as usize].entry].agent.as_ref()
    }

    /// The figures of a lane's agent.
    pub(super) fn stats_mut(&mut self, lane: LaneId) -> &mut AgentStats {
        &mut self.entries[self.lanes[lane.0 as usize].entry].stats
    }

    /// The figures of all agents.
    pub(super) fn stats(&self, now: Mono) -> BTreeMap<Arc<str>, AgentStats> {
        let stats = |(name, at): (&Arc<str>, &usize)| {
            let entry = &self.entries[*at];
            let takes_slot = entry.agent.as_ref().is_some_and(|agent| agent.takes_slot());
            let active = if takes_slot { u64::from(entry.running) } else { 0 };
            let (recent, is_held_back) = (entry.window.sum(now), entry.breaker.is_open());
            let stats = entry.stats.clone();
            (name.clone(), AgentStats { active, recent, is_held_back, ..stats })
        };
        self.by_name.iter().map(stats).collect()
    }

    /// [`Agents::lane`], where the agent is known.
    pub(super) fn known_lane(&mut self, agent: &Arc<str>, tenant: &Arc<str>) -> Option<LaneId> {
        let last = self.last_lane.filter(|lane| self.is_lane(*lane, agent, tenant));
        let Some(lane) = last else {
            self.get(agent)?;
            return Some(self.lane(agent, tenant));
        };
        self.of_lane(lane)?;
        Some(lane)
    }

    fn is_lane(&self, lane: LaneId, agent: &Arc<str>, tenant: &Arc<str>) -> bool {
        let lane = &self.lanes[lane.0 as usize];
        is_same(&lane.agent, agent) && is_same(&lane.tenant, tenant)
    }

    /// The lane of an agent's tasks of one tenant.
    pub(super) fn lane(&mut self, agent: &Arc<str>, tenant: &Arc<str>) -> LaneId {
        if let Some(last) = self.last_lane.filter(|lane| self.is_lane(*lane, agent, tenant)) {
            return last;
        }
        let lane = self.find_lane(agent, tenant);
        self.last_lane = Some(lane);
        lane
    }

    fn find_lane(&mut self, agent: &Arc<str>, tenant: &Arc<str>) -> LaneId {
        let at = self.entry(agent);
        if let Some(lane) = self.entries[at].lanes.get(tenant) {
            return *lane;
        }
        let plain = self.retain_named(tenant, &Arc::from(""));
        let lane = LaneId(u32::try_from(self.lanes.len()).expect("lanes are bounded"));
        let (agent, tenant) = (Arc::clone(agent), Arc::clone(tenant));
        self.entries[at].lanes.insert(Arc::clone(&tenant), lane);
        self.lanes.push(Lane { entry: at, agent, tenant, plain });
        lane
    }

    /// A lane's agent and tenant: one copy of the names for all its tasks.
    pub(super) fn names(&self, lane: LaneId) -> (&Arc<str>, &Arc<str>) {
        let lane = &self.lanes[lane.0 as usize];
        (&lane.agent, &lane.tenant)
    }

    /// The number of a fairness key of a lane's tenant, counting one more task that carries it.
    pub(super) fn retain_key(&mut self, lane: LaneId, name: Option<&Arc<str>>) -> KeyId {
        let lane = &self.lanes[lane.0 as usize];
        match name {
            None => {
                self.keys[lane.plain.0 as usize].tasks += 1;
                lane.plain
            }
            Some(name) => {
                let tenant = Arc::clone(&lane.tenant);
                self.retain_named(&tenant, name)
            }
        }
    }

    fn retain_named(&mut self, tenant: &Arc<str>, name: &Arc<str>) -> KeyId {
        let (seed, hash) = (self.seed, hash_of(self.seed, tenant, name));
        let is_it = |key: &Key| key.tenant == *tenant && key.name == *name;
        if let Some(id) = self.keys_by_name.find(hash, |id| is_it(&self.keys[id.0 as usize])) {
            self.keys[id.0 as usize].tasks += 1;
            return *id;
        }
        let key = Key { tenant: Arc::clone(tenant), name: Arc::clone(name), tasks: 1 };
        let id = match self.keys_free.pop() {
            Some(id) => {
                self.keys[id.0 as usize] = key;
                id
            }
            None => {
                self.keys.push(key);
                KeyId(u32::try_from(self.keys.len() - 1).expect("keys are bounded by tasks"))
            }
        };
        let keys = &self.keys;
        self.keys_by_name.insert_unique(hash, id, |id| {
            let key = &keys[id.0 as usize];
            hash_of(seed, &key.tenant, &key.name)
        });
        id
    }

    /// One task fewer carries the key; the last one forgets it.
    pub(super) fn release_key(&mut self, id: KeyId) {
        let key = &mut self.keys[id.0 as usize];
        assert!(0 < key.tasks, "a key was released that nobody carries");
        key.tasks -= 1;
        if 0 < key.tasks {
            return;
        }
        let hash = hash_of(self.seed, &key.tenant, &key.name);
        let found = self.keys_by_name.find_entry(hash, |other| *other == id);
        found.expect("a key stands under its name").remove();
        self.keys_free.push(id);
    }

    /// Whether tasks of this lane may start now. May take a permit in hand.
    pub(super) fn may_start(&mut self, lane: LaneId, ask: StartAsk) -> bool {
        let at = self.lanes[lane.0 as usize].entry;
        let entry = &mut self.entries[at];
        // A task of an agent that is gone starts, in order to fail.
        let Some(agent) = &entry.agent else { return !ask.is_lease };
        if entry.is_paused {
            return false;
        }
        match entry.breaker.gate(ask.now) {
            Gate::Passes => {}
            Gate::Probing => return false,
            Gate::Until(at) => {
                recheck(&mut self.recheck_at, at);
                return false;
            }
        }
        if (agent.kind == Kind::Worker) != ask.is_lease {
            return false;
        }
        if agent.takes_slot() && !ask.has_slot {
            return false;
        }
        if let Some(rate) = agent.rate {
            let parts = f64::from(self.shards) * f64::from(self.nodes);
            let per_ms = rate.per_second / 1_000.0 / parts;
            let passed_ms = ask.now.0.saturating_sub(entry.bucket.filled_at.0);
            let tokens = entry.bucket.tokens + passed_ms as f64 * per_ms;
            entry.bucket = Bucket { tokens: tokens.min(f64::from(rate.burst)), filled_at: ask.now };
            if entry.bucket.tokens < 1.0 {
                let wait_ms = ((1.0 - entry.bucket.tokens) / per_ms).ceil();
                let wait_ms = wait_ms.clamp(1.0, 3_600_000.0) as u64;
                recheck(&mut self.recheck_at, ask.now + wait_ms);
                return false;
            }
        }
        if !entry.has_permit_in_hand {
            entry.has_permit_in_hand = !entry.is_bounded || entry.permits.try_take();
            if entry.has_permit_in_hand {
                self.hands.push(at);
            } else if entry.running < entry.permits.used() {
                recheck(&mut self.recheck_at, ask.now + PERMITS_RECHECK_MS);
            }
        }
        entry.has_permit_in_hand
    }

    /// Whether another task of this fairness key may start, its lane being open.
    pub(super) fn may_start_key(&self, lane: LaneId, key: KeyId) -> bool {
        let entry = &self.entries[self.lanes[lane.0 as usize].entry];
        let max = entry.agent.as_ref().and_then(|agent| agent.max_concurrency_per_key);
        max.is_none_or(|max| entry.running_by_key.get(&key).copied().unwrap_or(0) < max)
    }

    /// Counts a start that `may_start` and `may_start_key` allowed.
    pub(super) fn enter(&mut self, lane: LaneId, key: KeyId, task: TaskId) {
        let entry = &mut self.entries[self.lanes[lane.0 as usize].entry];
        assert!(entry.has_permit_in_hand, "started without a permit");
        entry.has_permit_in_hand = false;
        entry.bucket.tokens -= 1.0;
        entry.breaker.started(task);
        entry.count(key);
    }

    /// Counts a task that was running before a restart, whatever the bounds.
    pub(super) fn enter_loaded(&mut self, lane: LaneId, key: KeyId) {
        let entry = &mut self.entries[self.lanes[lane.0 as usize].entry];
        if entry.is_bounded {
            entry.permits.take();
        }
        entry.count(key);
    }

    /// Counts the end of a running task.
    pub(super) fn leave(&mut self, lane: LaneId, key: KeyId) {
        let entry = &mut self.entries[self.lanes[lane.0 as usize].entry];
        assert!(0 < entry.running, "left without having entered");
        entry.running -= 1;
        if entry.is_bounded {
            entry.permits.give_back();
        }
        if let Some(running) = entry.running_by_key.get_mut(&key) {
            *running -= 1;
            if *running == 0 {
                entry.running_by_key.remove(&key);
            }
        }
    }

    /// Gives back permits that no start came to use.
    pub(super) fn drop_hands(&mut self) {
        for at in self.hands.drain(..) {
            let entry = &mut self.entries[at];
            if std::mem::take(&mut entry.has_permit_in_hand) && entry.is_bounded {
                entry.permits.give_back();
            }
        }
    }

    /// When a start that was held back by a rate or by other shards may go; forgets it.
    pub(super) fn take_recheck(&mut self) -> Option<Mono> {
        self.recheck_at.take()
    }

    /// The number of shards.
    pub(super) fn shards(&self) -> u16 {
        self.shards
    }

    /// Ready tasks that would take a slot and that their agents' pauses and permits let start.
    pub(super) fn startable(&self, queue: &ReadyQueue) -> usize {
        let startable = |entry: &Entry| {
            let takes_slot = entry.agent.as_ref().is_some_and(|agent| agent.takes_slot());
            if !takes_slot || entry.is_paused || entry.breaker.is_open() {
                return 0;
            }
            let ready = entry.lanes.values().map(|lane| queue.lane_len(*lane)).sum::<usize>();
            ready.min(entry.permits.free() as usize)
        };
        self.entries.iter().map(startable).sum()
    }

    /// See [`Agents::take_recheck`]; keeps it.
    pub(super) fn recheck_at(&self) -> Option<Mono> {
        self.recheck_at
    }
}

impl Entry {
    fn count(&mut self, key: KeyId) {
        self.running += 1;
        *self.running_by_key.entry(key).or_default() += 1;
    }
}

/// What a start needs to know beside lane and key.
#[derive(Clone, Copy)]
pub(super) struct StartAsk {
    /// The monotonic clock.
    pub(super) now: Mono,
    /// Whether a slot is free.
    pub(super) has_slot: bool,
    /// Whether a worker asks.
    pub(super) is_lease: bool,
}

/// Whether two names are the same; most are one copy.
fn is_same(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

fn hash_of(seed: u64, tenant: &str, name: &str) -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let mut hasher = crate::map::Fixed.build_hasher();
    hasher.write_u64(seed);
    hasher.write(tenant.as_bytes());
    hasher.write(name.as_bytes());
    hasher.finish()
}

fn recheck(at: &mut Option<Mono>, candidate: Mono) {
    *at = Some(at.map_or(candidate, |at| at.min(candidate)));
}

impl Machine {
    /// Knows an agent from now on, or forgets it.
    pub(super) fn set_agent(
        &mut self,
        reply: ReplyTo,
        name: &Arc<str>,
        set: Option<(Arc<Agent>, bool, Arc<Permits>)>,
    ) {
        self.know_agent(name, set);
        self.reply(reply, Answer::Done);
    }

    /// The same without an answer, for start.
    pub fn know_agent(&mut self, name: &Arc<str>, set: Option<(Arc<Agent>, bool, Arc<Permits>)>) {
        let at = self.agents.entry(name);
        // Whoever changes an agent, or resumes it, wants to see what it does now.
        self.agents.move_breaker(at, Breaker::close);
        let entry = &mut self.agents.entries[at];
        let Some((agent, is_paused, permits)) = set else {
            entry.agent = None;
            return;
        };
        assert!(!entry.has_permit_in_hand, "an agent changed while a start was looked for");
        let is_bounded = agent.max_concurrency.is_some();
        if !Arc::ptr_eq(&entry.permits, &permits) || entry.is_bounded != is_bounded {
            for _ in 0..entry.running {
                if is_bounded {
                    permits.take();
                }
                if entry.is_bounded {
                    entry.permits.give_back();
                }
            }
            (entry.permits, entry.is_bounded) = (permits, is_bounded);
        }
        if let Some(rate) = agent.rate {
            entry.bucket.tokens = entry.bucket.tokens.max(f64::from(rate.burst).min(1.0));
        }
        entry.agent = Some(agent);
        entry.is_paused = is_paused;
        let lanes: Vec<LaneId> = entry.lanes.values().copied().collect();
        lanes.into_iter().for_each(|lane| self.offer(lane));
    }

    /// Keeps a definition, or its removal, in the journal.
    pub(super) fn keep_agent(
        &mut self,
        reply: ReplyTo,
        name: Arc<str>,
        kept: Option<(Arc<Agent>, bool)>,
    ) {
        let batch = &mut self.open.batch;
        batch.agents.retain(|row| row.name != name);
        batch.agents_gone.retain(|gone| *gone != name);
        match kept {
            Some((agent, paused)) => batch.agents.push(AgentRow { name, agent, paused }),
            None => batch.agents_gone.push(name),
        }
        self.reply(reply, Answer::Done);
    }

    /// The number of nodes that share out rates, each among its shards. Who waits for a task of an
    /// agent with bounds looks again, as those may have changed with it.
    pub(super) fn set_nodes(&mut self, nodes: u16) {
        self.agents.nodes = nodes.max(1);
        let lanes: Vec<LaneId> = (0..self.agents.lanes.len() as u32).map(LaneId).collect();
        lanes.into_iter().for_each(|lane| self.offer(lane));
    }

    /// The number of shards that share out rates and slots of `slots` in all.
    pub fn set_shares(&mut self, shards: u16, slots: usize) {
        self.agents.shards = shards;
        self.slots.set_len(share(slots, self.shard, shards));
    }
}
