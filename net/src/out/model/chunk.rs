//! OpenAI's chat completion on the wire, streamed or whole, put together into one answer.
//!
//! Servers that call themselves compatible differ: fields are missing, null or of another type.
//! What can be understood is; what cannot is an error of the answer, never a panic.

use no_engine::agent::state::{ModelAnswer, ToolCall};
use no_engine::limits::{
    NAME_BYTES_MAX, OUTPUT_BYTES_MAX, TOOL_ARGUMENTS_BYTES_MAX, TOOL_CALLS_MAX,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// Why an answer cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unusable {
    /// It is no chat completion.
    #[error("the model's answer is malformed: {0}")]
    Malformed(String),
    /// The server reported an error inside the stream.
    #[error("the model's server failed: {0}")]
    Reported(String),
    /// It is larger than what is taken.
    #[error("the model's answer has too much {0}")]
    TooMuch(&'static str),
    /// It was cut off in the middle of a tool call.
    #[error("the answer reached max_output_tokens in the middle of a tool call")]
    Length,
    /// The provider's filter held the answer back.
    #[error("the provider's filter held the answer back")]
    Filtered,
}

/// A completion, or a piece of one.
#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(default, borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Tokens>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default, borrow)]
    delta: Option<Said<'a>>,
    #[serde(default, borrow)]
    message: Option<Said<'a>>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default, borrow)]
    tool_calls: Option<Vec<CallPiece<'a>>>,
}

#[derive(Deserialize)]
struct CallPiece<'a> {
    #[serde(default)]
    index: Option<usize>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default, borrow)]
    function: Option<FunctionPiece<'a>>,
}

#[derive(Deserialize)]
struct FunctionPiece<'a> {
    #[serde(default)]
    name: Option<String>,
    /// A string of JSON; some servers give the object itself.
    #[serde(default, borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    #[serde(default)]
    pub(super) prompt_tokens: u64,
    #[serde(default)]
    pub(super) completion_tokens: u64,
}

#[derive(Default, Debug)]
struct Call {
    index: usize,
    id: String,
    name: String,
    arguments: String,
}

/// An answer under way.
#[derive(Default, Debug)]
pub struct Assembly {
    text: String,
    calls: Vec<Call>,
    finish: Option<String>,
    tokens: Tokens,
    /// A choice came, if an empty one: without any it was no completion.
    has_choice: bool,
}

impl Assembly {
    /// Takes one JSON text in and gives the piece of text that it added.
    ///
    /// # Errors
    /// [`Unusable`]; the whole answer is then.
    pub fn push(&mut self, json: &[u8]) -> Result<String, Unusable> {
        let malformed = |e: serde_json::Error| Unusable::Malformed(e.to_string());
        let completion: Completion<'_> = serde_json::from_slice(json).map_err(malformed)?;
        if let Some(error) = completion.error.filter(|error| error.get() != "null") {
            return Err(Unusable::Reported(super::super::error::quote(error.get().as_bytes())));
        }
        if let Some(tokens) = completion.usage {
            self.tokens = tokens;
        }
        let mut added = String::new();
        for choice in completion.choices.unwrap_or_default() {
            self.has_choice = true;
            if choice.index.unwrap_or(0) != 0 {
                continue;
            }
            if choice.finish_reason.is_some() {
                self.finish = choice.finish_reason;
            }
            let Some(said) = choice.delta.or(choice.message) else { continue };
            added.extend([said.content, said.refusal].into_iter().flatten());
            for piece in said.tool_calls.unwrap_or_default() {
                self.add_call(piece)?;
            }
        }
        if OUTPUT_BYTES_MAX < self.text.len() + added.len() {
            return Err(Unusable::TooMuch("text"));
        }
        self.text.push_str(&added);
        Ok(added)
    }

    /// Whether the provider said that the answer is complete.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// What it used, as the server counted.
    pub(super) fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// The answer, without its use. Calls without a name of their own, or with one that is taken,
    /// are named after `call_prefix` and their place.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn answer(self, call_prefix: &str) -> Result<ModelAnswer, Unusable> {
        if !self.has_choice {
            return Err(Unusable::Malformed("it has no choices".into()));
        }
        let finish = self.finish.as_deref().unwrap_or("");
        if finish == "length" && !self.calls.is_empty() {
            return Err(Unusable::Length);
        }
        if finish == "content_filter" && self.text.is_empty() && self.calls.is_empty() {
            return Err(Unusable::Filtered);
        }
        let mut tool_calls: Vec<ToolCall> = Vec::with_capacity(self.calls.len());
        let theirs: BTreeSet<String> = self.calls.iter().map(|call| call.id.clone()).collect();
        for (i, call) in self.calls.into_iter().enumerate() {
            if call.name.is_empty() {
                return Err(Unusable::Malformed("a tool call has no name".into()));
            }
            let taken = tool_calls.iter().any(|other| *other.id == *call.id);
            let id = if call.id.is_empty() || taken {
                // Ours must not be one of theirs either, who may have seen how we make them.
                let mut id = format!("{call_prefix}_{i}");
                while theirs.contains(&id) {
                    id.push('_');
                }
                id.into()
            } else {
                call.id.into()
            };
            let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
            tool_calls.push(ToolCall { id, name: call.name.into(), arguments: arguments.into() });
        }
        let text = (!self.text.is_empty()).then(|| self.text.into());
        Ok(ModelAnswer { text, tool_calls, ..ModelAnswer::default() })
    }

    fn add_call(&mut self, piece: CallPiece<'_>) -> Result<(), Unusable> {
        let place = self.place_of(&piece)?;
        let call = &mut self.calls[place];
        if let Some(id) = piece.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        let Some(function) = piece.function else { return Ok(()) };
        // Most servers send the name once; one that repeats it must not double it.
        if let Some(name) = function.name.filter(|name| *name != call.name) {
            call.name.push_str(&name);
        }
        if let Some(raw) = function.arguments {
            call.arguments.push_str(&arguments_text(raw)?);
        }
        if NAME_BYTES_MAX < call.name.len() || NAME_BYTES_MAX < call.id.len() {
            return Err(Unusable::TooMuch("name in a tool call"));
        }
        if TOOL_ARGUMENTS_BYTES_MAX < call.arguments.len() {
            return Err(Unusable::TooMuch("arguments in a tool call"));
        }
        Ok(())
    }

    /// The call that a piece belongs to: by index; without one, a new id begins a call and anything
    /// else goes on with the last.
    fn place_of(&mut self, piece: &CallPiece<'_>) -> Result<usize, Unusable> {
        let known = match piece.index {
            Some(index) => self.calls.iter().position(|call| call.index == index),
            None => match piece.id.as_deref().unwrap_or("") {
                "" => self.calls.len().checked_sub(1),
                id => self.calls.iter().position(|call| call.id == id),
            },
        };
        if let Some(place) = known {
            return Ok(place);
        }
        if TOOL_CALLS_MAX <= self.calls.len() {
            return Err(Unusable::TooMuch("tool calls"));
        }
        let index = piece.index.unwrap_or(self.calls.len());
        self.calls.push(Call { index, ..Call::default() });
        Ok(self.calls.len() - 1)
    }
}

fn arguments_text(raw: &RawValue) -> Result<String, Unusable> {
    match raw.get() {
        "null" => Ok(String::new()),
        text if text.starts_with('"') => {
            serde_json::from_str(text).map_err(|e| Unusable::Malformed(e.to_string()))
        }
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], expected: Result<&str, &str>) {
        let mut assembly = Assembly::default();
        let pushed = pieces.iter().try_for_each(|piece| assembly.push(piece.as_bytes()).map(drop));
        let got = pushed.and_then(|()| assembly.answer("call_7"));
        match (got, expected) {
            (Ok(answer), Ok(json)) => {
                let expected: serde_json::Value = serde_json::from_str(json).expect(json);
                assert_eq!(serde_json::to_value(&answer).expect("serialises"), expected);
            }
            (Err(error), Err(piece)) => assert!(error.to_string().contains(piece), "{error}"),
            (got, _) => panic!("{pieces:?}: {got:?}, not {expected:?}"),
        }
    }

    fn delta(delta: &str) -> String {
        format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#)
    }

    #[test]
    fn text_comes_together() {
        let (a, b) = (delta(r#"{"role":"assistant","content":"he"}"#), delta(r#"{"content":"y"}"#));
        check(&[&a, &b, r#"{"choices":[],"usage":null}"#], Ok(r#"{"text":"hey"}"#));
        check(&[r#"{"choices":[{"message":{"content":"all"}}]}"#], Ok(r#"{"text":"all"}"#));
        check(&[&delta(r#"{"refusal":"no"}"#)], Ok(r#"{"text":"no"}"#));
        check(&[&delta("{}")], Ok("{}"));
        check(&[r#"{"choices":[{"index":1,"delta":{"content":"other"}}]}"#], Ok("{}"));
    }

    #[test]
    fn parallel_tool_calls_come_together_by_index() {
        check(
            &[
                &delta(
                    r#"{"tool_calls":[{"index":0,"id":"a","type":"function",
                        "function":{"name":"f","arguments":""}}]}"#,
                ),
                &delta(
                    r#"{"tool_calls":[{"index":1,"id":"b",
                        "function":{"name":"g","arguments":"{\"y\""}}]}"#,
                ),
                &delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":1}"}}]}"#),
                &delta(r#"{"tool_calls":[{"index":1,"function":{"arguments":":2}"}}]}"#),
            ],
            Ok(r#"{"tool_calls":[{"id":"a","name":"f","arguments":"{\"x\":1}"},
                    {"id":"b","name":"g","arguments":"{\"y\":2}"}]}"#),
        );
    }

    #[test]
    fn odd_servers_are_understood() {
        check(
            &[&delta(
                r#"{"tool_calls":[{"id":"a","function":{"name":"f","arguments":{"x":1}}},
                    {"id":"a2","function":{"name":"f"}}]}"#,
            )],
            Ok(r#"{"tool_calls":[{"id":"a","name":"f","arguments":"{\"x\":1}"},
                    {"id":"a2","name":"f","arguments":"{}"}]}"#),
        );
        check(
            &[&delta(
                r#"{"tool_calls":[{"index":0,"function":{"name":"f"}},
                    {"index":1,"id":"","function":{"name":"g","arguments":null}}]}"#,
            )],
            Ok(r#"{"tool_calls":[{"id":"call_7_0","name":"f","arguments":"{}"},
                    {"id":"call_7_1","name":"g","arguments":"{}"}]}"#),
        );
        // Two of one id, and one that looks like ours.
        check(
            &[&delta(
                r#"{"tool_calls":[{"index":0,"id":"call_7_1","function":{"name":"f"}},
                    {"index":1,"function":{"name":"g"}},
                    {"index":2,"id":"call_7_1","function":{"name":"h"}}]}"#,
            )],
            Ok(r#"{"tool_calls":[{"id":"call_7_1","name":"f","arguments":"{}"},
                    {"id":"call_7_1_","name":"g","arguments":"{}"},
                    {"id":"call_7_2","name":"h","arguments":"{}"}]}"#),
        );
        check(
            &[
                &delta(
                    r#"{"tool_calls":[{"index":0,"id":"a",
                        "function":{"name":"f","arguments":"{"}}]}"#,
                ),
                &delta(
                    r#"{"tool_calls":[{"index":0,"id":"a",
                        "function":{"name":"f","arguments":"}"}}]}"#,
                ),
            ],
            Ok(r#"{"tool_calls":[{"id":"a","name":"f","arguments":"{}"}]}"#),
        );
    }

    #[test]
    fn what_cannot_be_used_is_an_error() {
        check(&["[]"], Err("malformed"));
        check(&["{}"], Err("no choices"));
        check(&[r#"{"choices":[]}"#], Err("no choices"));
        check(&["{"], Err("malformed"));
        check(&[r#"{"error":{"message":"boom"}}"#], Err("boom"));
        check(&[&delta(r#"{"tool_calls":[{"index":0,"id":"a"}]}"#)], Err("no name"));
        let call = r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f"}}]},
            "finish_reason":"length"}]}"#;
        check(&[call], Err("max_output_tokens"));
        check(&[r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#], Err("filter"));
        let many: Vec<String> = (0..=TOOL_CALLS_MAX)
            .map(|i| {
                delta(&format!(
                    r#"{{"tool_calls":[{{"index":{i},"id":"c{i}","function":{{"name":"f"}}}}]}}"#
                ))
            })
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, Err("too much tool calls"));
        let long = "x".repeat(TOOL_ARGUMENTS_BYTES_MAX + 1);
        let long = delta(&format!(
            r#"{{"tool_calls":[{{"index":0,"id":"a",
                "function":{{"name":"f","arguments":"{long}"}}}}]}}"#
        ));
        check(&[&long], Err("too much arguments"));
    }

    #[test]
    fn use_is_read_where_it_comes() {
        let mut assembly = Assembly::default();
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"x":{}}}"#;
        assert_eq!(assembly.push(usage.as_bytes()), Ok(String::new()));
        assert_eq!(assembly.tokens(), Tokens { prompt_tokens: 12, completion_tokens: 3 });
        assert!(!assembly.is_finished());
    }
}
