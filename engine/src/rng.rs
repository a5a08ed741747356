//! The shard's seeded generator. What is drawn ends in an event, and so is never drawn again.
//!
//! SplitMix64: G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", 2014.

/// A small deterministic generator; not for secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng(u64);

impl Rng {
    /// A generator that gives the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..=max`.
    pub fn up_to(&mut self, max: u64) -> u64 {
        // The high half of a 128-bit product: bias below 2^-64 * max, far under what we could
        // notice.
        ((u128::from(self.next_u64()) * (u128::from(max) + 1)) >> 64) as u64
    }

    /// Uniform in `0..len`. Panics when `len` is 0.
    pub fn index(&mut self, len: usize) -> usize {
        assert!(0 < len, "nothing to choose from");
        self.up_to(len as u64 - 1) as usize
    }

    /// True in `percent` of 100 draws.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.up_to(99) < percent
    }

    /// An independent generator for another part.
    #[must_use]
    pub fn fork(&mut self) -> Rng {
        Rng(self.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_range_and_repeat() {
        let mut a = Rng::new(1);
        let mut b = Rng::new(1);
        for max in [0, 1, 7, u64::MAX] {
            let drawn = a.up_to(max);
            assert!(drawn <= max);
            assert_eq!(drawn, b.up_to(max));
        }
    }
}
