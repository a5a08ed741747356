//! On which line each key of a JSON text stands, so that a fault can name it.
//!
//! Runs after `serde_json` has accepted the text, so it may trust the form: it only has to follow
//! strings and brackets. It also sees what a parser hides: a key that stands twice.

use std::collections::BTreeMap;

/// A key's place in the document: the names from the root; list entries by their number.
pub type Path = Vec<String>;

/// Lines by path, from 1, and the paths that stand twice.
#[derive(Debug, Default)]
pub struct Places {
    lines: BTreeMap<Path, usize>,
    /// Keys that stand twice in one object, with the second's line.
    pub twice: Vec<(Path, usize)>,
}

impl Places {
    /// The line of the path, or of the nearest thing above it.
    #[must_use]
    pub fn line(&self, path: &[String]) -> usize {
        (0..=path.len()).rev().find_map(|len| self.lines.get(&path[..len])).copied().unwrap_or(1)
    }
}

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
    path: Path,
    places: Places,
}

/// Finds the lines of all keys of a well-formed JSON text.
#[must_use]
pub fn places(text: &str) -> Places {
    let text = text.as_bytes();
    let mut scan = Scan { text, at: 0, line: 1, path: Path::new(), places: Places::default() };
    scan.value();
    scan.places
}

impl Scan<'_> {
    fn peek(&mut self) -> u8 {
        while let Some(byte) = self.text.get(self.at)
            && byte.is_ascii_whitespace()
        {
            self.line += usize::from(*byte == b'\n');
            self.at += 1;
        }
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn skip(&mut self) -> u8 {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    /// A value, and all keys in it. Depth is bounded by `serde_json`, which read the text before.
    fn value(&mut self) {
        match self.peek() {
            b'{' => self.object(),
            b'[' => self.list(),
            b'"' => drop(self.string()),
            _ => {
                let ends = |byte: &u8| b",]}".contains(byte) || byte.is_ascii_whitespace();
                let rest = self.text.get(self.at..).unwrap_or_default();
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
    }

    fn object(&mut self) {
        self.skip();
        while self.peek() == b'"' {
            let line = self.line;
            let name = self.string();
            self.skip();
            self.path.push(name);
            if self.places.lines.insert(self.path.clone(), line).is_some() {
                self.places.twice.push((self.path.clone(), line));
            }
            self.value();
            self.path.pop();
            if self.peek() == b',' {
                self.skip();
            }
        }
        self.skip();
    }

    fn list(&mut self) {
        self.skip();
        let mut n = 0;
        while !matches!(self.peek(), b']' | 0) {
            self.path.push(n.to_string());
            self.places.lines.insert(self.path.clone(), self.line);
            self.value();
            self.path.pop();
            n += 1;
            if self.peek() == b',' {
                self.skip();
            }
        }
        self.skip();
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.text.get(self.at)
            && *byte != b'"'
        {
            self.at += if *byte == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        let quoted = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_slice(quoted).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_found_through_nesting_and_escapes() {
        let text =
            "{\n \"a\\\"\": 1,\n \"b\": {\"c\":\n [1,\n 2, {\"d\": \"}]\"}]},\n\"e\": null\n}";
        let places = places(text);
        assert_eq!(places.line(&path("a\"")), 2);
        assert_eq!(places.line(&path("b.c")), 3);
        assert_eq!(places.line(&path("b.c.0")), 4);
        assert_eq!(places.line(&path("b.c.2.d")), 5);
        assert_eq!(places.line(&path("e")), 6);
        assert_eq!(places.line(&path("b.c.2.x.y")), 5);
        assert!(places.twice.is_empty());
    }

    #[test]
    fn a_key_that_stands_twice_is_seen() {
        let places = places("{\"a\":{\"b\":1,\n\"b\":2},\"c\":{\"b\":3}}");
        assert_eq!(places.twice, [(path("a.b"), 2)]);
    }
}
