//! The master controller's decisions, pure as the rest.

use crate::id::{PartitionId, ShardId};

/// The shard that owns `partition` when `partitions` of them stand on `shards` shards.
///
/// Each shard owns one contiguous range, and no two differ in size by more than one. Panics when
/// there is no such partition or no shard.
#[must_use]
pub fn placement(partition: PartitionId, partitions: u16, shards: u16) -> ShardId {
    assert!(partition.0 < partitions, "no such partition");
    assert!(0 < shards, "no shard");
    let shard = u32::from(partition.0) * u32::from(shards) / u32::from(partitions);
    ShardId(shard as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(partitions: u16, shards: u16) {
        let homes: Vec<u16> =
            (0..partitions).map(|p| placement(PartitionId(p), partitions, shards).0).collect();
        assert!(homes.is_sorted(), "ranges are contiguous");
        let sizes: Vec<usize> =
            (0..shards).map(|shard| homes.iter().filter(|home| **home == shard).count()).collect();
        let (least, most) = (sizes.iter().min(), sizes.iter().max());
        assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), usize::from(partitions));
    }

    #[test]
    fn shards_own_contiguous_ranges_of_nearly_one_size() {
        for partitions in [1, 2, 7, 64, 4096] {
            for shards in [1, 2, 3, 5, 64, 256] {
                check(partitions, shards);
            }
        }
    }
}
