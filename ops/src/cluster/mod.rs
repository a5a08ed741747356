//! A node among others that share its database: it counts up to show that it lives, takes the
//! partitions that are its share, and gives away what is another's.
//!
//! `heart` is the thread that counts, on a connection of its own, whatever else takes long;
//! `keeper` is the one that looks at all nodes and moves partitions, by what
//! `no_engine::control::nodes` decides.

mod heart;
mod keeper;

use crate::config::checked::Database;
use crate::error::{Error, Result};
use heart::Heart;
use keeper::Keeper;
use no_net::ShardOrders;
use no_net::cluster::Cluster;
use no_storage::postgres::{Owned, PgNode, PgStore};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Looks, and counts, in the time of a lease.
const LOOKS_PER_LEASE: u32 = 6;

/// What the threads and who watches them share.
#[derive(Debug, Default)]
struct State {
    /// Why the node has to end: it is no node any more.
    fault: Mutex<Option<String>>,
    is_draining: AtomicBool,
    is_drained: AtomicBool,
    is_over: AtomicBool,
}

impl State {
    fn fail(&self, why: String) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.is_none() {
            tracing::error!(target: "cluster", why, "this node has lost its place");
            *fault = Some(why);
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
            || self.fault.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// What a node needs to be one of several.
pub struct Parts {
    /// The database.
    pub store: PgStore,
    /// The node's place in it.
    pub node: PgNode,
    /// What the net cores know.
    pub cluster: Arc<Cluster>,
    /// The way to the shards.
    pub orders: ShardOrders,
    /// What each shard's journal writes.
    pub owned: Vec<Owned>,
    /// How long a node lives that does not count.
    pub lease: Duration,
    /// How long a drain may take.
    pub drain_timeout: Duration,
}

/// The threads of a node's place among others.
pub struct ClusterThreads {
    state: Arc<State>,
    cluster: Arc<Cluster>,
    heart: JoinHandle<()>,
    keeper: JoinHandle<Keeper>,
}

impl ClusterThreads {
    /// Starts them, and returns once the node has what it may take now.
    ///
    /// # Errors
    /// [`Error::Store`] when the database does not let it.
    pub fn start(parts: Parts) -> Result<ClusterThreads> {
        let state = Arc::new(State::default());
        let cluster = Arc::clone(&parts.cluster);
        let refused = |error: no_storage::Error| Error::Store { why: error.to_string() };
        let pause = parts.lease / LOOKS_PER_LEASE;
        let heart = Heart {
            node: parts.node.another().map_err(refused)?,
            cluster: Arc::clone(&cluster),
            state: Arc::clone(&state),
            lease: parts.lease,
            pause,
        };
        let heart = crate::boot::spawn("no-heart", move || heart.run())?;
        let (ready, is_ready) = mpsc::channel();
        let keeper = Keeper::new(parts, Arc::clone(&state), pause).map_err(refused)?;
        let keeper = crate::boot::spawn("no-cluster", move || keeper.run(&ready))?;
        let threads = ClusterThreads { state, cluster, heart, keeper };
        match is_ready.recv() {
            Ok(Ok(())) => Ok(threads),
            Ok(Err(why)) => Err(Error::Store { why }),
            Err(_) => Err(Error::Store { why: "the thread that takes partitions is gone".into() }),
        }
    }

    /// Why the node has to end, if it has to.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.state.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins to give all partitions to the other nodes.
    pub fn drain(&self) {
        self.state.is_draining.store(true, Ordering::Release);
        self.cluster.wake();
    }

    /// Whether nothing is left that another node could take.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.state.is_drained.load(Ordering::Acquire) || self.state.is_over()
    }

    /// Ends the threads, once the journals have ended, and leaves the others what this node still
    /// has: `is_clean` is whether they may take it for left in good order.
    pub fn stop(self, is_clean: bool) {
        self.state.is_over.store(true, Ordering::Release);
        self.cluster.wake();
        self.heart.thread().unpark();
        // They panic only where they end the process.
        let keeper = self.keeper.join();
        let _ = self.heart.join();
        if let Ok(mut keeper) = keeper {
            keeper.end(is_clean);
        }
    }
}

/// The node's place in its database; nothing runs yet.
///
/// # Errors
/// [`Error::Store`].
pub fn join(store: &PgStore, of: &Database, address: &str) -> Result<PgNode> {
    let address = of.advertise.as_deref().unwrap_or(address);
    let joined = store.join(&of.node, address);
    joined.map_err(|error| Error::Store { why: error.to_string() })
}
