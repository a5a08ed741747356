//! Server-sent events, as a client reads them: lines in, events out. (WHATWG HTML, section 9.2.)

/// Longest event that is kept, in bytes; one that is longer ends the stream.
pub const EVENT_BYTES_MAX: usize = 8 << 20;

/// One event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Event {
    /// Its cursor, sent back as `Last-Event-ID` to go on behind it.
    pub id: Option<String>,
    /// Its name; empty when it has none.
    pub name: String,
    /// Its data lines, joined.
    pub data: String,
}

/// Gathers lines to events.
#[derive(Debug, Default)]
pub struct Reader {
    event: Event,
    has_data: bool,
}

impl Reader {
    /// Takes one line without its end; an empty one completes the event, if there is any data.
    ///
    /// # Errors
    /// The event is longer than [`EVENT_BYTES_MAX`].
    pub fn line(&mut self, line: &str) -> Result<Option<Event>, &'static str> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let has_data = std::mem::take(&mut self.has_data);
            return Ok(has_data.then_some(event));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if EVENT_BYTES_MAX < self.event.data.len() + value.len() {
                    return Err("an event is too long");
                }
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            "event" => value.clone_into(&mut self.event.name),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<Event> {
        let mut reader = Reader::default();
        text.lines().filter_map(|line| reader.line(line).expect("short")).collect()
    }

    fn event(id: Option<&str>, name: &str, data: &str) -> Event {
        Event { id: id.map(str::to_owned), name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn fields_comments_and_empty_lines() {
        let text = ": hello\n\nid: 7\nevent: step\ndata: {\"a\":\ndata: 1}\n\ndata:x\r\n\r\n\n";
        assert_eq!(events(text), [event(Some("7"), "step", "{\"a\":\n1}"), event(None, "", "x")]);
    }

    #[test]
    fn an_event_that_was_cut_is_not_given() {
        assert_eq!(events("data: 1\n\ndata: 2\n"), [event(None, "", "1")]);
    }
}
