//! What follows from what was measured: how many durable submissions a second this machine takes
//! when the clients run elsewhere, and what limits it.
//!
//! Three limits, of which the lowest holds. Cores: net cores and shards share them in the best
//! whole numbers, each side as fast as its CPU time for a task allows. The disk's bandwidth: what a
//! task writes. The disk's syncs: a shard's commits follow each other, and each carries what came
//! in meanwhile, so a crowd of clients is answered once in about two syncs: one that was under way
//! when its request came, and its own. What cores share (caches, memory, interrupts) is left out,
//! so it is an upper bound.

use super::{Measured, node};
use serde::Serialize;

/// Clients, each with one request under way, that the sync limit is reckoned for.
const CROWD: f64 = 1_024.0;

/// A prediction with its reckoning.
#[derive(Clone, Debug, Serialize)]
pub struct Prediction {
    /// Durable submissions a second.
    pub tasks_per_second: f64,
    /// `cores`, `disk_bandwidth` or `disk_syncs`.
    pub limited_by: &'static str,
    /// Net cores of the best split.
    pub net_cores: u32,
    /// Shards of the best split.
    pub shards: u32,
    /// Each limit in words and numbers.
    pub arithmetic: Vec<String>,
}

/// Reckons.
#[must_use]
pub fn predict(measured: &Measured) -> Prediction {
    let Measured { disk, cores, node, .. } = measured;
    let usable: f64 = cores.cores.iter().map(|core| core.share).sum();
    let usable = cores.limit.map_or(usable, |limit| usable.min(limit));
    let (net_us, shard_us) = (node.net_us.max(0.01), node.shard_us.max(0.01));
    let (net_cores, shards, by_cores) = split(cores.cores.len(), usable, net_us, shard_us);
    let by_bandwidth = disk.write_mb_s * 1e6 / node.journal_bytes.max(1.0);
    let sync_us = disk.sync_p50_us.max(1) as f64;
    let by_syncs = CROWD * 1e6 / (2.0 * sync_us);
    let limits = [("cores", by_cores), ("disk_bandwidth", by_bandwidth), ("disk_syncs", by_syncs)];
    let lowest = limits.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let (limited_by, tasks_per_second) = lowest.unwrap_or(limits[0]);
    let cores_word = if cores.cores.len() == 1 {
        format!("{usable:.2} of 1 core / ({net_us:.1} + {shard_us:.1} µs) = {by_cores:.0}/s")
    } else {
        format!(
            "{usable:.2} of {} cores as {net_cores} net core(s), {net_us:.1} µs a task, and \
             {shards} shard(s), {shard_us:.1} µs a task: {by_cores:.0}/s",
            cores.cores.len()
        )
    };
    let arithmetic = vec![
        format!("cores: {cores_word}"),
        format!(
            "disk's bandwidth: {:.0} MB/s / {:.0} B a task = {by_bandwidth:.0}/s",
            disk.write_mb_s, node.journal_bytes
        ),
        format!("disk's syncs: {CROWD:.0} clients / (2 × {sync_us:.0} µs) = {by_syncs:.0}/s"),
        format!(
            "measured with {} clients on the same cores: {:.0}/s",
            node::CLIENTS,
            node.tasks_per_second
        ),
    ];
    Prediction { tasks_per_second, limited_by, net_cores, shards, arithmetic }
}

/// The best split of so many cores, of which so much is ours: net cores, shards, tasks a second.
fn split(count: usize, usable: f64, net_us: f64, shard_us: f64) -> (u32, u32, f64) {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    if count == 1 {
        return (1, 1, usable * 1e6 / (net_us + shard_us));
    }
    let share = usable / f64::from(count);
    let rate = |nets: u32| {
        let (nets, shards) = (f64::from(nets), f64::from(count - nets));
        share * 1e6 * (nets / net_us).min(shards / shard_us)
    };
    let best = (1..count).max_by(|a, b| rate(*a).total_cmp(&rate(*b))).unwrap_or(1);
    (best, count - best, rate(best))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{cores, disk};

    fn measured(cores_len: usize, sync_p50_us: u64, write_mb_s: f64) -> Measured {
        let core = |number| cores::Core { number, share: 1.0, hash_mb_s: 1.0 };
        Measured {
            disk: disk::Disk {
                syncs: 1,
                sync_p50_us,
                sync_p90_us: 0,
                sync_p99_us: 0,
                sync_max_us: 0,
                write_mb_s,
            },
            cores: cores::Cores {
                cpu: String::new(),
                mhz: None,
                limit: None,
                cores: (0..cores_len).map(core).collect(),
            },
            engine_us: 1.0,
            node: node::Node {
                net_us: 12.0,
                shard_us: 6.0,
                journal_bytes: 1_000.0,
                ..node::Node::default()
            },
        }
    }

    #[track_caller]
    fn check(measured: &Measured, limited_by: &str, tasks_per_second: f64, split: (u32, u32)) {
        let found = predict(measured);
        assert_eq!((found.limited_by, (found.net_cores, found.shards)), (limited_by, split));
        assert!((found.tasks_per_second - tasks_per_second).abs() < 1.0, "{found:?}");
    }

    #[test]
    fn the_lowest_limit_holds() {
        check(&measured(1, 100, 1e4), "cores", 1e6 / 18.0, (1, 1));
        check(&measured(2, 100, 1e4), "cores", 1e6 / 12.0, (1, 1));
        check(&measured(6, 100, 1e4), "cores", 4e6 / 12.0, (4, 2));
        check(&measured(6, 100, 20.0), "disk_bandwidth", 20_000.0, (4, 2));
        check(&measured(6, 10_000, 1e4), "disk_syncs", 51_200.0, (4, 2));
        let mut half = measured(2, 100, 1e4);
        half.cores.limit = Some(1.0);
        check(&half, "cores", 0.5e6 / 12.0, (1, 1));
    }
}
