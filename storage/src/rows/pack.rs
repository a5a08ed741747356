//! Cells as bytes and back: what a journal's entries and the packed column of a task's row are made
//! of.
//!
//! Each cell is one byte for its type and then, for a number, its zigzag variable-length form
//! (seven bits a byte, low ones first, as in Protocol Buffers), for text and bytes their length in
//! that form and themselves. A reader needs no copy: text and bytes are borrowed.
//!
//! ```text
//! 0                      absent
//! 1 varint               number, zigzag
//! 2 varint len, bytes    text
//! 3 varint len, bytes    bytes
//! ```

use super::{Cell, Row};
use std::borrow::Cow;

/// Appends the packed form of `cell` to `out`.
pub(crate) fn pack(out: &mut Vec<u8>, cell: &Cell<'_>) {
    match cell {
        Cell::Null | Cell::Other => out.push(0),
        Cell::Int(n) => {
            out.push(1);
            varint(out, ((n << 1) ^ (n >> 63)).cast_unsigned());
        }
        Cell::Text(text) => sized(out, 2, text),
        Cell::Bytes(bytes) => sized(out, 3, bytes),
        Cell::Bytes16(bytes) => sized(out, 3, bytes),
    }
}

fn sized(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while 0x80 <= n {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads packed cells one after the other.
pub(crate) struct Unpack<'a>(&'a [u8]);

impl<'a> Unpack<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Unpack<'a> {
        Unpack(bytes)
    }

    /// The next cell; `None` when the bytes do not make one.
    pub(crate) fn cell(&mut self) -> Option<Cell<'a>> {
        let (&kind, rest) = self.0.split_first()?;
        self.0 = rest;
        match kind {
            0 => Some(Cell::Null),
            1 => {
                let n = self.varint()?;
                Some(Cell::Int((n >> 1).cast_signed() ^ -(n & 1).cast_signed()))
            }
            2 => Some(Cell::Text(Cow::Borrowed(self.sized()?))),
            3 => Some(Cell::Bytes(Cow::Borrowed(self.sized()?))),
            _ => None,
        }
    }

    /// The next `N` cells and then the end, or `None`.
    pub(crate) fn cells<const N: usize>(&mut self) -> Option<[Cell<'a>; N]> {
        let mut cells = [const { Cell::Null }; N];
        self.read(&mut cells)?;
        Some(cells)
    }

    /// Likewise, in place: an array of many cells is dear to hand about.
    pub(crate) fn read(&mut self, cells: &mut [Cell<'a>]) -> Option<()> {
        for cell in cells {
            *cell = self.cell()?;
        }
        self.0.is_empty().then_some(())
    }

    /// Whether nothing follows.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if 63 == shift && 1 < bits {
                return None;
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Some(n);
            }
        }
        None
    }
}

impl<const N: usize> Row for [Cell<'_>; N] {
    fn cell(&self, index: usize) -> Cell<'_> {
        match &self[index] {
            Cell::Text(text) => Cell::Text(Cow::Borrowed(text)),
            Cell::Bytes(bytes) => Cell::Bytes(Cow::Borrowed(bytes)),
            other => other.clone(),
        }
    }
}
