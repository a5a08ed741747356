//! How a backup stands in its file.
//!
//! ```text
//! a frame of zstd: a tar of the parts, the manifest last
//! a skippable frame of zstd (RFC 8878, section 3.1.2):
//!   magic 50 2a 4d 18 · length of the rest 4, little endian
//!   "nObackup" 8 · bytes of all parts 8, little endian · BLAKE3 of all before 32
//! ```
//! So `tar --zstd -t` lists it, and one flipped bit anywhere is found before anything is unpacked.
//! The hash tells damage, not forgery: who can write the file can write its hash.

use super::manifest::{MANIFEST, Manifest, Part, PartNote};
use super::{OnBytes, failed, unfit};
use crate::error::Result;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tar::{Archive, Builder, EntryType, Header};

const SKIPPED: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
const NAME: &[u8; 8] = b"nObackup";
const HASH_BYTES: usize = 32;
/// The last frame.
const TAIL_BYTES: usize = 8 + NAME.len() + 8 + HASH_BYTES;
/// Most of the gain at the disk's speed: a node beside it keeps its cores.
const LEVEL: i32 = 1;
const BUFFER_BYTES: usize = 256 << 10;
/// A manifest has a line for each part; this is far beyond all of them.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// Hashes all that passes.
struct Hashing<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Hashing<T> {
        Hashing { inner, hasher: blake3::Hasher::new() }
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// A file that never has much to be written yet: a node's syncs wait for what others have (as ext4
/// orders it).
struct Steady {
    file: File,
    unsynced: usize,
}

/// So much may be, in bytes.
const UNSYNCED_MAX: usize = 8 << 20;

impl Write for Steady {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if UNSYNCED_MAX <= self.unsynced {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes one.
pub(super) struct Writer {
    tar: Builder<zstd::Encoder<'static, Hashing<Steady>>>,
    bytes: u64,
}

impl Writer {
    /// Begins in an empty file.
    pub(super) fn new(file: File) -> io::Result<Writer> {
        let steady = Steady { file, unsynced: 0 };
        let mut encoder = zstd::Encoder::new(Hashing::new(steady), LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Writer { tar: Builder::new(encoder), bytes: 0 })
    }

    /// Adds a part of so many bytes; its hash in hex.
    pub(super) fn add(&mut self, name: &str, part: impl Read, bytes: u64) -> io::Result<String> {
        let mut header = Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_entry_type(EntryType::Regular);
        let mut part = Hashing::new(part.take(bytes));
        self.tar.append_data(&mut header, name, &mut part)?;
        if part.inner.limit() != 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the part became shorter"));
        }
        self.bytes += bytes;
        Ok(part.hasher.finalize().to_hex().to_string())
    }

    /// Adds the manifest and the end, and syncs.
    pub(super) fn finish(mut self, manifest: &Manifest) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(manifest)?;
        self.add(MANIFEST, &text[..], text.len() as u64)?;
        let Hashing { inner, mut hasher } = self.tar.into_inner()?.finish()?;
        let mut file = inner.file;
        let mut tail = Vec::with_capacity(TAIL_BYTES);
        tail.extend_from_slice(&SKIPPED);
        tail.extend_from_slice(&((TAIL_BYTES - 8) as u32).to_le_bytes());
        tail.extend_from_slice(NAME);
        tail.extend_from_slice(&self.bytes.to_le_bytes());
        hasher.update(&tail);
        tail.extend_from_slice(hasher.finalize().as_bytes());
        file.write_all(&tail)?;
        file.sync_all()
    }
}

/// A file that is, to the last bit, what was written.
pub(super) struct Reader {
    path: PathBuf,
    file: File,
    /// Without the last frame.
    len: u64,
    /// Of all parts.
    pub(super) bytes: u64,
}

impl Reader {
    /// Opens a file and reads it through once.
    ///
    /// # Errors
    /// `Error::Backup` when it is none, was cut or has changed.
    pub(super) fn open(path: &Path, on_bytes: &mut OnBytes<'_>) -> Result<Reader> {
        let failed = failed(path);
        let mut file = File::open(path).map_err(&failed)?;
        let all = file.metadata().map_err(&failed)?.len();
        let Some(len) = all.checked_sub(TAIL_BYTES as u64) else {
            return Err(unfit(path, "it is too short for a backup"));
        };
        file.seek(SeekFrom::Start(len)).map_err(&failed)?;
        let mut tail = [0; TAIL_BYTES];
        file.read_exact(&mut tail).map_err(&failed)?;
        let (head, hash) = tail.split_at(TAIL_BYTES - HASH_BYTES);
        if head[..4] != SKIPPED || &head[8..16] != NAME {
            return Err(unfit(path, "it is no backup of nO, or its end is missing"));
        }
        let bytes = head[16..24].try_into().map_or(0, u64::from_le_bytes);
        let mut hasher = blake3::Hasher::new();
        file.seek(SeekFrom::Start(0)).map_err(&failed)?;
        let (mut buffer, mut done) = (vec![0; BUFFER_BYTES], 0);
        while done < len {
            let most = usize::try_from(len - done).unwrap_or(usize::MAX).min(buffer.len());
            let read = file.read(&mut buffer[..most]).map_err(&failed)?;
            if read == 0 {
                return Err(unfit(path, "it became shorter while it was read"));
            }
            hasher.update(&buffer[..read]);
            done += read as u64;
            on_bytes(done, len);
        }
        hasher.update(head);
        if hasher.finalize().as_bytes() != hash {
            return Err(unfit(path, "it is damaged: its content does not fit its hash"));
        }
        Ok(Reader { path: path.to_owned(), file, len, bytes })
    }

    /// Hands every part but the manifest to `take`, with its name, and gives the manifest, which
    /// fits them. A part must be read to its end.
    ///
    /// # Errors
    /// `Error::Backup` when it is not what this build writes; what `take` returns.
    pub(super) fn walk(
        &mut self,
        take: &mut dyn FnMut(&str, Part, &mut dyn Read) -> Result<()>,
    ) -> Result<Manifest> {
        let path = self.path.clone();
        let odd = |why: io::Error| unfit(&path, format!("its parts cannot be read: {why}"));
        self.file.seek(SeekFrom::Start(0)).map_err(odd)?;
        let frame = BufReader::with_capacity(BUFFER_BYTES, (&self.file).take(self.len));
        let decoder = zstd::Decoder::with_buffer(frame).map_err(odd)?.single_frame();
        let mut archive = Archive::new(decoder);
        let (mut notes, mut manifest) = (Vec::new(), None);
        for entry in archive.entries().map_err(odd)? {
            let entry = entry.map_err(odd)?;
            let name = entry.path().map_err(odd)?.to_string_lossy().into_owned();
            let part = Part::of(&name).filter(|_| manifest.is_none());
            let part = part.filter(|_| entry.header().entry_type() == EntryType::Regular);
            let Some(part) = part else {
                return Err(unfit(&path, format!("a part {name:?} does not belong into a backup")));
            };
            let bytes = entry.size();
            if part == Part::Manifest {
                let mut text = Vec::new();
                entry.take(MANIFEST_BYTES_MAX).read_to_end(&mut text).map_err(odd)?;
                let read = serde_json::from_slice::<Manifest>(&text);
                manifest = Some(read.map_err(|why| unfit(&path, format!("its manifest: {why}")))?);
                continue;
            }
            let mut hashing = Hashing::new(entry);
            take(&name, part, &mut hashing)?;
            let blake3 = hashing.hasher.finalize().to_hex().to_string();
            notes.push(PartNote { name, bytes, blake3, contents: None });
        }
        let manifest = manifest.ok_or_else(|| unfit(&path, "it has no manifest"))?;
        if let Some(why) = manifest.fault() {
            return Err(unfit(&path, why));
        }
        let plain = manifest.parts.iter().map(|part| PartNote { contents: None, ..part.clone() });
        if !plain.eq(notes) {
            return Err(unfit(&path, "its parts are not those of its manifest"));
        }
        Ok(manifest)
    }
}
