//! The text of `GET /metrics` from figures of two shards that know so many agents: merging what the
//! shards say, and writing it out.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use no_engine::id::ShardId;
use no_engine::stats::{AgentStats, Latency, ShardStats};
use no_ops::exposition::{Format, render};
use no_ops::metrics::{AuthCounts, CostCounts, HttpStats, Snapshot};
use no_ops::process::ProcessInfo;
use std::sync::Arc;
use std::time::Duration;

/// Latencies as they are after some work.
fn latency() -> Latency {
    let mut latency = Latency::default();
    (0..2_000).for_each(|i| latency.record(100 + i * i % 20_000));
    latency
}

fn shard(number: u16, agents: usize) -> ShardStats {
    let mut stats = ShardStats::new(ShardId(number));
    (stats.turn_us, stats.commit_us) = (latency(), latency());
    for agent in 0..agents {
        let mut of_agent = AgentStats::default();
        of_agent.ended[4] = 2_000;
        (of_agent.duration_us, of_agent.queue_wait_us) = (latency(), latency());
        stats.agents.insert(Arc::from(format!("agent-{agent}")), of_agent);
    }
    stats
}

fn scrape(shards: &[ShardStats]) -> String {
    let (http, auth) = (HttpStats::default(), AuthCounts::default());
    let snapshot = Snapshot::new(
        shards.to_vec(),
        [],
        http,
        auth,
        CostCounts::default(),
        ProcessInfo::default(),
    );
    render(&snapshot, Format::Text)
}

fn scrapes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scrape");
    group.sample_size(20).warm_up_time(Duration::from_secs(1));
    group.measurement_time(Duration::from_secs(2));
    for agents in [10, 1_000] {
        let shards = [shard(0, agents), shard(1, agents)];
        group.throughput(Throughput::Bytes(scrape(&shards).len() as u64));
        group.bench_function(format!("{agents}_agents"), |bencher| {
            bencher.iter(|| scrape(&shards));
        });
    }
}

criterion_group!(benches, scrapes);
criterion_main!(benches);
