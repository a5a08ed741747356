//! One frame of figures: what is now, and what happened since the frame before.

use crate::health::text_of;
use crate::metrics::Snapshot;
use crate::vitals::{Stage, Vitals};
use no_engine::stats::{CallStats, Latency, ShardStats};
use no_engine::task::{STATES, State};
use no_engine::time::Millis;
use no_net::time;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// The upper bound of the first bucket of a latency, in µs; each further one is twice as wide.
const FIRST_US: u64 = 64;
/// Buckets of a latency: the last holds all above some 18 minutes.
const BUCKETS: usize = 26;
/// The states that an ended task can be in.
const ENDS: [State; 3] = [State::Succeeded, State::Failed, State::Cancelled];

/// The sums of one moment, all since the start.
struct Sums {
    at: Instant,
    accepted: u64,
    ended: [u64; 7],
    task: Latency,
    queue: Latency,
    commit: Latency,
    shards: BTreeMap<u16, ShardSums>,
    agents: BTreeMap<Arc<str>, u64>,
}

struct ShardSums {
    busy_us: u64,
    turns: u64,
    commit: Latency,
}

/// Makes frames; remembers the sums of the last one.
#[derive(Default)]
pub(super) struct Figures {
    before: Option<Sums>,
}

impl Figures {
    /// The next frame, as JSON in one line.
    pub(super) fn shown(&mut self, now: &Snapshot, vitals: &Vitals, started_at: Millis) -> Value {
        let sums = sums(now);
        let before = self.before.as_ref();
        let interval_s = before.map(|before| (sums.at - before.at).as_secs_f64());
        let at = time::wall();
        let body = json!({
            "at": text_of(at),
            "interval_ms": interval_s.map(|seconds| (seconds * 1e3).round()),
            "version": env!("CARGO_PKG_VERSION"),
            "stage": match vitals.stage() {
                Stage::Starting => "starting",
                Stage::Ready => "ready",
                Stage::Draining => "draining",
            },
            "uptime_s": at.0.saturating_sub(started_at.0) / 1_000,
            "tasks": tasks(now),
            "since_start": since_start(&sums),
            "per_s": before.zip(interval_s).map(|(before, s)| per_s(&sums, before, s)),
            "latency": {
                "task": latency(&sums.task, before.map(|before| &before.task)),
                "queue": latency(&sums.queue, before.map(|before| &before.queue)),
                "commit": latency(&sums.commit, before.map(|before| &before.commit)),
            },
            "shards": shards(now, &sums, before, vitals),
            "agents": agents(now, &sums, before),
            "models": calls(now.models()),
            "tools": calls(now.tools()),
            "http": {"in_flight": now.http.in_flight, "connections": now.http.connections},
            "resources": {
                "cpu_ratio": now.process.cpu_ratio,
                "memory_ratio": now.process.memory_ratio,
                "disk_ratio": now.process.disk_ratio,
                "resident_bytes": now.process.resident_bytes,
            },
        });
        self.before = Some(sums);
        body
    }
}

/// What a frame says to the charts.
pub(super) fn charted(frame: &Value) -> Value {
    let task = &frame["latency"]["task"];
    json!({"at": frame["at"], "per_s": frame["per_s"], "latency": {"task": task}})
}

fn sums(now: &Snapshot) -> Sums {
    let mut sums = Sums {
        at: Instant::now(),
        accepted: now.cost.tasks,
        ended: [0; 7],
        task: Latency::default(),
        queue: Latency::default(),
        commit: Latency::default(),
        shards: BTreeMap::new(),
        agents: BTreeMap::new(),
    };
    for (name, agent) in now.agents() {
        sums.ended.iter_mut().zip(agent.ended).for_each(|(sum, more)| *sum += more);
        sums.task.merge(&agent.duration_us);
        sums.queue.merge(&agent.queue_wait_us);
        sums.agents.insert(Arc::clone(name), agent.ended.iter().sum());
    }
    for shard in &now.shards {
        sums.commit.merge(&shard.commit_us);
        let (busy_us, turns) = (shard.busy_us, shard.turns);
        let of_shard = ShardSums { busy_us, turns, commit: shard.commit_us.clone() };
        sums.shards.insert(shard.shard.0, of_shard);
    }
    sums
}

/// Tasks in memory by state.
fn tasks(now: &Snapshot) -> Map<String, Value> {
    let count = |state| now.agents().values().map(|agent| agent.live_in(state)).sum::<u64>();
    let states = STATES.into_iter().filter(|state| !state.is_ended() || *state == State::Failed);
    states.map(|state| (state.name().to_owned(), count(state).into())).collect()
}

fn since_start(sums: &Sums) -> Value {
    let mut shown = json!({"accepted": sums.accepted});
    for state in ENDS {
        shown[state.name()] = sums.ended[state as usize].into();
    }
    shown
}

fn per_s(now: &Sums, before: &Sums, interval_s: f64) -> Value {
    let rate = |now: u64, before: u64| rate(now, before, interval_s);
    let mut shown = json!({"accepted": rate(now.accepted, before.accepted)});
    for state in ENDS {
        let place = state as usize;
        shown[state.name()] = rate(now.ended[place], before.ended[place]).into();
    }
    shown
}

/// What came in a second, to a tenth.
fn rate(now: u64, before: u64, interval_s: f64) -> f64 {
    let more = now.saturating_sub(before) as f64;
    if 0.0 < interval_s { (more / interval_s * 10.0).round() / 10.0 } else { 0.0 }
}

/// What was recorded since `before`; all of it when there is none.
fn since(now: &Latency, before: Option<&Latency>) -> Latency {
    let mut fresh = now.clone();
    if let Some(before) = before
        && fresh.0.subtract(&before.0).is_err()
    {
        // Not of the same shard's life; there is nothing to tell then.
        return Latency::default();
    }
    fresh
}

/// Percentiles and buckets of what was recorded since the frame before; `null` without one.
fn latency(now: &Latency, before: Option<&Latency>) -> Value {
    let Some(before) = before else { return Value::Null };
    let fresh = since(now, Some(before)).0;
    let mut buckets = [0; BUCKETS];
    for cell in fresh.iter_recorded() {
        buckets[bucket_of(cell.value_iterated_to())] += cell.count_since_last_iteration();
    }
    let quantile = |q| (!fresh.is_empty()).then(|| fresh.value_at_quantile(q));
    json!({
        "count": fresh.len(),
        "p50_us": quantile(0.5),
        "p90_us": quantile(0.9),
        "p99_us": quantile(0.99),
        "max_us": quantile(1.0),
        "buckets": buckets,
    })
}

fn bucket_of(us: u64) -> usize {
    let over = us.div_ceil(FIRST_US).max(1).next_power_of_two();
    (over.trailing_zeros() as usize).min(BUCKETS - 1)
}

fn shards(now: &Snapshot, sums: &Sums, before: Option<&Sums>, vitals: &Vitals) -> Vec<Value> {
    let lives = vitals.shards();
    let shown = |stats: &ShardStats| {
        let number = stats.shard.0;
        let life = lives.get(usize::from(number));
        let now = &sums.shards[&number];
        let before = before.and_then(|all| all.shards.get(&number).map(|one| (all.at, one)));
        let share = before.map(|(at, before)| {
            let interval_us = (sums.at - at).as_micros().max(1) as f64;
            (now.busy_us.saturating_sub(before.busy_us) as f64 / interval_us).min(1.0)
        });
        let commit = before.map(|(_, before)| since(&now.commit, Some(&before.commit)).0);
        let commit = commit.filter(|commit| !commit.is_empty());
        let count = |state| stats.agents.values().map(|agent| agent.live_in(state)).sum::<u64>();
        json!({
            "shard": number,
            "is_alive": life.is_some_and(|life| life.is_alive()),
            "is_halted": stats.is_halted,
            "slots": stats.slots,
            "slots_active": stats.slots_active,
            "live_tasks": stats.live_tasks,
            "live_bytes": stats.live_bytes,
            "queued": count(State::Queued),
            "waiting": count(State::Waiting),
            "rings": stats.ring_depth,
            "busy_ratio": share,
            "turns": before.map(|(_, before)| now.turns.saturating_sub(before.turns)),
            "commit_p99_us": commit.map(|commit| commit.value_at_quantile(0.99)),
        })
    };
    now.shards.iter().map(shown).collect()
}

fn agents(now: &Snapshot, sums: &Sums, before: Option<&Sums>) -> Vec<Value> {
    let shown = |(name, agent): (&Arc<str>, &no_engine::stats::AgentStats)| {
        let ended = sums.agents[name];
        let rate = before.map(|before| {
            let was = before.agents.get(name).copied().unwrap_or_default();
            rate(ended, was, (sums.at - before.at).as_secs_f64())
        });
        json!({
            "name": name,
            "active": agent.active,
            "running": agent.live_in(State::Running),
            "queued": agent.live_in(State::Queued),
            "waiting": agent.live_in(State::Waiting),
            "failed": agent.live_in(State::Failed),
            "ended": ended,
            "ended_per_s": rate,
        })
    };
    now.agents().iter().map(shown).collect()
}

fn calls(all: &BTreeMap<Arc<str>, CallStats>) -> Vec<Value> {
    let shown = |(name, calls): (&Arc<str>, &CallStats)| {
        let latency = &calls.duration_us.0;
        json!({
            "name": name,
            "ok": calls.ok,
            "failed": calls.failed,
            "input_tokens": calls.input_tokens,
            "output_tokens": calls.output_tokens,
            "cost_usd": calls.cost_micro_usd as f64 / 1e6,
            "p50_us": (!latency.is_empty()).then(|| latency.value_at_quantile(0.5)),
        })
    };
    all.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency_of(values: &[u64]) -> Latency {
        let mut latency = Latency::default();
        values.iter().for_each(|value| latency.record(*value));
        latency
    }

    #[test]
    fn a_frame_tells_of_its_own_second() {
        let before = latency_of(&[100, 1_000_000]);
        let now = latency_of(&[100, 1_000_000, 500, 500]);
        let shown = latency(&now, Some(&before));
        assert_eq!(shown["count"], 2, "{shown}");
        assert_eq!(shown["buckets"][bucket_of(500)], 2);
        assert!(shown["max_us"].as_u64().is_some_and(|max| (500..520).contains(&max)), "{shown}");
        let quiet = latency(&now, Some(&now));
        assert_eq!((&quiet["count"], &quiet["p99_us"]), (&json!(0), &Value::Null));
        assert_eq!(latency(&now, None), Value::Null);
    }

    #[test]
    fn buckets_are_powers_of_two() {
        for (us, bucket) in [(0, 0), (64, 0), (65, 1), (128, 1), (129, 2), (u64::MAX / 2, 25)] {
            assert_eq!(bucket_of(us), bucket, "{us}");
        }
    }

    #[test]
    fn rates_are_by_the_second() {
        assert_eq!(rate(30, 10, 2.0), 10.0);
        assert_eq!(rate(10, 30, 1.0), 0.0, "a sum never falls");
        assert_eq!(rate(30, 10, 0.0), 0.0);
    }
}
