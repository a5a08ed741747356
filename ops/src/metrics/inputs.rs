//! What a scrape shows: figures of shards, net cores and the process, gathered and merged once.

use super::cost::CostCounts;
use super::life::Life;
use super::security::AuthCounts;
use crate::exposition::Distribution;
use crate::process::ProcessInfo;
use no_engine::stats::{AgentStats, CallStats, ShardStats};
use no_net::cluster::ClusterFigures;
use no_storage::sqlite::StoreReading;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One route's figures, those of all net cores together.
#[derive(Clone, Debug, Default)]
pub struct HttpSeries {
    /// The method.
    pub method: String,
    /// The pattern of the path, never a path.
    pub route: String,
    /// Requests by status; status 0 stands for any that is not counted by itself.
    pub by_status: Vec<(u16, u64)>,
    /// How long they took, in s, in the buckets that the net core counts.
    pub duration: Distribution,
}

/// What the net cores counted.
#[derive(Clone, Debug, Default)]
pub struct HttpStats {
    /// By route.
    pub series: Vec<HttpSeries>,
    /// Requests under way.
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
    /// Connections refused, as there were too many.
    pub connections_refused: u64,
    /// New work refused at the edge, in the order of [`no_net::admit::REFUSED`].
    pub refused: [u64; no_net::admit::REFUSED.len()],
    /// The longest wait that a net core foretells, in µs.
    pub foretold_us: u64,
}

/// Everything that one scrape shows.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) shards: Vec<ShardStats>,
    pub(crate) http: HttpStats,
    pub(super) auth: AuthCounts,
    pub(crate) cost: CostCounts,
    pub(crate) process: ProcessInfo,
    pub(super) store: Vec<StoreReading>,
    pub(super) life: Life,
    pub(super) spans: [(&'static str, u64); 3],
    pub(super) cluster: ClusterFigures,
    agents: BTreeMap<Arc<str>, AgentStats>,
    models: BTreeMap<Arc<str>, CallStats>,
    tools: BTreeMap<Arc<str>, CallStats>,
}

impl Snapshot {
    /// Adds what each shard's journal and index say, in the order of the shards.
    #[must_use]
    pub fn with_store(self, store: Vec<StoreReading>) -> Snapshot {
        Snapshot { store, ..self }
    }

    /// Adds the node's signs of life.
    #[must_use]
    pub fn with_life(self, life: Life) -> Snapshot {
        Snapshot { life, ..self }
    }

    /// Adds what became of spans, by outcome.
    #[must_use]
    pub fn with_spans(self, spans: [(&'static str, u64); 3]) -> Snapshot {
        Snapshot { spans, ..self }
    }

    /// Adds what the node knows of the others that share its database.
    #[must_use]
    pub fn with_cluster(self, cluster: ClusterFigures) -> Snapshot {
        Snapshot { cluster, ..self }
    }

    /// Merges what all shards say about agents, models and tools; `named` agents are shown even
    /// before their first task.
    #[must_use]
    pub fn new(
        shards: Vec<ShardStats>,
        named: impl IntoIterator<Item = Arc<str>>,
        http: HttpStats,
        auth: AuthCounts,
        cost: CostCounts,
        process: ProcessInfo,
    ) -> Snapshot {
        let mut now = Snapshot { http, auth, cost, process, ..Snapshot::default() };
        for name in named {
            now.agents.entry(name).or_default();
        }
        for shard in &shards {
            for (name, stats) in &shard.agents {
                add_agent(now.agents.entry(Arc::clone(name)).or_default(), stats);
            }
            for (name, stats) in &shard.models {
                add_calls(now.models.entry(Arc::clone(name)).or_default(), stats);
            }
            for (name, stats) in &shard.tools {
                add_calls(now.tools.entry(Arc::clone(name)).or_default(), stats);
            }
        }
        now.shards = shards;
        now
    }

    pub(crate) fn agents(&self) -> &BTreeMap<Arc<str>, AgentStats> {
        &self.agents
    }

    pub(crate) fn models(&self) -> &BTreeMap<Arc<str>, CallStats> {
        &self.models
    }

    pub(crate) fn tools(&self) -> &BTreeMap<Arc<str>, CallStats> {
        &self.tools
    }
}

fn add_agent(all: &mut AgentStats, more: &AgentStats) {
    for state in 0..all.live.len() {
        all.live[state] += more.live[state];
        all.ended[state] += more.ended[state];
    }
    all.active += more.active;
    all.recent.add(&more.recent);
    all.feedback.add(more.feedback);
    all.is_held_back |= more.is_held_back;
    all.duration_us.merge(&more.duration_us);
    all.queue_wait_us.merge(&more.queue_wait_us);
}

fn add_calls(all: &mut CallStats, more: &CallStats) {
    all.ok += more.ok;
    all.failed += more.failed;
    all.input_tokens += more.input_tokens;
    all.output_tokens += more.output_tokens;
    all.cost_micro_usd += more.cost_micro_usd;
    all.duration_us.merge(&more.duration_us);
}
