//! The master controller's decisions, pure: where a partition lives.
//!
//! Each shard owns one contiguous range of partitions, the ranges differ by one at most, and the
//! same two numbers always give the same answer: the edge, the shards and the store's reshard agree
//! without talking.

use crate::id::{PartitionId, ShardId};
use std::ops::Range;

/// The shard that owns `partition`, of `partitions` on `shards`: `partition * shards / partitions`.
///
/// Panics when there are no shards, or when there is no such partition; an id from outside is
/// checked before it comes here.
#[must_use]
pub fn shard_of(partition: PartitionId, partitions: u16, shards: u16) -> ShardId {
    assert!(0 < shards, "a node without shards");
    assert!(partition.0 < partitions, "no such partition");
    ShardId((u32::from(partition.0) * u32::from(shards) / u32::from(partitions)) as u16)
}

/// The partitions of `shard`, as a range of their numbers; empty when there are more shards than
/// partitions and this one got none.
#[must_use]
pub fn partitions_of(shard: ShardId, partitions: u16, shards: u16) -> Range<u16> {
    assert!(shard.0 < shards, "no such shard");
    let first = |shard: u32| (shard * u32::from(partitions)).div_ceil(u32::from(shards)) as u16;
    first(u32::from(shard.0))..first(u32::from(shard.0) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_one_shard_and_the_ranges_are_even() {
        for (partitions, shards) in
            [(64, 1), (64, 2), (64, 3), (64, 64), (7, 3), (2, 5), (4096, 255)]
        {
            let mut next = 0;
            for shard in 0..shards {
                let range = partitions_of(ShardId(shard), partitions, shards);
                assert_eq!(range.start, next);
                let even = partitions / shards;
                assert!(matches!(range.len() as u16 - even, 0 | 1), "{partitions} on {shards}");
                for partition in range.clone() {
                    let owner = shard_of(PartitionId(partition), partitions, shards);
                    assert_eq!(owner, ShardId(shard));
                }
                next = range.end;
            }
            assert_eq!(next, partitions);
        }
    }
}
