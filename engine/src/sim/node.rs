//! One shard in the world, with the far ends of its rings: what the net core and the journal thread hold.

use super::store::Store;
use crate::command::Command;
use crate::doorbell::{Bell, doorbell};
use crate::effect::Effect;
use crate::event::Batch;
use crate::id::{PartitionId, ShardId};
use crate::limits::Limits;
use crate::machine::{Bug, LastStop, Machine};
use crate::port::{Ack, Wake};
use crate::ring::{Receiver, Sender, ring};
use crate::rng::Rng;
use crate::shard::{Links, Shard};
use crate::time::Now;
use std::collections::VecDeque;

/// A shard and the other ends of its rings.
pub(super) struct Node {
    id: ShardId,
    pub(super) shard: Shard,
    pub(super) links: Links,
    pub(super) partitions: Vec<PartitionId>,
    pub(super) reserved: Sender<Command>,
    pub(super) normal: Sender<Command>,
    pub(super) effects: Receiver<Effect>,
    batches: Receiver<Batch>,
    acks: Sender<Ack>,
    /// Taken from the ring, not yet written: a full disk holds them back.
    held: VecDeque<Batch>,
    is_full: bool,
    /// The journal failed: the process will be ended and started again.
    pub(super) is_failed: bool,
}

struct Nobody;
impl Wake for Nobody {
    fn wake(&self) {}
}

fn bell() -> Bell {
    doorbell(Box::new(Nobody)).0
}

/// How a world's shards are built.
pub(super) struct Plan {
    pub(super) partitions: u16,
    pub(super) shards: u16,
    pub(super) limits: Limits,
    pub(super) ring_len: usize,
    pub(super) bug: Option<Bug>,
}

impl Node {
    /// Starts a shard from what the store has.
    pub(super) fn start(
        plan: &Plan,
        shard: ShardId,
        store: &Store,
        agents: &super::workload::Agents,
        now: Now,
        last_stop: LastStop,
        rng: &mut Rng,
    ) -> Node {
        let mut machine = Machine::new(shard, plan.limits.clone(), now, rng.next_u64());
        if let Some(bug) = plan.bug {
            machine.plant(bug);
        }
        machine.set_shares(plan.shards, plan.limits.slots * usize::from(plan.shards));
        for (name, agent, permits) in agents {
            machine.know_agent(name, Some((agent.clone(), false, permits.clone())));
        }
        let partitions = crate::control::partitions_of(shard, plan.partitions, plan.shards);
        for id in &partitions {
            machine.load(now, *id, store.load(*id), last_stop);
        }
        let (reserved, reserved_in) = ring(plan.ring_len * 4, bell());
        let (normal, normal_in) = ring(plan.ring_len, bell());
        let (effects_out, effects) = ring(plan.ring_len, bell());
        let (batches_out, batches) = ring(plan.limits.batches_in_flight_max, bell());
        let (acks, acks_in) = ring(64, bell());
        let links = Links {
            inbox: vec![reserved_in, normal_in],
            outbox: vec![effects_out],
            batches: batches_out,
            acks: acks_in,
        };
        let id = shard;
        let shard = Shard::new(machine, &plan.limits);
        let held = VecDeque::new();
        Node {
            id,
            shard,
            links,
            partitions,
            reserved,
            normal,
            effects,
            batches,
            acks,
            held,
            is_full: false,
            is_failed: false,
        }
    }

    /// Sends a command on its lane; false when the ring is full.
    pub(super) fn send(&mut self, command: Command) -> bool {
        let lane = if command.is_reserved() { &mut self.reserved } else { &mut self.normal };
        lane.try_send(command).is_ok()
    }

    /// The journal thread does something: a group commit, a full disk, a failure.
    pub(super) fn journal(
        &mut self,
        store: &mut Store,
        rng: &mut Rng,
        is_calm: bool,
    ) -> Result<(), String> {
        if self.is_failed {
            return Ok(());
        }
        while self.held.len() < 8
            && let Some(batch) = self.batches.try_recv()
        {
            self.held.push_back(batch);
        }
        let Some(last) = self.held.back().map(|batch| batch.seq) else { return Ok(()) };
        if !is_calm && rng.chance(1) {
            self.is_failed = true;
            let _ = self.acks.try_send(Ack::Failed("fsync: input/output error".into()));
            return Ok(());
        }
        if !is_calm && rng.chance(3) {
            if !self.is_full {
                self.is_full = true;
                let _ = self.acks.try_send(Ack::Full);
            }
            return Ok(());
        }
        for batch in self.held.drain(..) {
            store.commit(self.id, &batch)?;
        }
        if std::mem::take(&mut self.is_full) {
            let _ = self.acks.try_send(Ack::Roomy);
        }
        let _ = self.acks.try_send(Ack::Durable { through: last, commit_us: 100 });
        Ok(())
    }

    /// The process dies: of what the journal was given, a beginning may have become durable.
    pub(super) fn crash(mut self, store: &mut Store, rng: &mut Rng) -> Result<(), String> {
        while let Some(batch) = self.batches.try_recv() {
            self.held.push_back(batch);
        }
        // One transaction covers all that is held when it is written: all of it, or nothing.
        let written = if self.is_failed { 0 } else { rng.index(self.held.len() + 1) };
        self.held.drain(..written).try_for_each(|batch| store.commit(self.id, &batch))
    }

    /// Whether nothing is under way between this shard and its store.
    pub(super) fn is_settled(&self) -> bool {
        self.shard.is_settled() && self.held.is_empty() && self.links.acks.is_empty()
    }
}
