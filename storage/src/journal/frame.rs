//! One commit as it stands in a journal's file.
//!
//! ```text
//!  0  magic      4   "nOf1"
//!  4  length     4   of the entries, little endian
//!  8  number     8   one more than the frame before, little endian
//! 16  check     16   first half of the keyed BLAKE3 of bytes 0..16 and the entries
//! 32  entries
//!     zeros up to the next whole block
//! ```
//!
//! A frame begins at a block, so writing one never touches a sector of another. The key is random
//! and stands in the file's header: no payload can be made to look like a frame of this file
//! (O'Connor et al., "BLAKE3", 2020).

/// What is written and aligned as one, in bytes.
pub(crate) const BLOCK_BYTES: usize = 4_096;

/// Bytes in front of the entries.
pub(crate) const HEADER_BYTES: usize = 32;

const MAGIC: &[u8; 4] = b"nOf1";

/// What frames of one file are checked with.
pub(crate) type Key = [u8; 32];

/// The entries of one commit, and their place in the order of all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// From 1, without gaps.
    pub(crate) number: u64,
    bytes: Vec<u8>,
}

/// A frame that is being written.
pub(crate) struct Draft {
    bytes: Vec<u8>,
}

impl Draft {
    /// An empty one, in the memory of `buffer`.
    pub(crate) fn new(mut buffer: Vec<u8>) -> Draft {
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        Draft { bytes: buffer }
    }

    /// Where entries go.
    pub(crate) fn entries_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The entries so far.
    pub(crate) fn entries(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Its memory, to be used again.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether there are no entries yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES
    }

    /// Puts the header in front and zeros behind.
    pub(crate) fn seal(mut self, number: u64, key: &Key) -> Frame {
        let len = u32::try_from(self.bytes.len() - HEADER_BYTES).expect("bounded by the writer");
        self.bytes[..4].copy_from_slice(MAGIC);
        self.bytes[4..8].copy_from_slice(&len.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&number.to_le_bytes());
        let check = check(key, &self.bytes);
        self.bytes[16..HEADER_BYTES].copy_from_slice(&check);
        let padded = self.bytes.len().next_multiple_of(BLOCK_BYTES);
        self.bytes.resize(padded, 0);
        Frame { number, bytes: self.bytes }
    }
}

impl Frame {
    /// The frame that begins at the front of `bytes`, if one does that is whole.
    pub(crate) fn read(bytes: &[u8], key: &Key) -> Option<Frame> {
        let len = Frame::len_at(bytes)?;
        let (header, _) = bytes.split_at_checked(HEADER_BYTES)?;
        let number = u64::from_le_bytes(header[8..16].try_into().ok()?);
        let whole = bytes.get(..HEADER_BYTES + len)?;
        let is_sound = check(key, whole)[..] == header[16..];
        let padded = whole.len().next_multiple_of(BLOCK_BYTES);
        is_sound.then(|| Frame { number, bytes: bytes[..padded.min(bytes.len())].to_vec() })
    }

    /// The length of the entries that a header at the front of `bytes` claims.
    fn len_at(bytes: &[u8]) -> Option<usize> {
        let claimed = bytes.get(4..8)?.try_into().ok()?;
        (bytes.get(..4)? == MAGIC).then_some(u32::from_le_bytes(claimed) as usize)
    }

    /// The number that a header at the front of `bytes` claims, be the frame whole or not.
    pub(crate) fn claimed(bytes: &[u8]) -> Option<u64> {
        Frame::len_at(bytes)?;
        Some(u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?))
    }

    /// As it stands in the file: whole blocks.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its memory, to be used again.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The entries.
    pub(crate) fn entries(&self) -> &[u8] {
        let len = Frame::len_at(&self.bytes).unwrap_or(0);
        &self.bytes[HEADER_BYTES..HEADER_BYTES + len]
    }
}

/// The checksum of a frame whose header has its first 16 bytes.
fn check(key: &Key, bytes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&bytes[..16]);
    hasher.update(&bytes[HEADER_BYTES..]);
    let hash = hasher.finalize();
    let (half, _) = hash.as_bytes().split_at(16);
    let mut check = [0; 16];
    check.copy_from_slice(half);
    check
}

/// A frame as bytes, for tests of files.
#[cfg(test)]
pub(crate) fn sealed(number: u64, key: &Key, entries: &[u8]) -> Frame {
    let mut draft = Draft::new(Vec::new());
    draft.entries_mut().extend_from_slice(entries);
    draft.seal(number, key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Key = [7; 32];

    proptest! {
        #[test]
        fn a_frame_is_read_back_whole_or_not_at_all(
            number: u64, entries in prop::collection::vec(any::<u8>(), 0..9_000),
            at: prop::sample::Index, flip in 1..=255_u8,
        ) {
            let frame = sealed(number, &KEY, &entries);
            prop_assert_eq!(frame.bytes().len() % BLOCK_BYTES, 0);
            prop_assert_eq!(frame.entries(), &entries[..]);
            let back = Frame::read(frame.bytes(), &KEY);
            prop_assert_eq!(back.as_ref(), Some(&frame));
            prop_assert_eq!(Frame::read(frame.bytes(), &[8; 32]), None, "another file's");

            let used = HEADER_BYTES + entries.len();
            let mut damaged = frame.bytes().to_vec();
            damaged[at.index(used)] ^= flip;
            prop_assert_eq!(Frame::read(&damaged, &KEY), None);
            prop_assert_eq!(Frame::read(&frame.bytes()[..at.index(used)], &KEY), None);
        }
    }
}
