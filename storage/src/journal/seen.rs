//! A journal's file as it is read beside its writer, or without one: which whole frames are in it,
//! and where, and which begin and are not whole.
//!
//! The file is read once, from its front to its end, while blocks of it may be overwritten. A frame
//! that was durable before the reading began is found, unless it was overwritten before the reading
//! came by, and then the index had it: blocks are used again only after that. So whoever reads the
//! file first and how far the index is after it knows all that was durable in between. What the
//! reading finds of later frames may have gaps: one was written where it had already been.

use super::file::{Header, Identity, damaged};
use super::frame::{BLOCK_BYTES, Frame, Key};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// A file's content.
pub(crate) struct Seen {
    pub(crate) identity: Identity,
    /// The most that its circle may take, in bytes.
    pub(crate) bytes_max: u64,
    /// What it takes now, without the header.
    pub(crate) circle: Vec<u8>,
    /// Whole frames, in the order of their numbers.
    pub(crate) frames: Vec<Place>,
    /// Beginnings of frames that are not whole, likewise.
    pub(crate) broken: Vec<Place>,
    key: Key,
}

/// Where a frame stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) number: u64,
    /// From the front of the circle, in bytes.
    pub(crate) start: usize,
    pub(crate) bytes: usize,
}

impl Seen {
    /// Reads the file at `path`; `None` where there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Seen>> {
        let of_io = |error| Error::of_io(path, error);
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(of_io(error)),
        };
        let mut circle = vec![0; BLOCK_BYTES];
        match file.read_exact(&mut circle) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(damaged(path, "the file is too short"));
            }
            Err(error) => return Err(of_io(error)),
        }
        let Header { bytes, identity, key } = Header::read(path, &circle)?;
        circle.clear();
        // Nothing stands behind the bound, whatever a file claims.
        file.take(bytes).read_to_end(&mut circle).map_err(of_io)?;
        let (frames, broken) = (Vec::new(), Vec::new());
        let mut seen = Seen { identity, bytes_max: bytes, circle, frames, broken, key };
        seen.find();
        Ok(Some(seen))
    }

    fn find(&mut self) {
        let mut start = 0;
        while start < self.circle.len() {
            let mut bytes = BLOCK_BYTES;
            if let Some(frame) = Frame::read(&self.circle[start..], &self.key) {
                bytes = frame.bytes().len();
                self.frames.push(Place { number: frame.number, start, bytes });
            } else if let Some(number) = Frame::claimed(&self.circle[start..]) {
                self.broken.push(Place { number, start, bytes });
            }
            start += bytes;
        }
        self.frames.sort_unstable();
        self.broken.sort_unstable();
    }

    /// Frames behind number `applied` up to the first gap, and the number that is missing when
    /// there are others behind it.
    pub(crate) fn after(&self, applied: u64) -> (&[Place], Option<u64>) {
        let from = self.frames.partition_point(|place| place.number <= applied);
        let later = &self.frames[from..];
        let is_next = |(number, place): &(u64, &Place)| place.number == *number;
        let run = (applied + 1..).zip(later).take_while(is_next).count();
        let missing = (run < later.len()).then_some(applied + 1 + run as u64);
        (&later[..run], missing)
    }

    /// The frame at a place.
    pub(crate) fn frame(&self, place: Place) -> Option<Frame> {
        Frame::read(&self.circle[place.start..place.start + place.bytes], &self.key)
    }
}
