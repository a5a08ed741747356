//! One shard's core in virtual time: turns of the real shard, and commits of its journal's thread.

use super::{Costs, EVENTS_PER_TASK, PARTITIONS};
use no_engine::agent::definition::{Agent, Kind};
use no_engine::command::Command;
use no_engine::control::partitions_of;
use no_engine::doorbell::{Bell, doorbell};
use no_engine::effect::Effect;
use no_engine::event::Batch;
use no_engine::id::{Seq, ShardId};
use no_engine::limits::{Limits, RING_LEN};
use no_engine::machine::{LastStop, Machine};
use no_engine::permit::Permits;
use no_engine::port::{Ack, Loaded, Wake};
use no_engine::ring::{Receiver, Sender, ring};
use no_engine::shard::{Links, Shard};
use no_engine::time::{Millis, Mono, Now};
use std::sync::Arc;

/// A shard's core: its turns, and its journal's thread.
pub(super) struct Core {
    pub(super) shard: Shard,
    pub(super) links: Links,
    pub(super) commands: Sender<Command>,
    pub(super) effects: Receiver<Effect>,
    pub(super) batches: Receiver<Batch>,
    pub(super) acks: Sender<Ack>,
    pub(super) wants_turn: bool,
    pub(super) had_turn: bool,
    pub(super) running: Option<Running>,
    /// Batches that wait for the journal's thread.
    pub(super) written: Vec<Written>,
    pub(super) is_syncing: bool,
    pub(super) owed_ns: u64,
    pub(super) busy_ns: u64,
    /// When it last ended something.
    pub(super) worked_ns: u64,
}

/// What a shard's core runs.
pub(super) enum Running {
    Turn { batches: Vec<Written>, replies: Vec<usize> },
    Commit(Written),
}

/// A batch, or several, by what counts here.
#[derive(Clone, Copy)]
pub(super) struct Written {
    pub(super) through: Seq,
    pub(super) records: usize,
    pub(super) ended: usize,
}

struct Silent;
impl Wake for Silent {
    fn wake(&self) {}
}

fn bell() -> Bell {
    doorbell(Box::new(Silent)).0
}

impl Core {
    pub(super) fn new(shard: u16, shards: u16) -> Core {
        let limits = Limits::default();
        let now = Now { wall: Millis(0), mono: Mono(0) };
        let mut machine = Machine::new(ShardId(shard), limits.clone(), now, u64::from(shard));
        let echo = Arc::new(Agent::of_kind(Kind::Echo));
        machine.know_agent(&"echo".into(), Some((echo, false, Arc::new(Permits::new(None)))));
        for partition in partitions_of(ShardId(shard), PARTITIONS, shards) {
            machine.load(now, partition, Loaded::default(), LastStop::Clean);
        }
        let (commands, inbox) = ring(RING_LEN, bell());
        let (outbox, effects) = ring(RING_LEN, bell());
        let (batches_out, batches) = ring(limits.batches_in_flight_max, bell());
        let (acks, acks_in) = ring(limits.batches_in_flight_max, bell());
        let (inbox, outbox) = (vec![inbox], vec![outbox]);
        Core {
            shard: Shard::new(machine, &limits),
            links: Links { inbox, outbox, batches: batches_out, acks: acks_in },
            commands,
            effects,
            batches,
            acks,
            wants_turn: false,
            had_turn: false,
            running: None,
            written: Vec::new(),
            is_syncing: false,
            owed_ns: 0,
            busy_ns: 0,
            worked_ns: 0,
        }
    }

    /// Whether whoever has something for the shard must wake it.
    pub(super) fn is_asleep(&self, now_ns: u64, costs: &Costs) -> bool {
        let idle_us = now_ns.saturating_sub(self.worked_ns) as f64 / 1_000.0;
        self.running.is_none() && !self.wants_turn && costs.busy_poll_us <= idle_us
    }

    /// A turn of the real shard; what it gives leaves when its time has passed. Its cost in µs.
    pub(super) fn turn(&mut self, now_ns: u64, costs: &Costs) -> f64 {
        let ms = now_ns / 1_000_000;
        let turn = self.shard.turn(Now { wall: Millis(ms), mono: Mono(ms) }, &mut self.links, || 0);
        let mut batches = Vec::new();
        while let Some(batch) = self.batches.try_recv() {
            let ended = batch.records.iter().filter(|record| record.event.is_end()).count();
            let (through, records) = (batch.seq, batch.records.len());
            batches.push(Written { through, records, ended });
        }
        let mut replies = Vec::new();
        while let Some(effect) = self.effects.try_recv() {
            if let Effect::Reply { to, .. } = effect {
                replies.push(to.token.0 as usize);
            }
        }
        let records: usize = batches.iter().map(|batch| batch.records).sum();
        let decided_us = records as f64 / EVENTS_PER_TASK * costs.decide_us;
        let acted_us = replies.len() as f64 * (costs.act_us + costs.ring_us);
        (self.wants_turn, self.had_turn) = (turn.has_more, true);
        self.running = Some(Running::Turn { batches, replies });
        costs.turn_us + decided_us + acted_us
    }

    /// The journal's thread takes all batches that wait. Its cost in µs, without the disk.
    pub(super) fn commit(&mut self, costs: &Costs) -> f64 {
        let all = Written {
            through: self.written.last().expect("some wait").through,
            records: self.written.iter().map(|batch| batch.records).sum(),
            ended: self.written.iter().map(|batch| batch.ended).sum(),
        };
        self.written.clear();
        (self.is_syncing, self.had_turn) = (true, false);
        self.running = Some(Running::Commit(all));
        let each_us = costs.commit_us + costs.index_us;
        costs.commit_fixed_us + all.records as f64 / EVENTS_PER_TASK * each_us
    }
}
