//! A task and its steps in words, the same wherever they are shown.

use super::super::Console;
use super::super::output::{cell, plain, short};
use crate::error::{Error, Result};
use serde_json::Value;

/// Whether the task ended.
pub(super) fn is_ended(task: &Value) -> bool {
    matches!(task["state"].as_str(), Some("succeeded" | "failed" | "cancelled"))
}

/// A JSON value for reading: texts bare, all else indented.
pub(super) fn pretty(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        other => format!("{other:#}"),
    }
}

/// Prints a task's fields, those that are set.
pub(super) fn task(console: &mut Console, task: &Value) -> Result<()> {
    let fields = [
        "id",
        "agent",
        "state",
        "attempt",
        "max_attempts",
        "priority",
        "fairness_key",
        "tags",
        "tenant",
        "waiting",
        "created_at",
        "run_at",
        "started_at",
        "ended_at",
        "usage",
    ];
    for field in fields {
        let value = &task[field];
        let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if !is_empty {
            console.print(&format!("{field:<13} {}", cell(value)))?;
        }
    }
    if !task["input"].is_null() {
        console.print(&format!("input         {}", short(&cell(&task["input"]), 200)))?;
    }
    if !task["error"].is_null() {
        console.print(&format!("error         {}", problem(&task["error"])))?;
    }
    if !task["output"].is_null() {
        console.print(&format!("output\n{}", pretty(&task["output"])))?;
    }
    Ok(())
}

/// A task's error in one line.
pub(super) fn problem(error: &Value) -> String {
    format!("{}: {}", cell(&error["code"]), cell(&error["message"]))
}

/// What a step took or gave, in short: a model's text and the calls it asks for, or the JSON itself.
pub(super) fn gist(value: &Value, len: usize) -> String {
    let calls = value["tool_calls"].as_array().into_iter().flatten();
    let calls = calls.map(|call| format!("{}({})", cell(&call["name"]), cell(&call["arguments"])));
    let text = value["text"].as_str().filter(|text| !text.is_empty()).map(plain);
    let parts: Vec<String> = text.into_iter().chain(calls).collect();
    if parts.is_empty() { short(&cell(value), len) } else { short(&parts.join(" "), len) }
}

/// One step in one line: number, what it is, how it stands, what came of it.
pub(super) fn step_line(step: &Value) -> String {
    let number = cell(&step["step"]);
    let (kind, name) = (cell(&step["kind"]), step["name"].as_str().unwrap_or_default());
    let mut line =
        format!("{number:>4}  {kind:<7} {:<20} {}", short(name, 20), cell(&step["state"]));
    for (arrow, field) in [("<-", "input"), ("->", "output")] {
        if !step[field].is_null() {
            line += &format!("  {arrow} {}", gist(&step[field], 72));
        }
    }
    if !step["error"].is_null() {
        line += &format!("  !! {}", short(&problem(&step["error"]), 72));
    }
    line
}

/// Prints the answer of an ended task to standard output and turns a failure into an error.
pub(super) fn answer(console: &mut Console, task: &Value) -> Result<()> {
    let state = cell(&task["state"]);
    if state == "succeeded" {
        return console.print(&pretty(&task["output"]));
    }
    if !task["error"].is_null() {
        console.complain(&problem(&task["error"]));
    }
    Err(ended(task))
}

/// The error of a task that ended otherwise than well.
pub(super) fn ended(task: &Value) -> Error {
    Error::TaskEnded { id: cell(&task["id"]), state: cell(&task["state"]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_models_answer_is_shown_as_it_would_be_said() {
        let call = json!({"id": "c", "name": "tides", "arguments": "{\"at\":1}"});
        let check = |value: Value, expected: &str| assert_eq!(gist(&value, 40), expected);
        check(
            json!({"text": "Let me see.", "tool_calls": [call]}),
            "Let me see. tides({\"at\":1})",
        );
        check(json!({"text": "", "tool_calls": [call]}), "tides({\"at\":1})");
        check(json!({"text": "High\nwater"}), "High water");
        check(json!({"other": 1}), "{\"other\":1}");
        check(json!("words"), "words");
    }
}
