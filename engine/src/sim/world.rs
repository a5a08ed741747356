//! The world: shards, store, clients and the outside under one clock, advanced by one seed.

use super::clients::Clients;
use super::moves::Moves;
use super::node::{Node, Plan};
use super::outside::Outside;
use super::store::{Mirror, Store};
use super::{check, workload};
use crate::agent::state::OpenState;
use crate::breaker::BreakerRules;
use crate::command::{Command, Intake};
use crate::effect::Effect;
use crate::event::Event;
use crate::id::{PartitionId, ShardId};
use crate::limits::Limits;
use crate::machine::{Bug, LastStop};
use crate::rng::Rng;
use crate::task::{State, Task};
use crate::time::{Millis, Mono, Now};
use std::collections::{BTreeMap, BTreeSet};

/// Steps within which a draining node must come to rest.
const DRAIN_STEPS_MAX: usize = 20_000;

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tasks whose submission was acknowledged.
    pub acknowledged: usize,
    /// Crashes of the process.
    pub crashes: usize,
    /// Clean stops and starts.
    pub restarts: usize,
    /// Partitions that went from one shard to another while both ran.
    pub moves: usize,
    /// Agents that came to be held back by their breakers, or stayed so over a turn.
    pub held_back: usize,
    /// Events that became durable.
    pub events: usize,
    /// Rows of the transition table that were seen: from state, by event.
    pub transitions: BTreeSet<(&'static str, &'static str)>,
    /// Refusals that clients got, by name.
    pub refused: BTreeMap<&'static str, u64>,
}

/// Everything there is.
pub struct World {
    rng: Rng,
    /// Draws pool sizes; apart, for the reason that [`breaker`] gives.
    pool_rng: Rng,
    now: Now,
    plan: Plan,
    agents: workload::Agents,
    nodes: Vec<Node>,
    store: Store,
    clients: Clients,
    outside: Outside,
    crashes: usize,
    restarts: usize,
    held_back: usize,
    is_calm: bool,
    pub(super) moves: Moves,
}

/// Runs the world of `seed` for so many steps, perhaps with a planted bug, then heals it.
///
/// # Errors
/// The first broken promise, in words.
pub fn run(seed: u64, steps: usize, bug: Option<Bug>) -> Result<Report, String> {
    let world = World::new(seed, bug);
    world.run(steps)
}

/// The shape of a seed's world: its partitions and shards.
#[must_use]
pub fn shape(seed: u64) -> (u16, u16) {
    let world = World::new(seed, None);
    (world.plan.partitions, world.plan.shards)
}

/// Runs the world of `seed` over a real store beside the one in memory: both must hold the same.
///
/// # Errors
/// The first broken promise or difference, in words.
pub fn run_mirrored(seed: u64, steps: usize, mirror: Box<dyn Mirror>) -> Result<Report, String> {
    let mut world = World::new(seed, None);
    world.store.mirror = Some(mirror);
    world.run(steps)
}

impl World {
    fn run(mut self, steps: usize) -> Result<Report, String> {
        for _ in 0..steps {
            self.step()?;
        }
        self.heal()?;
        self.store.reopen(self.plan.partitions)?;
        Ok(Report {
            acknowledged: self.clients.acknowledged.len(),
            crashes: self.crashes,
            restarts: self.restarts,
            moves: self.moves.made,
            held_back: self.held_back,
            events: self.store.histories.values().map(Vec::len).sum(),
            transitions: self.store.transitions,
            refused: self.clients.refused,
        })
    }

    fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut rng = Rng::new(seed);
        let limits = Limits {
            live_tasks_max: 20 + rng.index(60),
            live_bytes_max: 4_000,
            keys_max: 30,
            slots: 1 + rng.index(4),
            key_kept_ms: 1_500,
            retention_ms: 3_000,
            ageing_ms: 200 + rng.up_to(400),
            latency_objective_ms: 100,
            breaker: breaker(seed),
            turn_commands_max: 1 + rng.index(16),
            batches_in_flight_max: 1 + rng.index(4),
        };
        let plan = Plan {
            partitions: 1 + rng.up_to(5) as u16,
            shards: 1 + rng.up_to(1) as u16,
            limits,
            ring_len: 2 + rng.index(12),
            bug,
        };
        let mut world = World {
            now: Now { wall: Millis(1_000_000), mono: Mono(5_000) },
            plan,
            agents: workload::agents(),
            nodes: Vec::new(),
            store: Store::default(),
            clients: Clients::default(),
            outside: Outside::default(),
            crashes: 0,
            restarts: 0,
            held_back: 0,
            is_calm: false,
            pool_rng: Rng::new(seed ^ 0x706f_6f6c),
            moves: Moves::new(seed),
            rng,
        };
        world.start(LastStop::Clean);
        world
    }

    fn start(&mut self, last_stop: LastStop) {
        self.agents = workload::agents();
        self.moves.begin(self.plan.partitions, self.plan.shards, &self.store);
        for shard in 0..self.plan.shards {
            let node = Node::start(
                &self.plan,
                ShardId(shard),
                &self.store,
                &self.agents,
                self.now,
                last_stop,
                &mut self.rng,
            );
            self.nodes.push(node);
        }
    }

    /// One thing happens somewhere, and everything that must hold is looked at.
    fn step(&mut self) -> Result<(), String> {
        match self.rng.up_to(999) {
            0..=349 => self.command(),
            350..=649 => self.turn()?,
            650..=799 => self.journal()?,
            800..=889 => self.answer(),
            890..=894 => self.settle(),
            895..=991 => self.pass_time(),
            992..=994 => self.crash()?,
            995 => self.restart()?,
            _ => self.jump(),
        }
        if self.nodes.iter().any(|node| node.is_failed) && self.rng.chance(20) {
            self.crash()?;
        }
        // A real store beside this one has its shards' partitions fixed.
        if self.store.mirror.is_none() {
            self.moves.begin_one(&mut self.nodes);
        }
        self.look()
    }

    fn command(&mut self) {
        let partitions = self.plan.partitions;
        let (to, command) = self.clients.next(&mut self.rng, self.now, partitions, self.is_calm);
        self.send(to, command);
        if self.pool_rng.chance(5) {
            self.resize_pool();
        }
    }

    /// The controller gives the node another number of slots.
    fn resize_pool(&mut self) {
        let slots = 1 + self.pool_rng.index(8);
        for node in &mut self.nodes {
            // A full ring drops it: the next one comes.
            node.send(Command::SetPool { slots });
        }
    }

    fn send(&mut self, to: PartitionId, command: Command) {
        let home = self.moves.home(to);
        // A full ring refuses; for the sender that is a 503.
        self.nodes[home].send(command);
    }

    fn turn(&mut self) -> Result<(), String> {
        let at = self.rng.index(self.nodes.len());
        self.moves.go_on(&mut self.nodes, &self.store);
        let node = &mut self.nodes[at];
        node.shard.turn(self.now, &mut node.links, || 0);
        while let Some(effect) = node.effects.try_recv() {
            check::durable(&self.store, &effect)?;
            match effect {
                Effect::Reply { to, answer } if Moves::is_theirs(to) => {
                    self.moves.answered(&answer)
                }
                Effect::Reply { to, answer } => self.clients.answered(to, answer, &self.store)?,
                Effect::Call(call) => self.outside.call(&self.store, *call)?,
                Effect::Abort { task, fence } => self.outside.abort(task, fence),
                Effect::Offer { .. } | Effect::Publish { .. } => {}
            }
        }
        self.held_back += node.shard.machine().agents_held_back();
        check::bounds(node.shard.machine(), &node.partitions)
    }

    fn journal(&mut self) -> Result<(), String> {
        let at = self.rng.index(self.nodes.len());
        self.nodes[at].journal(&mut self.store, &mut self.rng, self.is_calm)
    }

    fn answer(&mut self) {
        if let Some(command) = self.outside.answer(&mut self.rng, self.is_calm)
            && let Command::Outcome { task, .. } = &command
        {
            let node = &mut self.nodes[self.moves.home(task.partition())];
            // Answers are never dropped: a full ring makes them wait. Here the shard makes room.
            while node.reserved.free() == 0 {
                node.shard.turn(self.now, &mut node.links, || 0);
            }
            node.send(command);
        }
    }

    fn pass_time(&mut self) {
        let ms = 1 + self.rng.up_to(40);
        self.now = Now { wall: self.now.wall + ms, mono: self.now.mono + ms };
    }

    /// The wall clock is set, forward or back.
    fn jump(&mut self) {
        let ms = self.rng.up_to(500);
        let wall = if self.rng.chance(50) { self.now.wall.0 + ms } else { self.now.wall.0 - ms };
        self.now.wall = Millis(wall);
    }

    /// The process dies and starts again.
    fn crash(&mut self) -> Result<(), String> {
        self.crashes += 1;
        for node in std::mem::take(&mut self.nodes) {
            node.crash(&mut self.store, &mut self.rng)?;
        }
        self.store.reopen(self.plan.partitions)?;
        self.outside.forget();
        self.clients.forget();
        self.count_crash()?;
        self.now.mono = Mono(self.rng.up_to(10_000));
        self.start(LastStop::Crash);
        Ok(())
    }

    /// The node drains, as on SIGTERM: nothing new, what is under way ends, then it starts again.
    fn restart(&mut self) -> Result<(), String> {
        if self.nodes.iter().any(|node| node.is_failed) {
            return Ok(());
        }
        for node in &mut self.nodes {
            while !node.send(Command::SetIntake(Intake::Draining)) {
                node.shard.turn(self.now, &mut node.links, || 0);
            }
        }
        self.is_calm = true;
        for _ in 0..DRAIN_STEPS_MAX {
            match self.rng.up_to(3) {
                0 => self.answer(),
                1 => self.journal()?,
                _ => self.turn()?,
            }
            let is_quiet =
                |node: &Node| node.is_settled() && node.reserved.free() == node.reserved.capacity();
            let is_calling = self.nodes.iter().any(|node| 0 < node.shard.machine().calling());
            if !is_calling && !self.outside.has_open() && self.nodes.iter().all(is_quiet) {
                self.is_calm = false;
                self.restarts += 1;
                self.nodes.clear();
                self.clients.forget();
                self.now.mono = Mono(self.rng.up_to(10_000));
                self.start(LastStop::Clean);
                return Ok(());
            }
        }
        let calling: usize = self.nodes.iter().map(|node| node.shard.machine().calling()).sum();
        Err(format!("a draining node did not come to rest; {calling} tasks are calling"))
    }

    /// A task that ran through three crashes in a row without getting anywhere must not start
    /// again.
    fn count_crash(&self) -> Result<(), String> {
        for (id, history) in &self.store.histories {
            let since = history.iter().rev().take_while(|record| !is_progress(&record.event));
            let is_start =
                |record: &&crate::event::Record| matches!(&*record.event, Event::Started { .. });
            let cut = since.clone().filter(|record| self.moves.has_cut(record)).count();
            // A start that a move cut short is no crash.
            let starts = since.filter(is_start).count().saturating_sub(cut);
            if (crate::limits::CRASHES_MAX as usize) < starts {
                return Err(format!("{id} was started {starts} times and crashed each time"));
            }
        }
        Ok(())
    }

    /// What must hold at any time.
    fn look(&mut self) -> Result<(), String> {
        if !self.store.dirty.is_empty() {
            self.look_at_tasks()?;
            self.store.dirty.clear();
        }
        for node in &self.nodes {
            if node.is_settled() && !node.is_failed && !node.shard.machine().has_open() {
                self.same_as_loaded(node)?;
            }
        }
        Ok(())
    }

    fn look_at_tasks(&self) -> Result<(), String> {
        for id in &self.clients.acknowledged {
            if !self.store.tasks.contains_key(id) && !self.store.removed.contains(id) {
                return Err(format!("{id} was acknowledged and is lost"));
            }
        }
        for id in &self.clients.cancelled {
            let task = self.store.tasks.get(id);
            if task.is_some_and(|task| task.state != State::Cancelled) {
                return Err(format!("{id} was cancelled and is {:?}", task.map(|task| task.state)));
            }
        }
        for (id, state) in &self.clients.ended {
            let now = self.store.tasks.get(id).map(|task| task.state);
            if *state != State::Failed && now.is_some_and(|now| now != *state) {
                return Err(format!("{id} was shown as {state:?} and is {now:?}"));
            }
        }
        self.whose_outputs()
    }

    /// Every output that was taken came from the holder of its time.
    fn whose_outputs(&self) -> Result<(), String> {
        for id in &self.store.dirty {
            let Some(last) = self.store.histories.get(id).and_then(|h| h.last()) else { continue };
            let Some(output) = last.event.payload().and_then(|payload| payload.bytes()) else {
                continue;
            };
            let text = String::from_utf8_lossy(output);
            let number = |name: &str| -> Option<u64> {
                let rest = text.strip_prefix(&format!("{{\"{name}\":"))?;
                rest.strip_suffix('}')?.parse().ok()
            };
            let fence = self.store.tasks[id].fence;
            let is_result =
                matches!(&*last.event, Event::StepEnded { .. } | Event::Succeeded { .. });
            if let (true, Some(n)) = (is_result, number("call"))
                && self.outside.fences.get(&n).is_some_and(|of| *of != (*id, fence))
            {
                return Err(format!("{id} took the answer of call {n}, which had another fence"));
            }
            if let (true, Some(n)) = (is_result, number("fence"))
                && n != fence.0
            {
                return Err(format!("{id} took a report with fence {n} while it was {fence:?}"));
            }
        }
        Ok(())
    }

    /// What the store would give back is what the shard has.
    fn same_as_loaded(&self, node: &Node) -> Result<(), String> {
        for id in &node.partitions {
            // On its way in.
            let Some(live) = node.shard.machine().partition(*id) else { continue };
            let live = live.image();
            let loaded = self.store.load(*id);
            if live != loaded {
                return Err(format!("{id:?}: live\n{live:#?}\nis not what is stored\n{loaded:#?}"));
            }
        }
        Ok(())
    }

    /// No more faults: everything that was taken in must come to its end.
    fn heal(&mut self) -> Result<(), String> {
        self.is_calm = true;
        if self.nodes.iter().any(|node| node.is_failed) {
            self.crash()?;
        }
        for _ in 0..40_000 {
            match self.rng.up_to(9) {
                0 | 1 => self.command(),
                2..=4 => self.turn()?,
                5 | 6 => self.journal()?,
                7 => self.answer(),
                8 => self.pass_time(),
                _ => self.settle(),
            }
            if self.is_over() {
                return self.look();
            }
        }
        let left: Vec<String> = self
            .store
            .tasks
            .values()
            .filter(|task| !task.state.is_ended())
            .map(|task| format!("{task:?}"))
            .collect();
        Err(format!("without faults these came to no end: {left:#?}"))
    }

    /// Somebody says what became of a call of unknown outcome.
    fn settle(&mut self) {
        let is_unknown = |task: &&Task| {
            let run = task.run.as_ref().filter(|_| task.state == State::Waiting);
            run.is_some_and(|run| run.open.iter().any(|open| open.state == OpenState::Unknown))
        };
        if let Some(id) = self.store.tasks.values().find(is_unknown).map(|task| task.id) {
            let command = self.clients.settle(&mut self.rng, id, self.is_calm);
            self.send(id.partition(), command);
        }
    }

    fn is_over(&self) -> bool {
        let is_quiet = self.nodes.iter().all(Node::is_settled) && !self.outside.has_open();
        is_quiet && self.store.tasks.values().all(|task| task.state.is_ended())
    }
}

/// Rules that most worlds come to the end of; of a generator of its own, so that worlds which were
/// noted down before there were breakers stay as they are but for this.
fn breaker(seed: u64) -> Option<BreakerRules> {
    let mut rng = Rng::new(seed ^ 0x6272_6561_6b65_7273);
    rng.chance(80).then(|| BreakerRules {
        attempts_min: 1 + rng.up_to(5) as u32,
        good_percent_min: 20 + rng.up_to(70) as u32,
        pause_ms: 10 + rng.up_to(300),
        pause_ms_max: 300 + rng.up_to(500),
    })
}

/// Whether a task gets somewhere by this, or ends: crashes before it are forgiven.
fn is_progress(event: &Event) -> bool {
    matches!(
        event,
        Event::StepEnded { .. }
            | Event::Waited { .. }
            | Event::RetryScheduled { .. }
            | Event::Retried { .. }
    )
}
