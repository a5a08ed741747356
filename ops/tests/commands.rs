//! The command line against a real node: what a user types, what it prints, and how it exits.

mod e2e;

use e2e::forward::Forward;
use e2e::pipe::Lines;
use e2e::{Act, Home, Node, PATIENCE, Server, no};
use serde_json::{Value, json};
use std::process::{Output, Stdio};
use std::time::Instant;

fn start() -> (Home, Node) {
    let home = Home::new(json!({"agents": {"later": {"kind": "sleep"}}}));
    let node = home.start();
    (home, node)
}

/// Runs a client command for the node.
fn run(home: &Home, node: &Node, args: &[&str]) -> Output {
    home.run(&[args, &["--url", node.url()]].concat())
}

/// What a command that must succeed prints as JSON.
#[track_caller]
fn json_of(home: &Home, node: &Node, args: &[&str]) -> Value {
    let output = run(home, node, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn tasks_are_submitted_shown_listed_watched_and_cancelled() {
    let (home, node) = start();
    let task = json_of(&home, &node, &["task", "submit", "echo", "{\"a\":1}", "--wait"]);
    assert_eq!((&task["state"], &task["output"]), (&json!("succeeded"), &json!({"a": 1})));
    let id = task["id"].as_str().expect("an id");
    assert_eq!(json_of(&home, &node, &["task", "get", id])["id"], id);
    let listed = run(&home, &node, &["task", "list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains(id), "{listed:?}");
    let watched = run(&home, &node, &["task", "watch", id]);
    assert!(watched.status.success(), "{watched:?}");
    let long = node.submit(&json!({"agent": "later", "input": {"ms": 600_000}}));
    let cancelled = run(&home, &node, &["task", "cancel", &long]);
    assert!(cancelled.status.success(), "{cancelled:?}");
    assert_eq!(node.task(&long)["state"], "cancelled");
    let unknown = run(&home, &node, &["task", "get", "0197e7a4-0000-7000-8000-000000000001"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("task_unknown"), "{unknown:?}");
    let usage = run(&home, &node, &["task", "submit"]);
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
}

#[test]
fn agents_and_health_are_shown_and_a_node_that_is_gone_is_an_error() {
    let (home, node) = start();
    let listed = run(&home, &node, &["agent", "list"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.status.success() && text.contains("echo") && text.contains("later"), "{text}");
    assert!(run(&home, &node, &["health"]).status.success());
    let denied = home.run(&["task", "list", "--url", node.url(), "--token", "nonsense"]);
    assert_eq!(denied.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&denied.stderr).contains("unauthenticated"), "{denied:?}");
    let url = node.url().to_owned();
    node.stop();
    let gone = home.run(&["health", "--url", &url]);
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    assert!(String::from_utf8_lossy(&gone.stderr).contains(&url), "{gone:?}");
}

#[test]
fn commands_that_wait_go_on_through_a_kill_of_the_node() {
    let server = Server::start(|_, place| match place {
        0..2 => Act::Hold(json!("lost")),
        _ => Act::Answer(200, json!("rain")),
    });
    let script = json!([{"tool_calls": [{"name": "search"}]}, {"text": "found"}]);
    let tool = json!({
        "kind": "http", "name": "search", "url": server.url("/"), "effect": "idempotent"
    });
    let home = Home::new(json!({
        "security": {"outbound": {"allow": [server.address()]}},
        "models": {"script": {"provider": "scripted", "script": script}},
        "agents": {"loop": {"kind": "model", "model": "script", "tools": [tool]}}
    }));
    let node = home.start();
    let forward = Forward::start(node.address());
    let id = node.submit(&json!({"agent": "loop", "input": 1}));
    let run = |args: &[&str]| {
        let mut command = home.command(&[args, &["--json", "--url", forward.url()]].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("runs");
        let said = Lines::read(child.stdout.take().expect("piped"));
        (child, said)
    };
    let (mut watching, events) = run(&["task", "watch", &id]);
    let (mut submitting, answer) = run(&["task", "submit", "loop", "2", "--wait"]);
    server.wait_for(2);
    let until = Instant::now() + PATIENCE;
    let is_called = |line: &str| line.contains("\"tool\"").then_some(());
    events.wait(until, is_called).expect("the call's beginning is shown");
    node.kill9();
    let node = home.start();
    forward.turn(node.address());
    assert!(events.ended(until) && answer.ended(until), "{} {}", events.text(), answer.text());
    assert!(watching.wait().expect("it ended").success());
    assert!(submitting.wait().expect("it ended").success());
    let task: Value = serde_json::from_str(&answer.text()).expect("a task");
    assert_eq!((&task["output"], &task["input"]), (&json!("found"), &json!(2)));
    let lines = events.text();
    let shown = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let ids: Vec<String> =
        shown.filter_map(|event| event["id"].as_str().map(str::to_owned)).collect();
    let all: Vec<String> = (1..=ids.len()).map(|n| n.to_string()).collect();
    assert_eq!(ids, all, "each event once, in order");
    assert!(lines.contains("succeeded") && lines.contains("interrupted"), "{lines}");
}

#[test]
fn dev_shows_a_loop_with_its_steps_and_says_what_to_try_next() {
    let home = Home::new(json!({}));
    let mut command = no();
    command.current_dir(home.path()).args(["dev", "--port", "0"]).arg("--data-dir");
    command.arg(home.data()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it runs");
    let said = Lines::read(child.stdout.take().expect("piped"));
    let folder = home.data().to_str().expect("a path").to_owned();
    let until = Instant::now() + PATIENCE;
    let has = |word: &str| said.wait(until, |line| line.contains(word).then_some(())).is_some();
    let words = ["model", "tool", "admin.token", "no task watch", "curl", &folder];
    let missing: Vec<&str> = words.into_iter().filter(|word| !has(word)).collect();
    let _ = child.kill();
    let _ = child.wait();
    assert!(missing.is_empty(), "{missing:?} is not in:\n{}", said.text());
}
