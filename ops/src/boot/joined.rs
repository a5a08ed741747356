//! A node whose database others share takes its place among them.

use super::kept::Kept;
use super::{listen, store};
use crate::cluster::{self, ClusterThreads};
use crate::config::Config;
use crate::error::{Error, Result};
use no_net::NetOrders;
use no_net::cluster::{Cluster, NodeKey};
use no_storage::postgres::PgNode;
use std::sync::Arc;

/// The node's place among those that share its database, and what its net cores know of them.
pub(super) fn joined(
    config: &Config,
    store: &Kept,
    url: &str,
) -> Result<Option<(Arc<Cluster>, PgNode)>> {
    let (Some(of), Some(shared)) = (&config.database, store.as_shared()) else { return Ok(None) };
    let key = shared.store().node_key().map_err(store::refused)?;
    let key = NodeKey::of_hex(&key)
        .ok_or_else(|| Error::Store { why: "meta.node_key is not 32 bytes in hex".into() })?;
    let address = listen::advertised(url);
    let place = cluster::join(shared.store(), of, &address)?;
    Ok(Some((Arc::new(Cluster::new(&of.node, key, config.engine.partitions)), place)))
}

/// Has the node take its share.
pub(super) fn start_cluster(
    config: &Config,
    store: &Kept,
    joined: Option<(Arc<Cluster>, PgNode)>,
    orders: &NetOrders,
) -> Result<Option<ClusterThreads>> {
    let (Some((cluster, node)), Some(shared)) = (joined, store.as_shared()) else {
        return Ok(None);
    };
    let lease = config.database.as_ref().map(|of| of.lease).unwrap_or_default();
    let parts = cluster::Parts {
        store: shared.store().clone(),
        node,
        cluster,
        orders: orders.shards(),
        owned: shared.owned().to_vec(),
        lease,
        drain_timeout: config.service.drain_timeout,
    };
    ClusterThreads::start(parts).map(Some)
}
