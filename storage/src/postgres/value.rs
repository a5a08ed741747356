//! Cells to PostgreSQL's values and back, in its binary form.
//!
//! Its text cannot hold NUL, and a value that the server refuses would fail a commit for good.
//! Names from outside have no control characters, but that is for others to keep: a NUL is written
//! as U+0001 and `0`, U+0001 itself as U+0001 and `1`, and nothing else is changed.

use crate::error::Malformed;
use crate::rows::{Cell, Row};
use bytes::{BufMut, BytesMut};
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

const MARK: u8 = 1;

type Refused = Box<dyn Error + Sync + Send>;

/// A cell as a statement's parameter, or as one of an array's.
pub(crate) struct Value<'a>(pub(crate) Cell<'a>);

/// What a statement takes in one place.
#[derive(Debug)]
pub(crate) enum Param<'a> {
    /// One value.
    One(Value<'a>),
    /// An array, for a row each.
    Many(Vec<Value<'a>>),
}

impl Param<'_> {
    /// A number.
    pub(crate) fn int(n: i64) -> Param<'static> {
        Param::One(Value(Cell::Int(n)))
    }

    /// A number of 64 bits, bit by bit.
    pub(crate) fn bits(n: u64) -> Param<'static> {
        Param::int(n.cast_signed())
    }

    /// A size, as a number.
    pub(crate) fn count(n: usize) -> Param<'static> {
        Param::int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// Numbers.
    pub(crate) fn ints(all: impl IntoIterator<Item = i64>) -> Param<'static> {
        Param::Many(all.into_iter().map(|n| Value(Cell::Int(n))).collect())
    }

    /// Ids.
    pub(crate) fn ids<'i>(all: impl IntoIterator<Item = &'i [u8; 16]>) -> Param<'static> {
        Param::Many(all.into_iter().map(|id| Value(Cell::Bytes16(*id))).collect())
    }

    /// An id.
    pub(crate) fn id(id: [u8; 16]) -> Param<'static> {
        Param::One(Value(Cell::Bytes16(id)))
    }

    /// A text, or nothing.
    pub(crate) fn text(text: Option<&str>) -> Param<'_> {
        let cell = text.map_or(Cell::Null, |text| Cell::Text(Cow::Borrowed(text.as_bytes())));
        Param::One(Value(cell))
    }

    /// Bytes.
    pub(crate) fn bytes(bytes: &[u8]) -> Param<'_> {
        Param::One(Value(Cell::Bytes(Cow::Borrowed(bytes))))
    }
}

// The library prints parameters when it is told to log all: what tasks carry is not for logs.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Refused> {
        match &self.0 {
            Cell::Null => return Ok(IsNull::Yes),
            Cell::Int(n) if *ty == Type::INT8 => out.put_i64(*n),
            Cell::Int(n) if *ty == Type::INT4 => out.put_i32(i32::try_from(*n)?),
            Cell::Int(n) if *ty == Type::BOOL => out.put_u8(u8::from(*n != 0)),
            Cell::Text(text) if *ty == Type::TEXT => put_text(text, out),
            Cell::Bytes(bytes) if *ty == Type::BYTEA => out.put_slice(bytes),
            Cell::Bytes16(bytes) if *ty == Type::BYTEA || *ty == Type::UUID => out.put_slice(bytes),
            Cell::Bytes(bytes) if *ty == Type::UUID && bytes.len() == 16 => out.put_slice(bytes),
            _ => return Err(format!("a cell is no {ty}").into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl ToSql for Param<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Refused> {
        match self {
            Param::One(value) => value.to_sql(ty, out),
            Param::Many(values) => values.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| MARK < *byte)
}

fn put_text(text: &[u8], out: &mut BytesMut) {
    if is_plain(text) {
        return out.put_slice(text);
    }
    for byte in text {
        if *byte <= MARK {
            out.put_slice(&[MARK, b'0' + byte]);
        } else {
            out.put_u8(*byte);
        }
    }
}

/// The text that was written so; `None` when it never was.
fn text_of(written: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(written.len());
    let mut bytes = written.iter();
    while let Some(byte) = bytes.next() {
        text.push(match (*byte, (*byte == MARK).then(|| bytes.next())) {
            (byte, None) => byte,
            (_, Some(Some(b'0'))) => 0,
            (_, Some(Some(b'1'))) => MARK,
            _ => return None,
        });
    }
    Some(text)
}

/// A value as it came.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Raw<'a>, Refused> {
        Ok(Raw(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A row that was read, with the texts that are not as they were written.
pub(crate) struct Decoded<'r> {
    row: &'r tokio_postgres::Row,
    marked: Vec<(usize, Vec<u8>)>,
}

impl<'r> Decoded<'r> {
    pub(crate) fn new(row: &'r tokio_postgres::Row) -> Decoded<'r> {
        let texts = row.columns().iter().enumerate().filter(|(_, c)| *c.type_() == Type::TEXT);
        let marked = texts.filter_map(|(i, _)| {
            let Raw(written) = row.try_get::<_, Option<Raw<'_>>>(i).ok()??;
            // What makes no sense is left to be refused as it is.
            if is_plain(written) { None } else { Some((i, text_of(written)?)) }
        });
        Decoded { row, marked: marked.collect() }
    }

    /// A text of the statement's own, which is in the column of that place.
    pub(crate) fn text(&self, index: usize) -> Result<&str, Malformed> {
        let Cell::Text(Cow::Borrowed(text)) = self.cell(index) else { return Err(MALFORMED) };
        std::str::from_utf8(text).map_err(|_| MALFORMED)
    }

    /// Likewise a number.
    /// Text, or nothing.
    pub(crate) fn text_or_null(&self, index: usize) -> Result<Option<&str>, Malformed> {
        if let Cell::Null = self.cell(index) { Ok(None) } else { self.text(index).map(Some) }
    }

    pub(crate) fn int(&self, index: usize) -> Result<i64, Malformed> {
        let Cell::Int(n) = self.cell(index) else { return Err(MALFORMED) };
        Ok(n)
    }

    /// Likewise bytes.
    pub(crate) fn bytes(&self, index: usize) -> Result<&[u8], Malformed> {
        let Cell::Bytes(Cow::Borrowed(bytes)) = self.cell(index) else { return Err(MALFORMED) };
        Ok(bytes)
    }
}

const MALFORMED: Malformed = Malformed { table: "answer", column: "value" };

impl Row for Decoded<'_> {
    fn cell(&self, index: usize) -> Cell<'_> {
        if let Some((_, text)) = self.marked.iter().find(|(at, _)| *at == index) {
            return Cell::Text(Cow::Borrowed(text));
        }
        let Ok(value) = self.row.try_get::<_, Option<Raw<'_>>>(index) else { return Cell::Other };
        let Some(Raw(raw)) = value else { return Cell::Null };
        let ty = self.row.columns()[index].type_();
        let int = |raw: &[u8]| match *ty {
            Type::INT4 => raw.try_into().ok().map(|raw| i64::from(i32::from_be_bytes(raw))),
            Type::INT8 => raw.try_into().ok().map(i64::from_be_bytes),
            Type::BOOL => raw.first().map(|flag| i64::from(*flag)),
            _ => None,
        };
        match *ty {
            Type::TEXT => Cell::Text(Cow::Borrowed(raw)),
            Type::BYTEA | Type::UUID => Cell::Bytes(Cow::Borrowed(raw)),
            _ => int(raw).map_or(Cell::Other, Cell::Int),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(text: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_text(text, &mut out);
        out.to_vec()
    }

    proptest! {
        #[test]
        fn any_text_is_written_without_nul_and_read_back(text in "[\\x00-\\x02a-\u{e9}]{0,20}") {
            let written = written(text.as_bytes());
            prop_assert!(!written.contains(&0));
            prop_assert_eq!(text_of(&written), Some(text.into_bytes()));
        }
    }

    #[test]
    fn plain_text_is_as_it_is() {
        assert_eq!(written(b"a\tb"), b"a\tb");
        assert_eq!(written(b"a\0b\x01"), b"a\x010b\x011");
        assert_eq!(text_of(b"a\x01"), None);
        assert_eq!(text_of(b"a\x012"), None);
    }

    #[test]
    fn a_cell_of_another_type_is_refused_before_anything_is_sent() {
        let check = |cell: Cell<'_>, ty: Type| Value(cell).to_sql(&ty, &mut BytesMut::new());
        assert!(check(Cell::Int(1 << 40), Type::INT4).is_err());
        assert!(check(Cell::Int(1), Type::TEXT).is_err());
        assert!(check(Cell::Bytes(Cow::Borrowed(&[1; 15])), Type::UUID).is_err());
        assert!(matches!(check(Cell::Null, Type::UUID), Ok(IsNull::Yes)));
        assert!(matches!(check(Cell::Int(-1), Type::INT8), Ok(IsNull::No)));
    }
}
