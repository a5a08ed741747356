//! The partitions that a journal writes, with their fences: they change while the node runs.
//!
//! A commit holds them for as long as it is under way, so whoever takes one out knows that no
//! commit that relied on it is. Nobody else holds them for longer than a look.

use no_engine::id::{Fence, PartitionId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// They, held for a commit.
pub(crate) type Held<'o> = MutexGuard<'o, BTreeMap<u16, Fence>>;

/// The partitions of one journal. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Owned(Arc<Mutex<BTreeMap<u16, Fence>>>);

impl Owned {
    pub(crate) fn new(owned: &[(PartitionId, Fence)]) -> Owned {
        let owned = owned.iter().map(|(partition, fence)| (partition.0, *fence));
        Owned(Arc::new(Mutex::new(owned.collect())))
    }

    pub(crate) fn hold(&self) -> Held<'_> {
        // Nobody panics in between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has(&self, partition: u16) -> bool {
        self.hold().contains_key(&partition)
    }

    /// Adds a partition that was taken under this fence, before the shard has it.
    pub fn put(&self, partition: PartitionId, fence: Fence) {
        self.hold().insert(partition.0, fence);
    }

    /// Takes a partition out, once the shard has let it go; waits for a commit that is under way.
    /// Gives its fence.
    pub fn remove(&self, partition: PartitionId) -> Option<Fence> {
        self.hold().remove(&partition.0)
    }
}
