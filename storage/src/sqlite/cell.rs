//! Cells to SQLite's values and back; and SQL made of column lists.

use crate::rows::{Cell, Row};
use rusqlite::Statement;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use std::borrow::Cow;

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Cell::Null | Cell::Other => ValueRef::Null,
            Cell::Int(n) => ValueRef::Integer(*n),
            Cell::Text(text) => ValueRef::Text(text),
            Cell::Bytes(bytes) => ValueRef::Blob(bytes),
            Cell::Bytes16(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl Row for rusqlite::Row<'_> {
    fn cell(&self, index: usize) -> Cell<'_> {
        // Panics only for a column that the statement does not select: our own mistake.
        match self.get_ref_unwrap(index) {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(n) => Cell::Int(n),
            ValueRef::Text(text) => Cell::Text(Cow::Borrowed(text)),
            ValueRef::Blob(bytes) => Cell::Bytes(Cow::Borrowed(bytes)),
            ValueRef::Real(_) => Cell::Other,
        }
    }
}

/// Runs a statement once with `cells` as its parameters, in order.
pub(crate) fn execute<'a>(
    statement: &mut Statement<'_>,
    cells: impl IntoIterator<Item = &'a Cell<'a>>,
) -> rusqlite::Result<usize> {
    for (i, cell) in cells.into_iter().enumerate() {
        statement.raw_bind_parameter(i + 1, cell)?;
    }
    statement.raw_execute()
}

/// `INSERT` of a row with these columns.
pub(crate) fn insert_sql(table: &str, columns: &[&str]) -> String {
    let row = vec!["?"; columns.len()].join(",");
    format!("INSERT INTO {table} ({}) VALUES ({row})", columns.join(","))
}

/// `UPDATE` of the columns after the first `fixed` ones, by the first one. The parameters are those
/// columns in order, then the first.
pub(crate) fn update_sql(table: &str, columns: &[&str], fixed: usize) -> String {
    let changes = columns[fixed..].iter().enumerate();
    let changes: Vec<String> =
        changes.map(|(i, column)| format!("{column} = ?{}", i + 1)).collect();
    let last = columns.len() - fixed + 1;
    format!("UPDATE {table} SET {} WHERE {} = ?{last}", changes.join(","), columns[0])
}
