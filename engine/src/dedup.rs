//! The idempotency keys that a partition remembers, packed: there may be two million on a shard.

use crate::event::KeyRow;
use crate::id::{PartitionId, TaskId};
use crate::time::Millis;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A key as it stands in memory: 48 bytes, where a [`KeyRow`] is 64.
#[derive(Debug)]
struct Kept {
    /// Hash of tenant and key, high half first.
    hash: [u64; 2],
    fingerprint: u64,
    task: TaskId,
    /// [`NEVER`] while the task is live.
    expires_at: Millis,
}

const NEVER: Millis = Millis(u64::MAX);
const _: () = assert!(size_of::<Kept>() == 48);

/// The keys of one partition, by their hash.
#[derive(Debug)]
pub struct Keys {
    partition: PartitionId,
    table: HashTable<Kept>,
}

impl Keys {
    /// None, of `partition`.
    #[must_use]
    pub fn new(partition: PartitionId) -> Keys {
        Keys { partition, table: HashTable::new() }
    }

    /// Keys remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The key of that hash.
    #[must_use]
    pub fn get(&self, hash: u128) -> Option<KeyRow> {
        let hash = halves(hash);
        let kept = self.table.find(place(hash), |kept| kept.hash == hash)?;
        Some(self.row(kept))
    }

    /// Remembers a key. Panics where it is remembered already.
    pub fn insert(&mut self, row: KeyRow) {
        assert_eq!(row.partition, self.partition);
        let hash = halves(row.hash);
        let expires_at = row.expires_at.unwrap_or(NEVER);
        let kept = Kept { hash, fingerprint: row.fingerprint, task: row.task, expires_at };
        let entry =
            self.table.entry(place(hash), |kept| kept.hash == hash, |kept| place(kept.hash));
        match entry {
            Entry::Vacant(entry) => entry.insert(kept),
            Entry::Occupied(_) => panic!("a key made two tasks"),
        };
    }

    /// Sets when a key is forgotten, and gives it; `None` where it is not remembered.
    pub fn set_expiry(&mut self, hash: u128, expires_at: Option<Millis>) -> Option<KeyRow> {
        let hash = halves(hash);
        let kept = self.table.find_mut(place(hash), |kept| kept.hash == hash)?;
        kept.expires_at = expires_at.unwrap_or(NEVER);
        let kept = self.table.find(place(hash), |kept| kept.hash == hash)?;
        Some(self.row(kept))
    }

    /// Forgets a key.
    pub fn remove(&mut self, hash: u128) {
        let hash = halves(hash);
        if let Ok(entry) = self.table.find_entry(place(hash), |kept| kept.hash == hash) {
            entry.remove();
        }
    }

    /// All of them, in the order of their hashes.
    #[must_use]
    pub fn rows(&self) -> Vec<KeyRow> {
        let mut rows: Vec<KeyRow> = self.table.iter().map(|kept| self.row(kept)).collect();
        rows.sort_by_key(|row| row.hash);
        rows
    }

    fn row(&self, kept: &Kept) -> KeyRow {
        KeyRow {
            partition: self.partition,
            hash: (u128::from(kept.hash[0]) << 64) | u128::from(kept.hash[1]),
            fingerprint: kept.fingerprint,
            task: kept.task,
            expires_at: (kept.expires_at != NEVER).then_some(kept.expires_at),
        }
    }
}

fn halves(hash: u128) -> [u64; 2] {
    [(hash >> 64) as u64, hash as u64]
}

/// Where a key stands in the table. Its hash is one already, of a kind that nobody steers, but
/// the partition was taken from it, so that some of its bits are the same for all keys here.
fn place(hash: [u64; 2]) -> u64 {
    use std::hash::BuildHasher as _;
    crate::map::Fixed.hash_one(hash[0] ^ hash[1].rotate_left(32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_was_put_in_until_it_is_removed() {
        let mut keys = Keys::new(PartitionId(3));
        let task = TaskId::new(1, 2, PartitionId(3));
        let row = |n: u64, expires_at| KeyRow {
            partition: PartitionId(3),
            hash: (u128::from(n) << 100) | u128::from(n),
            fingerprint: n,
            task,
            expires_at,
        };
        for n in 1..200 {
            keys.insert(row(n, None));
        }
        let set = row(7, Some(Millis(9)));
        assert_eq!(keys.set_expiry(set.hash, set.expires_at), Some(set));
        assert_eq!(keys.get(set.hash), Some(set));
        assert_eq!(keys.get(row(8, None).hash), Some(row(8, None)));
        assert_eq!(keys.rows().len(), 199);
        keys.remove(set.hash);
        assert_eq!(keys.get(set.hash), None);
        assert_eq!((keys.len(), keys.set_expiry(set.hash, None)), (198, None));
    }
}
