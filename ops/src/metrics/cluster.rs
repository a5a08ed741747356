//! What is shown of the nodes that share a database.

use super::{Family, counter, gauge};

pub(super) const NODES: Family = gauge(
    "no_cluster_nodes",
    &[],
    "Nodes that share the database and live, this one among them; 1 where the store is its own.",
    |now, out| out.count(&[], now.cluster.nodes),
);

pub(super) const PARTITIONS: Family = gauge(
    "no_cluster_partitions",
    &["owner"],
    "Partitions by who has them, as this node knows it: this node, another one, nobody.",
    |now, out| {
        let of = now.cluster;
        let by = [("this", of.here), ("other", of.there), ("nobody", of.unowned)];
        by.into_iter().for_each(|(owner, count)| out.count(&[owner], count));
    },
);

pub(super) const LEASE: Family = gauge(
    "no_cluster_lease_valid",
    &[],
    "1 while this node may answer for its partitions; 0 once it could not count for a lease.",
    |now, out| out.count(&[], u64::from(now.cluster.is_valid)),
);

pub(super) const MOVES: Family = counter(
    "no_cluster_moves_total",
    &["kind"],
    "Partitions that this node took and gave away.",
    |now, out| {
        let of = now.cluster;
        out.count(&["taken"], of.taken);
        out.count(&["given"], of.given);
    },
);

pub(super) const FORWARDED: Family = counter(
    "no_cluster_forwarded_total",
    &["outcome"],
    "Requests that were sent on to the node that has their partition, by what came of it.",
    |now, out| {
        let of = now.cluster;
        let by = [("answered", of.answered), ("moved", of.moved), ("unreached", of.unreached)];
        by.into_iter().for_each(|(outcome, count)| out.count(&[outcome], count));
    },
);
