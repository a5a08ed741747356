//! What a task costs by layer, put together from those who do the work.
//!
//! A layer's sum is all its work since the start, whatever it was for, and every layer is shared by
//! the same count, the tasks that were accepted: so layers add up, and reads, refusals and worker
//! calls show as a dearer task.
//!
//! | layer | thread | what is in it |
//! | --- | --- | --- |
//! | `net` | net core | reading sockets, HTTP and JSON, routing, admission, writing sockets |
//! | `auth` | net core | the token and the permission |
//! | `ring` | net core | pushing commands, waking the shard, taking effects and waking who waits |
//! | `render` | net core | the bytes of answers |
//! | `decide` | shard | draining rings, deciding, timers, closing batches and sending them |
//! | `act` | shard | taking what the journal said, sending what it released, waking net cores |
//! | `commit` | journal | CPU time of commits; the wait for the disk is not in it |
//! | `index` | index | CPU time of taking commits over into the index, likewise |
//!
//! In none: the reactor's own system calls, accepting connections, calls out, the reader thread,
//! checkpoints. `no_thread_cpu_seconds_total` has those. The net core's layers are sampled (see
//! `no_net::cost`); all but `commit` and `index` are taken by the wall clock, so that on a shared
//! core they contain what others took of it.

use super::inputs::Snapshot;
use no_net::cost::{CostFigures, LAYERS};

/// What net cores counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostCounts {
    /// Tasks accepted by all net cores.
    pub tasks: u64,
    /// Work of all net cores, in ns, by [`LAYERS`].
    pub net_ns: [u64; LAYERS.len()],
}

impl CostCounts {
    /// Adds one net core's.
    pub fn add(&mut self, more: &CostFigures) {
        self.tasks += more.tasks;
        for (sum, more) in self.net_ns.iter_mut().zip(more.ns) {
            *sum += more;
        }
    }
}

/// Each layer's work so far, in s.
pub(super) fn by_layer(now: &Snapshot) -> Vec<(&'static str, f64)> {
    let net = LAYERS.into_iter().zip(now.cost.net_ns);
    let mut all: Vec<_> = net.map(|(layer, ns)| (layer.name(), ns as f64 / 1e9)).collect();
    let decide_us: u64 = now.shards.iter().map(|shard| shard.decide_us).sum();
    let act_us: u64 = now.shards.iter().map(|shard| shard.act_us).sum();
    all.push(("decide", decide_us as f64 / 1e6));
    all.push(("act", act_us as f64 / 1e6));
    let commit_ns: u64 = now.store.iter().map(|store| store.commit_ns).sum();
    let index_ns: u64 = now.store.iter().map(|store| store.index_ns).sum();
    all.push(("commit", commit_ns as f64 / 1e9));
    all.push(("index", index_ns as f64 / 1e9));
    all
}
