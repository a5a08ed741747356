//! Secrets: read once at start, never shown.

use std::fmt;
use std::path::Path;

/// Longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 8 * 1024;

/// A key. Its `Debug` does not show it, it has no `Display`, and it is not serialised.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes a key: what stands between blanks.
    ///
    /// # Errors
    /// When it is empty, too long, or cannot stand in a header; the text is not in the error.
    pub fn new(text: &str) -> Result<Secret, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty");
        }
        if SECRET_BYTES_MAX < text.len() {
            return Err("is too long");
        }
        if !text.bytes().all(|c| c.is_ascii_graphic()) {
            return Err("has characters that cannot stand in a header");
        }
        Ok(Secret(text.into()))
    }

    /// Reads a key from a file.
    ///
    /// # Errors
    /// Why not, without the text.
    pub fn from_file(path: &Path) -> Result<Secret, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"))?;
        Secret::new(&text).map_err(str::to_owned)
    }

    /// The key itself, to be sent.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with the key taken out, should the other side have quoted it.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        text.replace(&*self.0, "[redacted]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new(" sk-1\n").expect("a key");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(secret.reveal(), "sk-1");
        assert_eq!(secret.redact("key sk-1!"), "key [redacted]!");
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for bad in ["", " \n", "a b", "ä", "a\r\nb"] {
            assert!(Secret::new(bad).is_err(), "{bad:?}");
        }
        assert!(Secret::from_file(Path::new("/nowhere/at/all")).is_err());
    }
}
