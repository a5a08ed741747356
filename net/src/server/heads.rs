//! Watches raw bytes for a head that names both a length and a coding (RFC 9112, 6.1): what the
//! parser drops without a word, and what request smuggling is made of.
//!
//! Lines are looked at by their first letters alone, so a request costs a search for its line ends.
//! Bodies pass here too, as the watch does not know where they end. A text that has both names at
//! the start of lines of one block is no JSON, so no body that is taken is mistaken for a head.

const CODING: &[u8] = b"transfer-encoding:";
const LENGTH: &[u8] = b"content-length:";

/// What was seen of the lines so far.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    start: [u8; CODING.len()],
    len: usize,
    has_coding: bool,
    has_length: bool,
    is_doubtful: bool,
}

impl Heads {
    /// Looks at more bytes.
    pub(crate) fn look(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            let is_boring =
                self.len == 0 && !matches!(first, b't' | b'T' | b'c' | b'C' | b'\r' | b'\n');
            if is_boring {
                self.len = self.start.len();
            }
            let end = memchr::memchr(b'\n', bytes);
            let line = &bytes[..end.unwrap_or(bytes.len())];
            let taken = line.len().min(self.start.len() - self.len);
            self.start[self.len..self.len + taken].copy_from_slice(&line[..taken]);
            self.len += taken;
            let Some(end) = end else { return };
            if !is_boring {
                self.line();
            }
            self.len = 0;
            bytes = &bytes[end + 1..];
        }
    }

    /// A line is complete: its start is known.
    fn line(&mut self) {
        let start = &self.start[..self.len];
        let is =
            |name: &[u8]| start.get(..name.len()).is_some_and(|s| s.eq_ignore_ascii_case(name));
        if start.is_empty() || start == b"\r" {
            self.is_doubtful |= self.has_coding && self.has_length;
            (self.has_coding, self.has_length) = (false, false);
        } else if is(CODING) {
            self.has_coding = true;
        } else if is(LENGTH) {
            self.has_length = true;
        }
    }

    /// Whether a head with both has come since this was asked last.
    pub(crate) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.is_doubtful)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: bool) {
        for size in [1, 2, 7, 19, text.len()] {
            let mut heads = Heads::default();
            text.as_bytes().chunks(size).for_each(|piece| heads.look(piece));
            assert_eq!(heads.take_doubt(), expected, "{text:?} in pieces of {size}");
            assert!(!heads.take_doubt(), "told once");
        }
    }

    #[test]
    fn a_head_with_both_is_seen_however_it_is_cut() {
        let post = "POST / HTTP/1.1\r\nHost: x\r\n";
        check(&format!("{post}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), true);
        check(&format!("{post}TRANSFER-ENCODING: x\r\na: b\r\ncontent-length:\r\n\r\n"), true);
        check(&format!("{post}transfer-encoding:x\ncontent-length:1\n\n"), true);
        check(&format!("{post}Content-Length: 1\r\n\r\n"), false);
        check(&format!("{post}X-Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), false);
        check(&format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), false);
    }

    #[test]
    fn heads_one_after_another_are_not_one() {
        let one = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let two = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
        check(&format!("{one}{two}{one}"), false);
    }
}
