//! Inputs as people type them: JSON, plain words, a file, standard input.

use crate::error::{Error, Result};
use serde_json::Value;
use std::io::Read as _;

/// A text from the argument itself, from `@file`, or from `-`.
fn text_of(argument: &str) -> Result<String> {
    if argument == "-" {
        let mut text = String::new();
        let failed = |source| Error::File { path: "standard input".into(), source };
        std::io::stdin().lock().read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    match argument.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|source| Error::File { path: path.into(), source }),
        None => Ok(argument.to_owned()),
    }
}

/// JSON and nothing else.
///
/// # Errors
/// [`Error::Usage`] when it is not JSON, [`Error::File`] when it cannot be read.
pub(in crate::cli) fn read_json(argument: &str) -> Result<Value> {
    let text = text_of(argument)?;
    serde_json::from_str(&text).map_err(|e| Error::Usage(format!("not valid JSON: {e}")))
}

/// JSON, or plain words, which become a JSON string. What begins like an object or list but is not
/// well-formed is refused: it was meant as JSON.
///
/// # Errors
/// As [`read_json`].
pub(super) fn read_input(argument: &str) -> Result<Value> {
    let text = text_of(argument)?;
    match serde_json::from_str(&text) {
        Ok(value) => Ok(value),
        Err(e) if text.trim_start().starts_with(['{', '[', '"']) => {
            Err(Error::Usage(format!("the input is not valid JSON: {e}")))
        }
        Err(_) => Ok(Value::String(text.trim_end_matches(['\r', '\n']).to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_are_strings_and_broken_json_is_refused() {
        assert_eq!(read_input("hello world\n").expect("words"), json!("hello world"));
        assert_eq!(read_input("{\"ms\":1}").expect("json"), json!({"ms": 1}));
        assert_eq!(read_input("7").expect("json"), json!(7));
        assert!(matches!(read_input("{\"ms\":"), Err(Error::Usage(_))));
        assert!(matches!(read_json("words"), Err(Error::Usage(_))));
        assert!(matches!(read_input("@/no/such/file"), Err(Error::File { .. })));
    }
}
