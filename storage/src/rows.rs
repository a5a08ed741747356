//! The engine's values as table rows and back: the one mapping that all stores share.
//!
//! Writing gives a value's [`Cell`]s in the order of its column list; reading takes them in the
//! same order from anything that is a [`Row`]. Neither knows a database: a store names the columns
//! in its SQL by these lists, so the physical order is its own affair. Numbers of 64 bits are kept
//! bit by bit as signed ones. A row that makes no value is [`Malformed`], never a panic: it may
//! come from a damaged disk.

mod event;
mod pack;
mod small;
mod task;

#[cfg(test)]
mod tests;

pub(crate) use event::{HISTORY_FIRST, V1_EVENT_COLUMNS, records_of, v1_record_of, write_event};
pub(crate) use pack::{Unpack, pack};
pub(crate) use small::{
    AGENT_COLUMNS, FEEDBACK_COLUMNS, KEY_COLUMNS, agent_cells, agent_of, feedback_cells,
    feedback_of, key_cells, key_name, key_of,
};
pub(crate) use task::{TASK_COLUMNS, TASK_FIXED, V1_TASK_COLUMNS, task_cells, task_of, v1_task_of};

use crate::error::Malformed;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    /// Absent.
    Null,
    /// A number.
    Int(i64),
    /// UTF-8 text.
    Text(Cow<'a, [u8]>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// 16 bytes: an id or a key's hash.
    Bytes16([u8; 16]),
    /// Of a type that no column has. Only read, never written.
    Other,
}

impl<'a> Cell<'a> {
    fn text(text: &'a str) -> Cell<'a> {
        Cell::Text(Cow::Borrowed(text.as_bytes()))
    }

    fn text_or_null(text: Option<&'a str>) -> Cell<'a> {
        text.map_or(Cell::Null, Cell::text)
    }

    /// A number of 64 bits, bit by bit.
    fn bits(n: u64) -> Cell<'a> {
        Cell::Int(n.cast_signed())
    }

    fn bits_or_null(n: Option<u64>) -> Cell<'a> {
        n.map_or(Cell::Null, Cell::bits)
    }

    /// A number of at most 32 bits.
    fn small(n: impl Into<i64>) -> Cell<'a> {
        Cell::Int(n.into())
    }
}

/// Where cells are read from.
pub(crate) trait Row {
    /// The cell of the column of that place in the list that was selected.
    fn cell(&self, index: usize) -> Cell<'_>;
}

/// Reads a row's cells one after the other.
pub(crate) struct Cells<'r, R> {
    row: &'r R,
    table: &'static str,
    columns: &'static [&'static str],
    next: usize,
}

impl<'r, R: Row> Cells<'r, R> {
    pub(crate) fn new(
        row: &'r R,
        table: &'static str,
        columns: &'static [&'static str],
    ) -> Cells<'r, R> {
        Cells { row, table, columns, next: 0 }
    }

    fn take(&mut self) -> Cell<'r> {
        self.next += 1;
        self.row.cell(self.next - 1)
    }

    /// The error of the cell that was taken last.
    pub(crate) fn malformed(&self) -> Malformed {
        Malformed { table: self.table, column: self.columns[self.next - 1] }
    }

    fn int_or_null(&mut self) -> Result<Option<i64>, Malformed> {
        match self.take() {
            Cell::Null => Ok(None),
            Cell::Int(n) => Ok(Some(n)),
            _ => Err(self.malformed()),
        }
    }

    fn bits_or_null(&mut self) -> Result<Option<u64>, Malformed> {
        Ok(self.int_or_null()?.map(i64::cast_unsigned))
    }

    fn bits(&mut self) -> Result<u64, Malformed> {
        self.bits_or_null()?.ok_or_else(|| self.malformed())
    }

    fn small_or_null<N: TryFrom<i64>>(&mut self) -> Result<Option<N>, Malformed> {
        let n = self.int_or_null()?;
        n.map(|n| N::try_from(n).map_err(|_| self.malformed())).transpose()
    }

    fn small<N: TryFrom<i64>>(&mut self) -> Result<N, Malformed> {
        self.small_or_null()?.ok_or_else(|| self.malformed())
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        Ok(self.small::<u8>()? != 0)
    }

    fn text_or_null(&mut self) -> Result<Option<&'r str>, Malformed> {
        match self.take() {
            Cell::Null => Ok(None),
            Cell::Text(Cow::Borrowed(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.malformed()),
            },
            _ => Err(self.malformed()),
        }
    }

    fn text(&mut self) -> Result<&'r str, Malformed> {
        self.text_or_null()?.ok_or_else(|| self.malformed())
    }

    fn bytes_or_null<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Malformed> {
        match self.take() {
            Cell::Null => Ok(None),
            Cell::Bytes16(bytes) => bytes[..].try_into().map(Some).map_err(|_| self.malformed()),
            Cell::Bytes(bytes) => bytes[..].try_into().map(Some).map_err(|_| self.malformed()),
            _ => Err(self.malformed()),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes_or_null()?.ok_or_else(|| self.malformed())
    }

    fn json_or_null<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, Malformed> {
        let text = self.text_or_null()?;
        text.map(|text| serde_json::from_str(text).map_err(|_| self.malformed())).transpose()
    }
}

/// JSON of `value` as a text cell.
fn json_cell<'a>(
    value: &impl serde::Serialize,
    table: &'static str,
    column: &'static str,
) -> Result<Cell<'a>, Malformed> {
    match serde_json::to_vec(value) {
        Ok(text) => Ok(Cell::Text(Cow::Owned(text))),
        Err(_) => Err(Malformed { table, column }),
    }
}

/// Names kept once each: a million tasks of one agent share the text.
#[derive(Default)]
pub(crate) struct Names(HashMap<Box<str>, Arc<str>>);

/// Names that are remembered; those beyond are not shared.
const NAMES_MAX: usize = 16 * 1024;

impl Names {
    pub(crate) fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = Arc::from(name);
        if self.0.len() < NAMES_MAX {
            self.0.insert(Box::from(name), Arc::clone(&shared));
        }
        shared
    }
}
