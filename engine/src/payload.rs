//! A JSON text that nO carries without looking inside: inputs, outputs, results.
//!
//! Small ones travel inline. Larger ones than [`crate::limits::PAYLOAD_INLINE_BYTES_MAX`] are named
//! by the hash of their content: the journal writes the bytes once, and after that the shard holds
//! only the name. The bytes are valid JSON; whoever makes a payload from outside has checked that.

use crate::limits::PAYLOAD_INLINE_BYTES_MAX;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

/// A BLAKE3 hash of a payload's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// The BLAKE3 hash of `bytes`.
#[must_use]
pub fn hash(bytes: &[u8]) -> Hash {
    Hash(*blake3::hash(bytes).as_bytes())
}

/// One JSON text.
#[derive(Clone)]
pub enum Payload {
    /// At most [`PAYLOAD_INLINE_BYTES_MAX`] bytes, carried along.
    Inline(Arc<[u8]>),
    /// A larger one, stored once under its hash.
    Blob(Box<Blob>),
}

/// A large payload.
#[derive(Clone)]
pub struct Blob {
    /// The name.
    pub hash: Hash,
    /// The size, in bytes.
    pub bytes_len: u32,
    /// The content, until it is durable; `None` once only the store has it.
    pub bytes: Option<Arc<[u8]>>,
}

// Every header has an input: two words, as most are small.
const _: () = assert!(size_of::<Payload>() == 16);

impl Payload {
    /// The JSON `null`.
    #[must_use]
    pub fn null() -> Payload {
        Payload::Inline(Arc::from(&b"null"[..]))
    }

    /// A JSON string with this text.
    #[must_use]
    pub fn text(text: &str) -> Payload {
        let json = serde_json::to_vec(text).expect("a string serialises");
        Payload::new(&json, hash)
    }

    /// Wraps JSON `bytes`, naming them by `hash` (called only for large ones).
    #[must_use]
    pub fn new(bytes: &[u8], hash: impl FnOnce(&[u8]) -> Hash) -> Payload {
        if bytes.len() <= PAYLOAD_INLINE_BYTES_MAX {
            return Payload::Inline(Arc::from(bytes));
        }
        let bytes_len = u32::try_from(bytes.len()).expect("bounded by limits");
        Payload::blob(hash(bytes), bytes_len, Some(Arc::from(bytes)))
    }

    /// A large one, by its name.
    #[must_use]
    pub fn blob(hash: Hash, bytes_len: u32, bytes: Option<Arc<[u8]>>) -> Payload {
        Payload::Blob(Box::new(Blob { hash, bytes_len, bytes }))
    }

    /// A small JSON text made by nO itself.
    ///
    /// Panics when it is larger than what travels inline.
    #[must_use]
    pub fn inline(bytes: &[u8]) -> Payload {
        assert!(bytes.len() <= PAYLOAD_INLINE_BYTES_MAX, "not a small payload");
        Payload::Inline(Arc::from(bytes))
    }

    /// The bytes, where they are at hand.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Payload::Inline(bytes) => Some(bytes),
            Payload::Blob(blob) => blob.bytes.as_deref(),
        }
    }

    /// The size of the JSON text, in bytes.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        match self {
            Payload::Inline(bytes) => bytes.len(),
            Payload::Blob(blob) => blob.bytes_len as usize,
        }
    }

    /// The bytes that this value itself keeps in memory.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.bytes().map_or(0, <[u8]>::len)
    }

    /// The payload as state keeps it: a large one without its bytes, which the store has.
    #[must_use]
    pub fn stored(&self) -> Payload {
        match self {
            Payload::Inline(bytes) => Payload::Inline(Arc::clone(bytes)),
            Payload::Blob(blob) => Payload::blob(blob.hash, blob.bytes_len, None),
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        match (self, other) {
            (Payload::Inline(a), Payload::Inline(b)) => a == b,
            (Payload::Blob(a), Payload::Blob(b)) => a.hash == b.hash,
            _ => false,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Inline(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Payload::Blob(blob) => write!(f, "blob {:?} of {} B", blob.hash, blob.bytes_len),
        }
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Hash {
    type Err = crate::Error;
    /// Reads 64 hex digits.
    fn from_str(text: &str) -> crate::Result<Hash> {
        let mut hash = [0_u8; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 || !text.is_ascii() {
            return Err(crate::Error::IdMalformed);
        }
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| crate::Error::IdMalformed)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| crate::Error::IdMalformed)?;
        }
        Ok(Hash(hash))
    }
}

/// The stored form of a payload inside an event: `{"inline":…}` or
/// `{"blob":{"hash":…,"bytes_len":…}}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored<Raw> {
    Inline(Raw),
    Blob { hash: String, bytes_len: u32 },
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Payload::Inline(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(serde::ser::Error::custom)?;
                let raw: &RawValue =
                    serde_json::from_str(text).map_err(serde::ser::Error::custom)?;
                Stored::Inline(raw).serialize(serializer)
            }
            Payload::Blob(blob) => {
                let (hash, bytes_len) = (blob.hash.to_string(), blob.bytes_len);
                Stored::<&RawValue>::Blob { hash, bytes_len }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Payload, D::Error> {
        match Stored::<Box<RawValue>>::deserialize(deserializer)? {
            Stored::Inline(raw) => Ok(Payload::Inline(Arc::from(raw.get().as_bytes()))),
            Stored::Blob { hash, bytes_len } => {
                let hash = hash.parse().map_err(serde::de::Error::custom)?;
                Ok(Payload::blob(hash, bytes_len, None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_survive_their_stored_form() {
        let small = Payload::inline(br#"{"a": [1, "x"]}"#);
        let text = serde_json::to_string(&small).expect("serialises");
        assert_eq!(text, r#"{"inline":{"a": [1, "x"]}}"#);
        assert_eq!(serde_json::from_str::<Payload>(&text).expect("reads back"), small);

        let big = format!("\"{}\"", "x".repeat(PAYLOAD_INLINE_BYTES_MAX));
        let big = Payload::new(big.as_bytes(), |_| Hash([0xab; 32]));
        assert_eq!(big.resident_bytes(), big.bytes_len());
        assert_eq!(big.stored().resident_bytes(), 0);
        let text = serde_json::to_string(&big).expect("serialises");
        assert_eq!(serde_json::from_str::<Payload>(&text).expect("reads back"), big);
    }
}
