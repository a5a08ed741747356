//! Where frames stand: one file per shard, a circle of blocks behind a header.
//!
//! Frames are written one after the other, each whole, going on at the front when the end has no
//! room. Blocks are free again once the index has durably taken over what they hold. So the file
//! never grows beyond its bound, its blocks are overwritten instead of allocated anew (which makes
//! a sync half as dear), and a quiet node uses the first few only. At most one frame is under way:
//! of all frames on the disk only the newest can be torn, and a gap in the numbers is damage.
//!
//! Header, one block: magic 8 "nOjrnl01", bytes of the circle 8 (little endian), identity 16, key
//! 32. The identity ties the file to its index; see `frame.rs` for the key.

use super::frame::{BLOCK_BYTES, Frame, Key};
use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"nOjrnl01";
const BLOCK: u64 = BLOCK_BYTES as u64;

/// What ties a journal's file to its index.
pub(crate) type Identity = [u8; 16];

/// A shard's journal file, open for its one writer.
pub(crate) struct JournalFile {
    file: File,
    /// Bytes of the circle.
    bytes: u64,
    identity: Identity,
    key: Key,
    /// Frames that are still needed, oldest first.
    held: VecDeque<Held>,
    /// Where the next frame may begin, from the front of the circle.
    next: u64,
}

/// What stands in a file's first block.
pub(crate) struct Header {
    /// Bytes of the circle.
    pub(crate) bytes: u64,
    pub(crate) identity: Identity,
    pub(crate) key: Key,
}

impl Header {
    /// Reads the first block of the file at `path`.
    pub(crate) fn read(path: &Path, block: &[u8]) -> Result<Header> {
        let (magic, rest) = block.split_at(8);
        let (bytes, rest) = rest.split_at(8);
        let (identity, rest) = rest.split_at(16);
        let bytes = bytes.try_into().map_or(0, u64::from_le_bytes);
        if magic != MAGIC || bytes == 0 || !bytes.is_multiple_of(BLOCK) {
            return Err(damaged(path, "its header is not a journal's"));
        }
        let mut header = Header { bytes, identity: [0; 16], key: [0; 32] };
        header.identity.copy_from_slice(identity);
        header.key.copy_from_slice(&rest[..32]);
        Ok(header)
    }
}

struct Held {
    number: u64,
    start: u64,
}

/// Why a frame was not written.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no place before older frames are released.
    Held,
    /// It is larger than the whole circle.
    Large,
    /// There is no room on the disk. The frame does not count and may be written again.
    Full,
    /// The system said so, or the sync failed: nothing more may be written.
    Io(io::Error),
}

impl JournalFile {
    /// Makes a file at `path` of at most `bytes`, in place of what may be there.
    pub(crate) fn create(path: &Path, bytes: u64) -> Result<JournalFile> {
        let of_io = |error| Error::of_io(path, error);
        assert!(0 < bytes && bytes.is_multiple_of(BLOCK), "a circle of whole blocks");
        let mut random = [0_u8; 48];
        let source = Path::new("/dev/urandom");
        let read = File::open(source).and_then(|mut file| file.read_exact(&mut random));
        read.map_err(|error| Error::of_io(source, error))?;
        let (identity, key) = random.split_at(16);
        let mut header = vec![0_u8; BLOCK_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&bytes.to_le_bytes());
        header[16..32].copy_from_slice(identity);
        header[32..64].copy_from_slice(key);
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path);
        let file = file.map_err(of_io)?;
        file.write_all_at(&header, 0).and_then(|()| file.sync_all()).map_err(of_io)?;
        JournalFile::of(file, path, &header)
    }

    /// Opens the file at `path`; `None` where there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<JournalFile>> {
        let of_io = |error| Error::of_io(path, error);
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(of_io(error)),
        };
        let mut header = vec![0_u8; BLOCK_BYTES];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => JournalFile::of(file, path, &header).map(Some),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(damaged(path, "the file is too short"))
            }
            Err(error) => Err(of_io(error)),
        }
    }

    fn of(file: File, path: &Path, header: &[u8]) -> Result<JournalFile> {
        let Header { bytes, identity, key } = Header::read(path, header)?;
        let held = VecDeque::new();
        Ok(JournalFile { file, bytes, identity, key, held, next: 0 })
    }

    /// What its index knows it by.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// What its frames are checked with.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// The most that it may take on the disk, in bytes.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes
    }

    /// All whole frames with numbers above `after`, in order. Reads the file once.
    ///
    /// # Errors
    /// [`Error::Damaged`] when one is missing between them.
    pub(crate) fn frames_after(&self, path: &Path, after: u64) -> Result<Vec<Frame>> {
        let mut circle = Vec::new();
        let read = (&self.file).read_to_end_at(&mut circle, BLOCK);
        read.map_err(|error| Error::of_io(path, error))?;
        let mut frames = Vec::new();
        let mut at = 0;
        while at < circle.len() {
            let frame = Frame::read(&circle[at..], &self.key);
            at += frame.as_ref().map_or(BLOCK_BYTES, |frame| frame.bytes().len());
            frames.extend(frame.filter(|frame| after < frame.number));
        }
        frames.sort_unstable_by_key(|frame| frame.number);
        let is_whole = (after + 1..).zip(&frames).all(|(number, frame)| frame.number == number);
        if is_whole { Ok(frames) } else { Err(damaged(path, "a part of it is missing")) }
    }

    /// Writes a frame and syncs it.
    pub(crate) fn append(&mut self, frame: &Frame) -> std::result::Result<(), Refused> {
        let len = frame.bytes().len() as u64;
        if self.bytes < len {
            return Err(Refused::Large);
        }
        let Some(start) = self.place(len) else { return Err(Refused::Held) };
        self.file.write_all_at(frame.bytes(), BLOCK + start).map_err(|error| {
            use io::ErrorKind::{QuotaExceeded, StorageFull};
            let is_full = matches!(error.kind(), StorageFull | QuotaExceeded);
            if is_full { Refused::Full } else { Refused::Io(error) }
        })?;
        self.file.sync_data().map_err(Refused::Io)?;
        self.held.push_back(Held { number: frame.number, start });
        self.next = start + len;
        Ok(())
    }

    /// Where a frame of `len` bytes has room.
    fn place(&self, len: u64) -> Option<u64> {
        let Some(oldest) = self.held.front() else { return Some(0) };
        let (next, oldest) = (self.next, oldest.start);
        if next <= oldest {
            return (next + len <= oldest).then_some(next);
        }
        if next + len <= self.bytes {
            return Some(next);
        }
        (len <= oldest).then_some(0)
    }

    /// The number of the oldest frame that is held.
    pub(crate) fn oldest(&self) -> u64 {
        self.held.front().map_or(0, |held| held.number)
    }

    /// Frees the blocks of all frames up to number `through`.
    pub(crate) fn release(&mut self, through: u64) {
        while self.held.front().is_some_and(|held| held.number <= through) {
            self.held.pop_front();
        }
    }
}

pub(crate) fn damaged(path: &Path, why: &str) -> Error {
    Error::Damaged { path: PathBuf::from(path), why: why.to_owned() }
}

/// Reads all from a place on: the standard library has this for its own position only.
trait ReadToEndAt {
    fn read_to_end_at(&self, out: &mut Vec<u8>, at: u64) -> io::Result<()>;
}

impl ReadToEndAt for &File {
    fn read_to_end_at(&self, out: &mut Vec<u8>, at: u64) -> io::Result<()> {
        let len = self.metadata()?.len().saturating_sub(at);
        out.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        self.read_exact_at(out, at)
    }
}

#[cfg(test)]
mod tests;
