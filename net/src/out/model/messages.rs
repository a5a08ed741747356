//! A loop's context as chat messages: JSON texts joined by commas, ready to stand in a request.
//!
//! There is one way to write a message, so that a context that grew call by call and one that was
//! built again from the store are the same bytes.

use super::super::answer::compact;
use no_engine::agent::state::ModelAnswer;
use std::sync::Arc;

/// A message with its bytes at hand.
#[derive(Clone, Debug)]
pub enum Piece {
    /// The output of a model's step.
    Assistant(Arc<[u8]>),
    /// A tool's result.
    Tool {
        /// The call that it answers.
        call_id: Box<str>,
        /// Any JSON.
        result: Arc<[u8]>,
    },
}

/// A model's step in the store does not read as an answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a model's step in the history is malformed: {0}")]
pub struct Malformed(String);

/// The messages of a loop that has only its input.
#[must_use]
pub fn begin(input: &[u8]) -> Vec<u8> {
    let mut out = b"{\"role\":\"user\",\"content\":".to_vec();
    write_content(input, &mut out);
    out.push(b'}');
    out
}

/// Adds `pieces`: each assistant message with the results that follow it, in the order of its
/// calls.
///
/// # Errors
/// [`Malformed`]; `out` is of no more use then.
pub fn append(out: &mut Vec<u8>, pieces: &[Piece]) -> Result<(), Malformed> {
    let mut calls: Vec<Box<str>> = Vec::new();
    let mut results: Vec<(&str, &[u8])> = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Assistant(answer) => {
                write_results(&calls, &mut results, out);
                let answer: ModelAnswer =
                    serde_json::from_slice(answer).map_err(|e| Malformed(e.to_string()))?;
                write_assistant(&answer, out);
                calls = answer.tool_calls.into_iter().map(|call| call.id).collect();
            }
            Piece::Tool { call_id, result } => results.push((call_id, result)),
        }
    }
    write_results(&calls, &mut results, out);
    Ok(())
}

/// The system prompt as a message.
#[must_use]
pub fn system(prompt: &str) -> Vec<u8> {
    let mut out = b"{\"role\":\"system\",\"content\":".to_vec();
    write_string(prompt, &mut out);
    out.push(b'}');
    out
}

fn write_results(calls: &[Box<str>], results: &mut Vec<(&str, &[u8])>, out: &mut Vec<u8>) {
    let place = |id: &str| calls.iter().position(|call| &**call == id).unwrap_or(calls.len());
    results.sort_by_key(|(id, _)| place(id));
    for (id, result) in results.drain(..) {
        out.extend_from_slice(b",{\"role\":\"tool\",\"tool_call_id\":");
        write_string(id, out);
        out.extend_from_slice(b",\"content\":");
        write_content(result, out);
        out.push(b'}');
    }
}

fn write_assistant(answer: &ModelAnswer, out: &mut Vec<u8>) {
    out.extend_from_slice(b",{\"role\":\"assistant\",\"content\":");
    match &answer.text {
        Some(text) => write_string(text, out),
        // Servers want a content wherever there are no calls.
        None if answer.tool_calls.is_empty() => out.extend_from_slice(b"\"\""),
        None => out.extend_from_slice(b"null"),
    }
    for (i, call) in answer.tool_calls.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b",\"tool_calls\":[" } else { b"," });
        out.extend_from_slice(b"{\"id\":");
        write_string(&call.id, out);
        out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
        write_string(&call.name, out);
        out.extend_from_slice(b",\"arguments\":");
        write_string(&call.arguments, out);
        out.extend_from_slice(b"}}");
    }
    if !answer.tool_calls.is_empty() {
        out.push(b']');
    }
    out.push(b'}');
}

/// A JSON text as a message's content: a string as it stands, anything else as its compact text.
fn write_content(json: &[u8], out: &mut Vec<u8>) {
    let json = json.trim_ascii();
    if json.starts_with(b"\"") {
        out.extend_from_slice(json);
    } else {
        write_string(&String::from_utf8_lossy(&compact(json)), out);
    }
}

pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn assistant(json: &str) -> Piece {
        Piece::Assistant(Arc::from(json.as_bytes()))
    }

    fn tool(id: &str, json: &str) -> Piece {
        Piece::Tool { call_id: id.into(), result: Arc::from(json.as_bytes()) }
    }

    fn check(input: &str, pieces: &[Piece], expected: &expect_test::Expect) {
        let mut out = begin(input.as_bytes());
        append(&mut out, pieces).expect("well formed");
        let list = [b"[", out.as_slice(), b"]"].concat();
        let read: Vec<serde_json::Value> = serde_json::from_slice(&list).expect("JSON");
        let lines: Vec<String> = read.iter().map(|message| format!("{message:#}")).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn results_follow_their_call_in_its_order() {
        let two = r#"{"tool_calls":[{"id":"a","name":"f","arguments":"{}"},
            {"id":"b","name":"g","arguments":"{\"x\":1}"}]}"#;
        let pieces = [
            assistant(two),
            tool("b", r#""text""#),
            tool("a", r#"{ "n" : 1.50 }"#),
            assistant(r#"{"text":"done"}"#),
        ];
        check(
            r#""hello""#,
            &pieces,
            &expect![[r#"
                {
                  "content": "hello",
                  "role": "user"
                }
                {
                  "content": null,
                  "role": "assistant",
                  "tool_calls": [
                    {
                      "function": {
                        "arguments": "{}",
                        "name": "f"
                      },
                      "id": "a",
                      "type": "function"
                    },
                    {
                      "function": {
                        "arguments": "{\"x\":1}",
                        "name": "g"
                      },
                      "id": "b",
                      "type": "function"
                    }
                  ]
                }
                {
                  "content": "{\"n\":1.50}",
                  "role": "tool",
                  "tool_call_id": "a"
                }
                {
                  "content": "text",
                  "role": "tool",
                  "tool_call_id": "b"
                }
                {
                  "content": "done",
                  "role": "assistant"
                }"#]],
        );
    }

    #[test]
    fn an_input_that_is_no_string_is_its_compact_text() {
        check(
            r#"{ "z": 1, "a": 12345678901234567890123 }"#,
            &[assistant("{}")],
            &expect![[r#"
                {
                  "content": "{\"z\":1,\"a\":12345678901234567890123}",
                  "role": "user"
                }
                {
                  "content": "",
                  "role": "assistant"
                }"#]],
        );
    }

    #[test]
    fn a_malformed_step_is_an_error() {
        assert!(append(&mut Vec::new(), &[assistant("\"x\"")]).is_err());
    }
}
