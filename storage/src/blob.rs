//! The names of large payloads: the BLAKE3 hash of their bytes (O'Connor et al., 2020).
//!
//! The engine computes it; a store keeps the bytes under it, so it stays what it is for ever.

pub use no_engine::payload::hash;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_blake3_for_ever() {
        let name = hash(b"").to_string();
        assert_eq!(name, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    }
}
