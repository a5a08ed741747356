//! Names of things: tasks, partitions, shards, attempts, fences.
//!
//! A [`TaskId`] is a UUIDv7 (RFC 9562, 2024) whose last 16 bits are its partition, so that any node
//! routes a task by its id alone. Ids sort by the time they were made.

use crate::error::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The fixed unit of ownership: a 1/P part of all tasks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PartitionId(pub u16);

/// A thread pinned to one core that owns partitions, numbered from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

/// A net core, numbered from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NetId(pub u16);

/// A try of a task, from 1; 0 before the first.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Attempt(pub u32);

/// Grows with every start, lease and interruption of a task, so that a stale holder is refused.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Fence(pub u64);

/// The number of a journaled effect within a task, from 1; 0 names the attempt as a whole.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Step(pub u32);

/// A place in a shard's journal: the number of a batch, from 1, without gaps while the shard lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seq(pub u64);

/// A net core's handle for one waiting request; means nothing to a shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// Where an answer goes: a net core and its handle for the request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplyTo {
    /// The net core that asked.
    pub net: NetId,
    /// Its handle.
    pub token: Token,
}

/// A task's name: a UUIDv7 whose last 16 bits carry the partition.
///
/// ```text
/// 48 bits ms since 1970 | 4 version 7 | 12 random | 2 variant | 46 random | 16 partition
/// ```
///
/// Two words, not one of 128 bits: that one is aligned to 16 bytes, and so would be every header
/// and timer that names a task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    high: u64,
    low: u64,
}

impl TaskId {
    /// Makes an id from wall time in ms, 58 bits of randomness (the rest of `random` is unused)
    /// and a partition.
    #[must_use]
    pub fn new(wall_ms: u64, random: u64, partition: PartitionId) -> TaskId {
        let high = (wall_ms << 16) | (0x7 << 12) | (random & 0xfff);
        let below = ((random >> 12) & 0x3fff_ffff_ffff) << 16;
        let id = TaskId { high, low: (0b10 << 62) | below | u64::from(partition.0) };
        assert_eq!(id.partition(), partition);
        id
    }

    /// The partition that owns this task.
    #[must_use]
    pub fn partition(self) -> PartitionId {
        PartitionId((self.low & 0xffff) as u16)
    }

    /// When the id was made, in ms since 1970.
    #[must_use]
    pub fn made_ms(self) -> u64 {
        self.high >> 16
    }

    /// The 16 bytes, big endian: they sort as the ids do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.to_u128().to_be_bytes()
    }

    /// The id of 16 big-endian bytes, or `None` where they are no UUIDv7.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<TaskId> {
        let raw = u128::from_be_bytes(bytes);
        let version = (raw >> 76) & 0xf;
        let variant = (raw >> 62) & 0b11;
        let id = TaskId { high: (raw >> 64) as u64, low: raw as u64 };
        (version == 7 && variant == 0b10).then_some(id)
    }

    /// The 128 bits as a number.
    #[must_use]
    pub fn to_u128(self) -> u128 {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; uuid::fmt::Hyphenated::LENGTH];
        f.write_str(uuid::Uuid::from_u128(self.to_u128()).hyphenated().encode_lower(&mut text))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TaskId {
    type Err = Error;

    /// Reads the hyphenated form; [`Error::IdMalformed`] for anything but a UUIDv7.
    fn from_str(text: &str) -> Result<TaskId, Error> {
        if text.len() != uuid::fmt::Hyphenated::LENGTH {
            return Err(Error::IdMalformed);
        }
        let uuid = uuid::Uuid::try_parse(text).map_err(|_| Error::IdMalformed)?;
        TaskId::from_bytes(uuid.into_bytes()).ok_or(Error::IdMalformed)
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0_u8; uuid::fmt::Hyphenated::LENGTH];
        serializer.serialize_str(
            uuid::Uuid::from_u128(self.to_u128()).hyphenated().encode_lower(&mut text),
        )
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TaskId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Attempt {
    /// The one after.
    #[must_use]
    pub fn next(self) -> Attempt {
        Attempt(self.0 + 1)
    }
}

impl Fence {
    /// The one after.
    #[must_use]
    pub fn next(self) -> Fence {
        Fence(self.0 + 1)
    }
}

impl Step {
    /// The one after.
    #[must_use]
    pub fn next(self) -> Step {
        Step(self.0 + 1)
    }
}

impl Seq {
    /// The one after.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_time_and_partition_and_survives_its_text() {
        for (ms, random, partition) in [(0, 0, 0), (1_764_000_000_123, u64::MAX, 63), (7, 42, 511)]
        {
            let id = TaskId::new(ms, random, PartitionId(partition));
            assert_eq!(id.partition(), PartitionId(partition));
            assert_eq!(id.made_ms(), ms);
            assert_eq!(id.to_string().parse::<TaskId>().expect("own text"), id);
            assert_eq!(TaskId::from_bytes(id.to_bytes()), Some(id));
        }
    }

    #[test]
    fn ids_sort_by_time() {
        let early = TaskId::new(1, u64::MAX, PartitionId(63));
        let late = TaskId::new(2, 0, PartitionId(0));
        assert!(early < late);
        assert!(early.to_bytes() < late.to_bytes());
    }

    #[test]
    fn other_uuids_are_refused() {
        for text in
            ["", "x", "018f3c4e-0000-4000-8000-000000000000", "018f3c4e000070008000000000000000"]
        {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }
}
