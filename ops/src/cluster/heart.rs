//! The thread that shows the others that this node lives.

use super::State;
use no_net::cluster::Cluster;
use no_storage::postgres::PgNode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// It and what it needs.
pub(super) struct Heart {
    pub(super) node: PgNode,
    pub(super) cluster: Arc<Cluster>,
    pub(super) state: Arc<State>,
    pub(super) lease: Duration,
    pub(super) pause: Duration,
}

impl Heart {
    /// Counts until the node ends or its name is another's.
    pub(super) fn run(mut self) {
        let mut is_away = false;
        while !self.state.is_over() {
            let began = Instant::now();
            match self.node.beat() {
                Ok(true) => {
                    if std::mem::take(&mut is_away) {
                        tracing::info!(target: "cluster", "this node counts again");
                    }
                    // Who looks has seen it no earlier than this; a tenth for clocks that run
                    // apart.
                    self.cluster.set_valid_until(began + self.lease - self.lease / 10);
                }
                Ok(false) => {
                    let name = self.node.name();
                    let do_what = "give each node a name of its own in service.node";
                    self.state.fail(format!("another node runs as {name}: {do_what}"));
                }
                Err(error) if is_away => tracing::debug!(target: "cluster", %error, "not counted"),
                Err(error) => {
                    is_away = true;
                    tracing::warn!(target: "cluster", %error, "this node could not count");
                }
            }
            // Woken at the end.
            std::thread::park_timeout(self.pause.saturating_sub(began.elapsed()));
        }
    }
}
