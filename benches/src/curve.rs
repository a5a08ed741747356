//! What more cores would give: a prediction, not a measurement.
//!
//! The real machine runs as N shards in virtual time. What each layer costs a task is an input, as
//! measured on the machine at hand; what it costs to wait is not, it comes of the queues: requests
//! wait for their net core, commands in rings for a turn, batches for the journal's thread, writes
//! for the one disk. Batches form by themselves, as in life: whatever came in while the last one
//! was written.
//!
//! Modelled: one core for each net core and one for each shard, on which its journal's thread runs
//! as well; a disk whose writes go one after the other at its bandwidth and whose syncs slow each
//! other down; clients that send their next request when the last was answered, on machines of
//! their own. Not modelled: cache lines and memory shared by cores, interrupts, the network,
//! checkpoints of the database. So it is an upper bound, the more so the more cores.

mod shard_core;

use no_engine::command::{AnswerWhen, Command};
use no_engine::control::placement;
use no_engine::id::{NetId, PartitionId, ReplyTo, TaskId, Token};
use no_engine::payload::Payload;
use no_engine::port::Ack;
use no_engine::rng::Rng;
use no_engine::task::NewTask;
use serde::{Deserialize, Serialize};
use shard_core::{Core, Running, Written};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

/// Partitions of the store: a shard needs one at least.
const PARTITIONS: u16 = 64;
/// Events of an `echo` task: submitted, started, succeeded.
const EVENTS_PER_TASK: f64 = 3.0;
/// A part that is busy for less than this share of the time does not limit.
const BUSY_RATIO_MIN: f64 = 0.85;

/// What one `echo` task costs, by layer, and what the disk does. Times in µs.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Reading, parsing and routing its request, on the net core.
    pub net_us: f64,
    /// Who is it, may they, on the net core.
    pub auth_us: f64,
    /// Handing over to another core, on the side that sends.
    pub ring_us: f64,
    /// Deciding all its events, on the shard's core.
    pub decide_us: f64,
    /// Releasing its reply, on the shard's core.
    pub act_us: f64,
    /// A turn of the shard, whatever is in it.
    pub turn_us: f64,
    /// Writing its events, on the journal's thread.
    pub commit_us: f64,
    /// A commit, whatever is in it: system calls, no waiting.
    pub commit_fixed_us: f64,
    /// Taking its events over into the index, on the shard's core as well.
    pub index_us: f64,
    /// Rendering and writing its answer, on the net core.
    pub render_us: f64,
    /// Waking a thread that sleeps, on the side that wakes.
    pub wake_us: f64,
    /// A shard without work looks for some for so long before it sleeps (`engine.busyPollUs`).
    pub busy_poll_us: f64,
    /// Bytes that it takes in the journal.
    pub journal_bytes: f64,
    /// A sync of the disk, alone.
    pub sync_us: f64,
    /// What each other sync under way adds to one.
    pub sync_crowd_us: f64,
    /// The disk's bandwidth, in MB/s.
    pub disk_mb_s: f64,
    /// Requests under way for each core: what the clients together keep up.
    pub requests_per_core: usize,
}

/// What so many cores are predicted to do, with the best split into net cores and shards.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Predicted {
    /// All cores.
    pub cores: usize,
    /// Net cores among them.
    pub net_cores: usize,
    /// Shards among them.
    pub shards: usize,
    /// Tasks run to `succeeded` and durable, a second.
    pub tasks_per_s: f64,
    /// Submission to answer, the median, in ms.
    pub answer_ms: f64,
    /// Share of the time in which net cores were busy.
    pub net_ratio: f64,
    /// Share of the time in which shards' cores were busy, journals included.
    pub shard_ratio: f64,
    /// Share of the time in which the disk was writing.
    pub disk_ratio: f64,
    /// What limits first.
    pub limit: String,
}

/// A prediction for each number of cores.
#[must_use]
pub fn curve(costs: &Costs, cores: &[usize], measured_us: u64) -> Vec<Predicted> {
    cores.iter().map(|cores| best_split(costs, *cores, measured_us)).collect()
}

/// Tries the splits around the ratio of the costs.
fn best_split(costs: &Costs, cores: usize, measured_us: u64) -> Predicted {
    assert!(2 <= cores, "a net core and a shard");
    let net = costs.net_us + costs.auth_us + costs.ring_us + costs.render_us;
    let shard = costs.decide_us + costs.act_us + costs.commit_us + costs.index_us + costs.ring_us;
    let even = (cores as f64 * net / (net + shard)).round() as usize;
    let least = (cores - 1).saturating_sub(usize::from(PARTITIONS)).max(1);
    let splits = even.saturating_sub(1).max(least)..=(even + 1).min(cores - 1);
    let splits = splits.map(|nets| World::new(*costs, nets, cores - nets).run(measured_us));
    let best = splits.max_by(|a, b| a.tasks_per_s.total_cmp(&b.tasks_per_s));
    best.unwrap_or_else(|| World::new(*costs, 1, cores - 1).run(measured_us))
}

/// The predictions as a table.
#[must_use]
pub fn table(predicted: &[Predicted]) -> String {
    let mut text = String::from(
        "predicted (simulated from costs measured on fewer cores)\n\
         cores  net  shards    tasks/s  answer ms   net  shard   disk  first limit\n",
    );
    for row in predicted {
        let _ = writeln!(
            text,
            "{:>5}  {:>3}  {:>6}  {:>9.0}  {:>9.2}  {:>3.0}%  {:>4.0}%  {:>4.0}%  {}",
            row.cores,
            row.net_cores,
            row.shards,
            row.tasks_per_s,
            row.answer_ms,
            row.net_ratio * 100.0,
            row.shard_ratio * 100.0,
            row.disk_ratio * 100.0,
            row.limit,
        );
    }
    text
}

fn ns(us: f64) -> u64 {
    (us * 1_000.0).round() as u64
}

/// A net core: one thing after the other.
#[derive(Default)]
struct Net {
    waiting: VecDeque<Answering>,
    under_way: Option<Answering>,
    /// Woke others meanwhile: comes on top of the next thing.
    owed_ns: u64,
    busy_ns: u64,
}

/// What a net core does for a client.
#[derive(Clone, Copy)]
enum Answering {
    Request { client: usize },
    Reply { client: usize },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    NetDone(usize),
    CoreDone(usize),
    Synced(usize),
}

struct World {
    costs: Costs,
    now_ns: u64,
    seq: u64,
    to_come: BinaryHeap<Reverse<(u64, u64, Happens)>>,
    nets: Vec<Net>,
    cores: Vec<Core>,
    /// What each journal has on the disk.
    syncing: Vec<Option<Written>>,
    syncs: u64,
    disk_free_ns: u64,
    disk_busy_ns: u64,
    /// When each client's request was sent.
    sent_ns: Vec<u64>,
    answers_ns: Vec<u64>,
    ended: u64,
    rng: Rng,
    names: [Arc<str>; 2],
    input: Payload,
}

impl World {
    fn new(costs: Costs, nets: usize, shards: usize) -> World {
        let clients = costs.requests_per_core * (nets + shards);
        let cores = (0..shards).map(|shard| Core::new(shard as u16, shards as u16));
        World {
            costs,
            now_ns: 0,
            seq: 0,
            to_come: BinaryHeap::new(),
            nets: (0..nets).map(|_| Net::default()).collect(),
            cores: cores.collect(),
            syncing: vec![None; shards],
            syncs: 0,
            disk_free_ns: 0,
            disk_busy_ns: 0,
            sent_ns: vec![0; clients],
            answers_ns: Vec::new(),
            ended: 0,
            rng: Rng::new(1),
            names: ["echo".into(), "default".into()],
            input: Payload::inline(b"{}"),
        }
    }

    /// A third as long to warm up, then so long measured.
    fn run(mut self, measured_us: u64) -> Predicted {
        for client in 0..self.sent_ns.len() {
            self.request(client);
        }
        self.run_until(ns(measured_us as f64 / 3.0));
        let began_ns = self.now_ns;
        (self.ended, self.disk_busy_ns) = (0, 0);
        self.answers_ns.clear();
        self.nets.iter_mut().for_each(|net| net.busy_ns = 0);
        self.cores.iter_mut().for_each(|core| core.busy_ns = 0);
        self.run_until(began_ns + ns(measured_us as f64));
        let passed_ns = self.now_ns - began_ns;
        self.predicted(passed_ns as f64)
    }

    fn run_until(&mut self, end_ns: u64) {
        while let Some(Reverse((at_ns, _, happens))) = self.to_come.pop() {
            self.now_ns = at_ns;
            match happens {
                Happens::NetDone(net) => self.net_done(net),
                Happens::CoreDone(core) => self.core_done(core),
                Happens::Synced(core) => self.synced(core),
            }
            if end_ns <= at_ns {
                return;
            }
        }
        panic!("nothing more happens: a request was lost");
    }

    fn predicted(mut self, passed_ns: f64) -> Predicted {
        let mean =
            |busy_ns: &[u64]| busy_ns.iter().sum::<u64>() as f64 / passed_ns / busy_ns.len() as f64;
        let most = |busy_ns: &[u64]| busy_ns.iter().copied().max().unwrap_or(0) as f64 / passed_ns;
        let nets: Vec<u64> = self.nets.iter().map(|net| net.busy_ns).collect();
        let cores: Vec<u64> = self.cores.iter().map(|core| core.busy_ns).collect();
        let (net_ratio, shard_ratio) = (mean(&nets), mean(&cores));
        let disk_ratio = self.disk_busy_ns as f64 / passed_ns;
        // The busiest counts: partitions do not divide evenly by every number of shards.
        let parts = [
            (most(&nets), "net cores"),
            (most(&cores), "shard cores"),
            (disk_ratio, "the disk's bandwidth"),
        ];
        let (most, name) = parts.into_iter().fold((0.0, ""), |a, b| if a.0 < b.0 { b } else { a });
        let limit = if BUSY_RATIO_MIN <= most { name } else { "requests under way" };
        self.answers_ns.sort_unstable();
        let answer_ns = self.answers_ns.get(self.answers_ns.len() / 2).copied().unwrap_or(0);
        Predicted {
            cores: self.nets.len() + self.cores.len(),
            net_cores: self.nets.len(),
            shards: self.cores.len(),
            tasks_per_s: self.ended as f64 / (passed_ns / 1e9),
            answer_ms: answer_ns as f64 / 1e6,
            net_ratio,
            shard_ratio,
            disk_ratio,
            limit: limit.into(),
        }
    }

    fn after(&mut self, passed_ns: u64, happens: Happens) {
        self.seq += 1;
        self.to_come.push(Reverse((self.now_ns + passed_ns, self.seq, happens)));
    }

    /// A client sends its next request. Its connection is to one net core.
    fn request(&mut self, client: usize) {
        self.sent_ns[client] = self.now_ns;
        self.give_net(client, Answering::Request { client });
    }

    fn give_net(&mut self, client: usize, what: Answering) {
        let net = client % self.nets.len();
        self.nets[net].waiting.push_back(what);
        self.go_on_net(net);
    }

    fn go_on_net(&mut self, at: usize) {
        let costs = self.costs;
        let net = &mut self.nets[at];
        if net.under_way.is_some() {
            return;
        }
        let Some(what) = net.waiting.pop_front() else { return };
        net.under_way = Some(what);
        let us = match what {
            Answering::Request { .. } => costs.net_us + costs.auth_us + costs.ring_us,
            Answering::Reply { .. } => costs.render_us,
        };
        let took_ns = ns(us) + std::mem::take(&mut net.owed_ns);
        net.busy_ns += took_ns;
        self.after(took_ns, Happens::NetDone(at));
    }

    fn net_done(&mut self, at: usize) {
        match self.nets[at].under_way.take().expect("it was busy") {
            Answering::Request { client } => self.submit(at, client),
            Answering::Reply { client } => {
                self.answers_ns.push(self.now_ns - self.sent_ns[client]);
                self.request(client);
            }
        }
        self.go_on_net(at);
    }

    fn submit(&mut self, net: usize, client: usize) {
        let partition = PartitionId(self.rng.up_to(u64::from(PARTITIONS) - 1) as u16);
        let new = NewTask::plain(
            TaskId::new(self.now_ns / 1_000_000, self.rng.next_u64(), partition),
            Arc::clone(&self.names[0]),
            Arc::clone(&self.names[1]),
            self.input.clone(),
        );
        let reply = ReplyTo { net: NetId(0), token: Token(client as u64) };
        let command = Command::Submit { reply, tasks: vec![new], when: AnswerWhen::Durable };
        let at = usize::from(placement(partition, PARTITIONS, self.cores.len() as u16).0);
        let core = &mut self.cores[at];
        assert!(core.commands.try_send(command).is_ok(), "fewer requests than a ring has places");
        if core.is_asleep(self.now_ns, &self.costs) {
            self.nets[net].owed_ns += ns(self.costs.wake_us);
        }
        core.wants_turn = true;
        self.go_on_core(at);
    }

    /// The core takes up a turn or a commit, whichever was not the last, if it is free.
    fn go_on_core(&mut self, at: usize) {
        let core = &mut self.cores[at];
        if core.running.is_some() {
            return;
        }
        let can_commit = !core.is_syncing && !core.written.is_empty();
        let us = if core.wants_turn && !(can_commit && core.had_turn) {
            core.turn(self.now_ns, &self.costs)
        } else if can_commit {
            core.commit(&self.costs)
        } else {
            return;
        };
        let took_ns = ns(us) + std::mem::take(&mut core.owed_ns);
        core.busy_ns += took_ns;
        self.after(took_ns, Happens::CoreDone(at));
    }

    fn core_done(&mut self, at: usize) {
        self.cores[at].worked_ns = self.now_ns;
        match self.cores[at].running.take().expect("it was busy") {
            Running::Turn { batches, replies } => {
                self.cores[at].written.extend(batches);
                for client in replies {
                    let net = &self.nets[client % self.nets.len()];
                    if net.under_way.is_none() {
                        self.cores[at].owed_ns += ns(self.costs.wake_us);
                    }
                    self.give_net(client, Answering::Reply { client });
                }
            }
            Running::Commit(written) => self.write(at, written),
        }
        self.go_on_core(at);
    }

    /// One disk for all: writes one after the other, syncs beside each other.
    fn write(&mut self, at: usize, written: Written) {
        let bytes = written.records as f64 / EVENTS_PER_TASK * self.costs.journal_bytes;
        let wrote_ns = ns(bytes / self.costs.disk_mb_s);
        self.disk_free_ns = self.disk_free_ns.max(self.now_ns) + wrote_ns;
        self.disk_busy_ns += wrote_ns;
        let crowd = self.costs.sync_crowd_us * self.syncs as f64;
        self.syncs += 1;
        self.syncing[at] = Some(written);
        let passed_ns = self.disk_free_ns - self.now_ns + ns(self.costs.sync_us + crowd);
        self.after(passed_ns, Happens::Synced(at));
    }

    fn synced(&mut self, at: usize) {
        let written = self.syncing[at].take().expect("it was on the disk");
        self.syncs -= 1;
        self.ended += written.ended as u64;
        let core = &mut self.cores[at];
        let ack = Ack::Durable { through: written.through, commit_us: 0 };
        assert!(core.acks.try_send(ack).is_ok(), "an ack for each batch at most");
        (core.is_syncing, core.wants_turn) = (false, true);
        self.go_on_core(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs {
        net_us: 6.0,
        auth_us: 0.2,
        ring_us: 0.1,
        decide_us: 0.6,
        act_us: 0.1,
        turn_us: 0.5,
        commit_us: 3.0,
        commit_fixed_us: 20.0,
        index_us: 0.0,
        render_us: 3.0,
        wake_us: 10.0,
        busy_poll_us: 0.0,
        journal_bytes: 600.0,
        sync_us: 135.0,
        sync_crowd_us: 30.0,
        disk_mb_s: 2_000.0,
        requests_per_core: 64,
    };

    #[test]
    fn more_cores_give_more_until_something_is_full() {
        let predicted = curve(&COSTS, &[4, 8], 20_000);
        let [four, eight] = &predicted[..] else { panic!("two rows") };
        assert_eq!(four.net_cores + four.shards, 4);
        assert!(four.tasks_per_s * 1.5 < eight.tasks_per_s, "{predicted:?}");
        // No more than the net cores can take, whatever the queues do.
        let most = four.net_cores as f64 * 1e6 / 9.3;
        assert!(four.tasks_per_s <= most * 1.01, "{predicted:?}");
        assert!(predicted.iter().all(|row| row.net_ratio <= 1.01 && row.shard_ratio <= 1.01));
    }

    #[test]
    fn a_slow_disk_is_named() {
        let costs = Costs { disk_mb_s: 20.0, ..COSTS };
        let predicted = curve(&costs, &[8], 60_000);
        assert_eq!(predicted[0].limit, "the disk's bandwidth", "{predicted:?}");
        assert!(predicted[0].tasks_per_s <= 20e6 / 600.0 * 1.05, "{predicted:?}");
    }

    #[test]
    fn few_requests_wait_for_the_disk() {
        let costs = Costs { requests_per_core: 1, sync_us: 4_000.0, ..COSTS };
        let predicted = curve(&costs, &[4], 100_000);
        assert_eq!(predicted[0].limit, "requests under way", "{predicted:?}");
        assert!(4.0 <= predicted[0].answer_ms, "{predicted:?}");
    }

    #[test]
    fn the_same_costs_give_the_same_curve_and_its_table() {
        let once = curve(&COSTS, &[4], 10_000);
        assert_eq!(once, curve(&COSTS, &[4], 10_000));
        assert!(table(&once).starts_with("predicted"));
    }
}
