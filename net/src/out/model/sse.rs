//! Server-sent events, read as they come: any chunking gives the same events (WHATWG HTML, §9.2).

/// Longest line, in bytes; a longer one is an error, so that memory is bounded.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Longest data of one event, in bytes.
pub const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A line or an event was too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a server-sent event is too long")]
pub struct TooLong;

/// Takes bytes in and gives events out: only their data, which is all that providers use.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was CR: a LF right after it ends no line of its own.
    after_cr: bool,
    /// The first line was read: only that one may begin with a byte order mark.
    started: bool,
}

impl Parser {
    /// Takes `bytes` in and calls `event` with the data of each event that they complete.
    ///
    /// # Errors
    /// [`TooLong`]; the parser is of no more use then.
    pub fn push(&mut self, bytes: &[u8], mut event: impl FnMut(Vec<u8>)) -> Result<(), TooLong> {
        for &byte in bytes {
            let was_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if was_cr => {}
                b'\n' | b'\r' => self.end_line(&mut event)?,
                byte => {
                    if LINE_BYTES_MAX <= self.line.len() {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(())
    }

    /// The stream ended: what an event has so far, should the last empty line be missing.
    #[must_use]
    pub fn finish(mut self) -> Option<Vec<u8>> {
        let mut last = None;
        if !self.line.is_empty() {
            self.end_line(&mut |_| {}).ok()?;
        }
        if self.has_data {
            last = Some(self.data);
        }
        last
    }

    fn end_line(&mut self, event: &mut impl FnMut(Vec<u8>)) -> Result<(), TooLong> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.started, true) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                event(std::mem::take(&mut self.data));
            }
            return Ok(());
        }
        let value = match line.strip_prefix(b"data:") {
            Some(value) => value.strip_prefix(b" ").unwrap_or(value),
            None if line == b"data" => b"",
            None => return Ok(()),
        };
        if EVENT_BYTES_MAX - self.data.len() <= value.len() {
            return Err(TooLong);
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        self.has_data = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(chunks: &[&[u8]]) -> Vec<String> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for chunk in chunks {
            parser
                .push(chunk, |data| events.push(String::from_utf8_lossy(&data).into_owned()))
                .expect("short lines");
        }
        events.extend(parser.finish().map(|data| String::from_utf8_lossy(&data).into_owned()));
        events
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        for (text, expected) in [
            ("data: a\n\n", vec!["a"]),
            ("\u{feff}data:a\r\n\r\ndata: b\r\rdata:  c\n\n", vec!["a", "b", " c"]),
            ("data: a\ndata: b\n\n", vec!["a\nb"]),
            (": comment\nid: 1\nevent: x\nretry: 5\ndata: a\n\n", vec!["a"]),
            ("data\n\n", vec![""]),
            ("data:\n\n", vec![""]),
            ("\n\n\n", vec![]),
            ("event: x\n\n", vec![]),
            ("data: unfinished", vec!["unfinished"]),
            ("dataset: a\n\n", vec![]),
        ] {
            assert_eq!(events(&[text.as_bytes()]), expected, "{text:?}");
        }
    }

    #[test]
    fn long_lines_and_events_are_refused() {
        let mut parser = Parser::default();
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(parser.push(&long, |_| {}), Err(TooLong));
        let mut parser = Parser::default();
        let line = [b"data:".as_slice(), &vec![b'x'; LINE_BYTES_MAX - 5], b"\n"].concat();
        let mut refused = false;
        for _ in 0..=EVENT_BYTES_MAX / (LINE_BYTES_MAX - 5) {
            refused |= parser.push(&line, |_| {}).is_err();
        }
        assert!(refused);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(
            pieces in prop::collection::vec(
                prop_oneof![
                    Just("\n"), Just("\r"), Just("\r\n"), Just("data:"), Just("data: x"),
                    Just(":"), Just("é"), Just("id: 1"), Just("{\"a\":1}"), Just("\u{feff}"),
                ],
                0..40,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let text = pieces.concat();
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(events(&chunks), events(&[bytes]));
            prop_assert_eq!(events(&single), events(&[bytes]));
        }
    }
}
