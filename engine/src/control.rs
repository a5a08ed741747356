//! The master controller's decisions, pure: which shard owns a partition, and how slots are shared
//! out; how large the pool is stands in [`pool`], which node owns what in [`nodes`].

pub mod nodes;
pub mod pool;

use crate::id::{PartitionId, ShardId};

/// The shard that owns `partition`: contiguous ranges of as equal a size as can be.
///
/// Panics when `partition` is not below `partitions`, or when there are no shards.
#[must_use]
pub fn placement(partition: PartitionId, partitions: u16, shards: u16) -> ShardId {
    assert!(0 < shards, "a node without shards");
    assert!(partition.0 < partitions, "no such partition");
    ShardId((u32::from(partition.0) * u32::from(shards) / u32::from(partitions)) as u16)
}

/// The partitions of one shard, in order. Empty where there are more shards than partitions.
#[must_use]
pub fn partitions_of(shard: ShardId, partitions: u16, shards: u16) -> Vec<PartitionId> {
    (0..partitions)
        .map(PartitionId)
        .filter(|partition| placement(*partition, partitions, shards) == shard)
        .collect()
}

/// This shard's part of `total`, at least 1: the parts of all shards add up to `total` where that
/// is at least the number of shards.
#[must_use]
pub fn share(total: usize, shard: ShardId, shards: u16) -> usize {
    assert!(shard.0 < shards, "no such shard");
    let (shard, shards) = (usize::from(shard.0), usize::from(shards));
    (total / shards + usize::from(shard < total % shards)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_one_owner_and_shares_are_even() {
        for (partitions, shards) in [(64, 1), (64, 3), (64, 64), (1, 1), (4096, 256), (4, 8)] {
            let mut seen = 0;
            for shard in 0..shards {
                let own = partitions_of(ShardId(shard), partitions, shards);
                assert!(own.len() <= usize::from(partitions).div_ceil(usize::from(shards)));
                seen += own.len();
            }
            assert_eq!(seen, usize::from(partitions));
        }
    }

    #[test]
    fn shares_add_up() {
        let sum: usize = (0..3).map(|shard| share(50, ShardId(shard), 3)).sum();
        assert_eq!(sum, 50);
        assert_eq!(share(1, ShardId(2), 3), 1);
    }
}
