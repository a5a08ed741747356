//! Reads answers off a connection, in pieces as they come, several in a row when pipelined.
//!
//! Only what is counted is looked at: the status, whether there is a `Retry-After`, whether the
//! connection ends. Bodies are passed over without being kept, unless the caller counts rows in
//! them. Heads go through `httparse`; nothing is allocated for an answer that arrives in one piece.

use httparse::Status;

/// Headers that an answer may have.
const HEADERS_MAX: usize = 64;
/// Longest head, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status, 200 to 599.
    pub status: u16,
    /// Whether it has a `Retry-After`.
    pub has_retry_after: bool,
    /// Whether the connection ends with this answer.
    pub closes: bool,
}

/// The bytes are no HTTP answer that we can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What becomes of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    /// Passed over: the callback gets an empty one.
    Skip,
    /// Kept until they are whole.
    Keep,
}

/// The reading side of one connection.
#[derive(Debug)]
pub struct Parser {
    bodies: Bodies,
    /// What came of an answer that is not whole yet.
    kept: Vec<u8>,
    /// The head whose body is being passed over, with the bytes left of it.
    skipping: Option<(Head, usize)>,
    /// The body of a chunked answer, put together.
    joined: Vec<u8>,
}

enum Length {
    Bytes(usize),
    Chunked,
}

/// One step through the bytes.
enum Step {
    /// So many bytes are done with.
    Past(usize),
    /// The rest is needed first.
    Partial,
}

impl Parser {
    /// A parser for a fresh connection.
    #[must_use]
    pub fn new(bodies: Bodies) -> Parser {
        Parser { bodies, kept: Vec::new(), skipping: None, joined: Vec::new() }
    }

    /// Takes what was read and calls `on` for every answer that it completes, in order.
    ///
    /// # Errors
    /// When the bytes are not HTTP, or end only with the connection; close it then.
    pub fn feed(&mut self, bytes: &[u8], mut on: impl FnMut(Head, &[u8])) -> Result<(), Malformed> {
        if self.kept.is_empty() {
            let past = self.walk(bytes, &mut on)?;
            self.kept.extend_from_slice(&bytes[past..]);
            return Ok(());
        }
        self.kept.extend_from_slice(bytes);
        let mut kept = std::mem::take(&mut self.kept);
        let walked = self.walk(&kept, &mut on);
        kept.drain(..*walked.as_ref().unwrap_or(&0));
        self.kept = kept;
        walked.map(|_| ())
    }

    fn walk(&mut self, bytes: &[u8], on: &mut impl FnMut(Head, &[u8])) -> Result<usize, Malformed> {
        let mut past = 0;
        while past < bytes.len() {
            match self.step(&bytes[past..], on)? {
                Step::Past(more) => past += more,
                Step::Partial => break,
            }
        }
        Ok(past)
    }

    fn step(&mut self, bytes: &[u8], on: &mut impl FnMut(Head, &[u8])) -> Result<Step, Malformed> {
        if let Some((head, left)) = self.skipping {
            let past = left.min(bytes.len());
            self.skipping = (past < left).then_some((head, left - past));
            if self.skipping.is_none() {
                on(head, &[]);
            }
            return Ok(Step::Past(past));
        }
        let Some((head, length, head_len)) = head(bytes)? else {
            let is_long = HEAD_BYTES_MAX < bytes.len();
            return if is_long { Err(Malformed) } else { Ok(Step::Partial) };
        };
        let rest = &bytes[head_len..];
        match length {
            // An answer before the answer, such as 100.
            _ if head.status < 200 => Ok(Step::Past(head_len)),
            Length::Bytes(len) if len <= rest.len() => {
                on(head, &rest[..len]);
                Ok(Step::Past(head_len + len))
            }
            Length::Bytes(len) if self.bodies == Bodies::Skip => {
                self.skipping = Some((head, len - rest.len()));
                Ok(Step::Past(bytes.len()))
            }
            Length::Bytes(_) => Ok(Step::Partial),
            Length::Chunked => {
                let Some(len) = self.join(rest)? else { return Ok(Step::Partial) };
                on(head, &self.joined);
                Ok(Step::Past(head_len + len))
            }
        }
    }

    /// Joins the chunks; the length of them all with their sizes, `None` when more must come.
    fn join(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        self.joined.clear();
        let mut at = 0;
        loop {
            let size = httparse::parse_chunk_size(&bytes[at..]).map_err(|_| Malformed)?;
            let Status::Complete((line_len, len)) = size else { return Ok(None) };
            let len = usize::try_from(len).map_err(|_| Malformed)?;
            let start = at + line_len;
            let end = start.checked_add(len).and_then(|end| end.checked_add(2)).ok_or(Malformed)?;
            if bytes.len() < end {
                return Ok(None);
            }
            // Trailers are not among what nO or its peers send, so the last chunk ends it all.
            if &bytes[end - 2..end] != b"\r\n" {
                return Err(Malformed);
            }
            self.joined.extend_from_slice(&bytes[start..end - 2]);
            at = end;
            if len == 0 {
                return Ok(Some(at));
            }
        }
    }
}

/// The head at the start of the bytes with its own length; `None` when more must come.
fn head(bytes: &[u8]) -> Result<Option<(Head, Length, usize)>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let len = match answer.parse(bytes).map_err(|_| Malformed)? {
        Status::Complete(len) => len,
        Status::Partial => return Ok(None),
    };
    let status = answer.code.ok_or(Malformed)?;
    let mut head = Head { status, has_retry_after: false, closes: answer.version == Some(0) };
    let is_bare = status < 200 || status == 204 || status == 304;
    let mut length = is_bare.then_some(Length::Bytes(0));
    for header in answer.headers.iter() {
        // Lengths differ, so most names are told apart without being compared.
        match header.name.len() {
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                length = Some(Length::Bytes(number(header.value)?));
            }
            11 if header.name.eq_ignore_ascii_case("retry-after") => head.has_retry_after = true,
            10 if header.name.eq_ignore_ascii_case("connection") => {
                head.closes |= header.value.eq_ignore_ascii_case(b"close");
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                length = Some(Length::Chunked);
            }
            _ => {}
        }
    }
    Ok(Some((head, length.ok_or(Malformed)?, len)))
}

fn number(digits: &[u8]) -> Result<usize, Malformed> {
    std::str::from_utf8(digits).ok().and_then(|text| text.trim().parse().ok()).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = Vec<(u16, bool, bool, Vec<u8>)>;

    /// What comes out when the bytes come in pieces of that size.
    fn seen(bodies: Bodies, bytes: &[u8], piece: usize) -> Result<Seen, Malformed> {
        let (mut parser, mut seen) = (Parser::new(bodies), Vec::new());
        for part in bytes.chunks(piece) {
            parser.feed(part, |head, body| {
                seen.push((head.status, head.has_retry_after, head.closes, body.to_vec()));
            })?;
        }
        Ok(seen)
    }

    const THREE: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhello\
        HTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 503 Busy\r\nretry-after: 1\r\ntransfer-encoding: chunked\r\n\r\n\
        3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n\
        HTTP/1.1 204 None\r\nConnection: close\r\n\r\n";

    #[test]
    fn answers_come_out_the_same_however_they_are_cut() {
        let whole = vec![
            (202, false, false, b"hello".to_vec()),
            (503, true, false, b"abcde".to_vec()),
            (204, false, true, Vec::new()),
        ];
        for piece in 1..=THREE.len() {
            assert_eq!(seen(Bodies::Keep, THREE, piece), Ok(whole.clone()), "{piece}");
            let skipped = seen(Bodies::Skip, THREE, piece).expect("answers");
            let heads = skipped.iter().map(|seen| (seen.0, seen.1, seen.2));
            assert!(heads.eq(whole.iter().map(|seen| (seen.0, seen.1, seen.2))), "{piece}");
        }
    }

    #[test]
    fn what_is_not_http_is_malformed() {
        for bytes in [
            &b"garbage\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert_eq!(seen(Bodies::Skip, bytes, 7), Err(Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let bytes = [&b"HTTP/1.1 200 OK\r\nx: "[..], &vec![b'x'; HEAD_BYTES_MAX + 1]].concat();
        assert_eq!(seen(Bodies::Skip, &bytes, 4096), Err(Malformed));
    }
}
