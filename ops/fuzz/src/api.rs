//! Every body that a route of the API parses, through the whole of the node but its sockets and
//! its shards: no answer is a fault of ours, each is JSON of the form that its status asks for, and
//! what was accepted comes back as it was sent.

use crate::chosen;
use no_net::fuzz::{Answer, Node};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

/// The routes that take a body, as an input chooses them. `TASK` stands for a task that waits for a
/// worker.
const ROUTES: [(&str, &str, &str); 14] = [
    ("POST", "/v1/tasks", JSON),
    ("POST", "/v1/tasks/batch", JSON),
    ("POST", "/v1/tasks/batch", NDJSON),
    ("PUT", "/v1/agents/mine", JSON),
    ("POST", "/v1/worker/lease", JSON),
    ("POST", "/v1/worker/heartbeat", JSON),
    ("POST", "/v1/worker/step", JSON),
    ("POST", "/v1/worker/complete", JSON),
    ("POST", "/v1/worker/fail", JSON),
    ("POST", "/v1/tasks/TASK/cancel", JSON),
    ("POST", "/v1/tasks/TASK/retry", JSON),
    ("POST", "/v1/tasks/TASK/resolve", JSON),
    ("POST", "/v1/dead-letters/redrive", JSON),
    ("GET", "/v1/tasks", ""),
];

/// Reads an input: the route, then the body; for the last the query. In a body `LEASE` stands for a
/// lease that is held.
pub(crate) fn check(data: &[u8]) {
    let Some((choice, text)) = chosen(data) else { return };
    let (method, path, kind) = ROUTES[usize::from(choice) % ROUTES.len()];
    let node = Node::new();
    let task = node.task();
    let path = path.replace("TASK", &task);
    let text =
        if text.contains("LEASE") { text.replace("LEASE", &node.lease()) } else { text.to_owned() };
    let (path, body) = match kind {
        "" => (format!("{path}?{}", text.replace(|c: char| !c.is_ascii_graphic(), "+")), ""),
        _ => (path, &*text),
    };
    // Who waits longer than a few virtual seconds has been understood.
    let Some(answer) = node.ask(method, &path, kind, body) else { return };
    let value = well_formed(&answer);
    if 400 <= answer.status {
        return;
    }
    match (method, &*path) {
        ("POST", "/v1/tasks") => submitted(&answer.text, body),
        // An answer with a number that is none here was only looked at as a whole.
        ("POST", "/v1/tasks/batch") if !value.is_null() => rows(&value),
        ("PUT", _) => defined(&node, &value),
        _ => {}
    }
}

fn well_formed(answer: &Answer) -> Value {
    let (status, text) = (answer.status, &answer.text);
    assert!(status < 500, "{status}: {text}");
    if text.is_empty() {
        return Value::Null;
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        // An input may have numbers that are none here, such as 1e400; they are handed on.
        let _: &RawValue = serde_json::from_str(text).expect("JSON");
        return Value::Null;
    };
    if 400 <= status {
        assert_eq!(answer.content_type, "application/problem+json");
        problem(&value, status);
    } else {
        assert_eq!(answer.content_type, JSON);
    }
    value
}

fn problem(problem: &Value, status: u16) {
    assert_eq!(problem["status"], status, "{problem}");
    assert!(problem["code"].is_string() && problem["title"].is_string(), "{problem}");
    if let Some(pointer) = problem["pointer"].as_str() {
        assert!(pointer.is_empty() || pointer.starts_with(['/', '?']), "{problem}");
    }
}

/// The task is what was sent, its input to the byte.
fn submitted(task: &str, body: &str) {
    type Members<'a> = BTreeMap<String, &'a RawValue>;
    let sent: Members<'_> = serde_json::from_str(body).expect("it was accepted");
    let made: Members<'_> = serde_json::from_str(task).expect("it was rendered");
    let input = sent.get("input").map_or("null", |input| input.get());
    assert_eq!(made["input"].get(), input, "the input is what was sent");
    let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).expect("a text");
    assert_eq!(text(made["agent"]), text(sent["agent"]));
    assert_eq!(made["tenant"].get(), "\"t\"");
    let priority: u8 = made["priority"].get().parse().expect("a number");
    assert!(priority <= 9, "{priority}");
}

fn rows(answer: &Value) {
    for row in answer["items"].as_array().expect("a row for each") {
        let status = row["status"].as_u64().expect("a status") as u16;
        assert!(status < 500, "{row}");
        if 400 <= status {
            problem(&row["problem"], status);
        } else {
            assert!(row["task"]["id"].is_string(), "{row}");
            assert!(row["task"]["priority"].as_u64().is_some_and(|is| is <= 9), "{row}");
        }
    }
}

/// A definition that was accepted is accepted again as it is shown, and shown the same.
fn defined(node: &Node, agent: &Value) {
    let mut shown = agent.clone();
    let members = shown.as_object_mut().expect("an agent");
    for name in ["name", "paused", "builtin", "live"] {
        members.remove(name).expect("it is shown");
    }
    let again = node.ask("PUT", "/v1/agents/mine", JSON, &shown.to_string()).expect("at once");
    assert!(again.status < 300, "refused as shown: {} {shown}", again.text);
    assert_eq!(well_formed(&again), *agent);
}
