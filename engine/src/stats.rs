//! A shard's own figures: counters and histograms with one writer, copied out on request and merged
//! by whoever shows them. No exporter here.
//!
//! Histograms: G. Tene's HdrHistogram, two significant digits.

use crate::breaker::Recent;
use crate::id::ShardId;
use crate::satisfaction::Scores;
use crate::task::State;
use crate::time::Millis;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The largest value that is told from larger ones: an hour in µs.
const VALUE_MAX: u64 = 3_600_000_000;

/// Latencies in µs, or sizes; values above an hour (3.6e9 µs) count as an hour.
#[derive(Clone, Debug)]
pub struct Latency(pub Histogram<u64>);

impl Default for Latency {
    fn default() -> Latency {
        // Grows with what is recorded: 2 KiB to begin with, where all of its range would be 26.
        Latency(Histogram::new(2).expect("constant digits"))
    }
}

impl Latency {
    /// Adds one value.
    pub fn record(&mut self, value: u64) {
        self.0.record(value.min(VALUE_MAX)).expect("it grows");
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("it grows");
    }
}

/// One agent's figures on one shard.
#[derive(Clone, Debug, Default)]
pub struct AgentStats {
    /// Tasks in memory by state, in the order of [`crate::task::STATES`]; of the ended ones only
    /// dead letters.
    pub live: [u64; 7],
    /// Tasks ended since start, by state in the same order.
    pub ended: [u64; 7],
    /// Tasks that hold a slot.
    pub active: u64,
    /// What ended in the last five minutes.
    pub recent: Recent,
    /// What people said of its results in the last 24 hours.
    pub feedback: Scores,
    /// Whether its breaker is open: its starts are held back.
    pub is_held_back: bool,
    /// Submission to end, in µs.
    pub duration_us: Latency,
    /// Ready to started, in µs.
    pub queue_wait_us: Latency,
}

impl AgentStats {
    /// Tasks in memory in `state`.
    #[must_use]
    pub fn live_in(&self, state: State) -> u64 {
        self.live[state as usize]
    }
}

/// Calls of one model or tool.
#[derive(Clone, Debug, Default)]
pub struct CallStats {
    /// Calls that gave an answer.
    pub ok: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Answer tokens.
    pub output_tokens: u64,
    /// Cost in millionths of a US dollar.
    pub cost_micro_usd: u64,
    /// Ordered to answered, in µs, of model calls that no restart cut.
    pub duration_us: Latency,
}

/// One shard's figures.
#[derive(Clone, Debug)]
pub struct ShardStats {
    /// Which shard.
    pub shard: ShardId,
    /// Turns that did something.
    pub turns: u64,
    /// A turn, drain to act, in µs.
    pub turn_us: Latency,
    /// Time deciding and acting, in µs.
    pub busy_us: u64,
    /// The part of `busy_us` in which commands were decided and batches closed.
    pub decide_us: u64,
    /// The rest of it: taking what the journal said, and sending what it released.
    pub act_us: u64,
    /// Time awake, in µs.
    pub awake_us: u64,
    /// Batch sent to durable, in µs.
    pub commit_us: Latency,
    /// Events in a batch.
    pub batch_records: Latency,
    /// Commits that failed.
    pub journal_errors: u64,
    /// Slots.
    pub slots: u64,
    /// Slots in use.
    pub slots_active: u64,
    /// Tasks in memory, dead letters among them.
    pub live_tasks: u64,
    /// When the longest waiting task became ready; see [`crate::queue::ReadyQueue::waiting_since`].
    pub waiting_since: Option<Millis>,
    /// Bytes of payload in memory.
    pub live_bytes: u64,
    /// Idempotency keys in memory.
    pub keys: u64,
    /// And at most.
    pub keys_max: u64,
    /// Commands refused, by the name of the reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Outcomes and reports that came with a stale fence.
    pub stale: u64,
    /// Tasks whose history came to the share of its bound that is warned of.
    pub long_histories: u64,
    /// By agent.
    pub agents: BTreeMap<Arc<str>, AgentStats>,
    /// By model.
    pub models: BTreeMap<Arc<str>, CallStats>,
    /// By tool.
    pub tools: BTreeMap<Arc<str>, CallStats>,
    /// Items waiting in each ring that the shard reads, by the ring's name.
    pub ring_depth: BTreeMap<&'static str, u64>,
    /// Sends that found a ring full, by the ring's name.
    pub ring_full: BTreeMap<&'static str, u64>,
    /// Whether the journal failed and the shard acknowledges nothing any more.
    pub is_halted: bool,
}

impl ShardStats {
    /// All zero.
    #[must_use]
    pub fn new(shard: ShardId) -> ShardStats {
        ShardStats {
            shard,
            turns: 0,
            turn_us: Latency::default(),
            busy_us: 0,
            decide_us: 0,
            act_us: 0,
            awake_us: 0,
            commit_us: Latency::default(),
            batch_records: Latency::default(),
            journal_errors: 0,
            slots: 0,
            slots_active: 0,
            live_tasks: 0,
            waiting_since: None,
            live_bytes: 0,
            keys: 0,
            keys_max: 0,
            refused: BTreeMap::new(),
            stale: 0,
            long_histories: 0,
            agents: BTreeMap::new(),
            models: BTreeMap::new(),
            tools: BTreeMap::new(),
            ring_depth: BTreeMap::new(),
            ring_full: BTreeMap::new(),
            is_halted: false,
        }
    }
}
