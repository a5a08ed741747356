//! Hash maps whose hash, and so whose order, is the same in every run: a seed replays everything.
//!
//! Keys are ids and hashes that nO made itself, so that nobody outside can choose colliding ones;
//! names from outside live in `BTreeMap`s. The mixer multiplies into 128 bits and folds,
//! as in Wang Yi, "wyhash", 2019.

use std::hash::{BuildHasher, Hasher};

/// A deterministic hash map.
#[expect(clippy::disallowed_types, reason = "this is the wrapper that fixes the hasher")]
pub type Map<K, V> = std::collections::HashMap<K, V, Fixed>;
/// A deterministic hash set.
#[expect(clippy::disallowed_types, reason = "this is the wrapper that fixes the hasher")]
pub type Set<K> = std::collections::HashSet<K, Fixed>;

/// Builds the one hasher.
#[derive(Clone, Copy, Default, Debug)]
pub struct Fixed;

/// The hasher.
#[derive(Clone, Copy, Debug)]
pub struct Mixer(u64);

impl BuildHasher for Fixed {
    type Hasher = Mixer;
    fn build_hasher(&self) -> Mixer {
        Mixer(0x243f_6a88_85a3_08d3)
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0_u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(bytes.len() as u64);
    }

    fn write_u64(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (wide as u64) ^ ((wide >> 64) as u64);
    }

    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        let x = self.0 ^ (self.0 >> 29);
        x.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (x >> 32)
    }
}

/// A hash of two words of which one is random: an id's. One multiplication, as it is looked up many
/// times a task.
#[must_use]
pub fn mix(high: u64, low: u64) -> u64 {
    let wide = u128::from(high ^ 0x243f_6a88_85a3_08d3) * u128::from(low ^ 0x9e37_79b9_7f4a_7c15);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// A hash of some bytes, the same in every run and version: it is kept in events.
#[must_use]
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    // FNV-1a (Fowler, Noll, Vo, 1991), a length between the parts.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().copied().chain((part.len() as u64).to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(stable_hash(&[b"ab", b"c"]), stable_hash(&[b"a", b"bc"]));
        assert_eq!(stable_hash(&[b"ab"]), stable_hash(&[b"ab"]));
    }
}
