//! The agent loop against a model server that others wrote: npm `@copilotkit/aimock`, which speaks
//! OpenAI's chat completions, streams, counts tokens, refuses with 429 and cuts streams off.
//!
//! `make test` installs it under `target/test-tools`. Where it or Node.js is missing the tests say
//! so and show nothing; in CI that is a failure.

mod e2e;

use e2e::pipe::Lines;
use e2e::sse::Frame;
use e2e::{Client, Home, Node, PATIENCE, Server};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A running aimock; ended when dropped.
struct Aimock {
    child: Child,
    url: String,
}

impl Drop for Aimock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Aimock {
    /// Starts it with these answers; `None`, and a word about it, when it is not there.
    fn start(dir: &Path, fixtures: Value) -> Option<Aimock> {
        let path = dir.join("fixtures.json");
        std::fs::write(&path, json!({"fixtures": fixtures}).to_string()).expect("written");
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools");
        let cli = tools.join("node_modules/@copilotkit/aimock/dist/cli.js");
        let node = Some(tools.join("bin/node")).filter(|node| node.exists());
        let child = Command::new(node.unwrap_or_else(|| "node".into()))
            .arg(&cli)
            .args(["--port", "0", "--strict", "--validate-on-load", "--fixtures"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let is_there = cli.is_file();
        let mut child = match child {
            Ok(child) if is_there => child,
            other => return missing(&cli, other.ok()),
        };
        let lines = Lines::read(child.stdout.take().expect("piped"));
        let url = lines.wait(Instant::now() + PATIENCE, |line| {
            line.split_once("listening on ").map(|(_, url)| url.trim().to_owned())
        });
        let aimock = Aimock { child, url: url.unwrap_or_default() };
        assert!(!aimock.url.is_empty(), "aimock does not listen:\n{}", lines.text());
        Some(aimock)
    }

    /// The requests for a model, in order.
    fn requests(&self, model: &str) -> Vec<Value> {
        let journal = Client::new(&self.url, None).get("/__aimock/journal").ok(200);
        let all = journal.as_array().expect("requests").clone();
        all.into_iter().filter(|entry| entry["body"]["model"] == model).collect()
    }
}

fn missing(cli: &Path, child: Option<Child>) -> Option<Aimock> {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = format!("SKIPPED: aimock is missing ({}): run `make test`", cli.display());
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{text}");
    eprintln!("{text}");
    None
}

/// A home with an agent for each model, that may use the tool `weather` at `server`.
fn home(aimock: &Aimock, server: &Server, models: &[&str]) -> Home {
    let mut config = json!({"security": {"outbound": {"allow": [server.address()]}}});
    for model in models {
        config["models"][model] = json!({
            "provider": "openai", "baseUrl": format!("{}/v1", aimock.url), "model": model,
            "prices": {"inputPerMillion": 1.0, "outputPerMillion": 2.0}
        });
        config["agents"][model] = json!({
            "kind": "model", "model": model, "system": "Be brief.",
            "retry": {"base_ms": 1, "factor": 1.0, "cap_ms": 1},
            "tools": [{
                "kind": "http", "name": "weather", "description": "The weather of a city.",
                "url": server.url("/weather/{city}"), "method": "GET",
                "parameters": {
                    "type": "object", "properties": {"city": {"type": "string"}},
                    "required": ["city"]
                }
            }]
        });
    }
    Home::new(config)
}

/// Submits to an agent and follows it from its first event to its end.
fn follow(node: &Node, agent: &str) -> (Value, Vec<Frame>) {
    node.order(&format!("/v1/agents/{agent}/pause")).expect(200);
    let id = node.submit(&json!({"agent": agent, "input": "How is the weather in Oslo?"}));
    let mut events = node.events(&id, None);
    let mut frames = vec![events.next().expect("it was submitted")];
    node.order(&format!("/v1/agents/{agent}/resume")).expect(200);
    frames.extend(events.rest());
    (node.ended(&id), frames)
}

fn words(frames: &[Frame]) -> Vec<String> {
    let deltas = frames.iter().filter(|frame| frame.event == "delta");
    deltas.map(|frame| frame.json()["text"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn a_tool_call_and_a_streamed_answer_with_its_usage() {
    let server = Server::start(|_, _| e2e::Act::Answer(200, json!({"sky": "rain"})));
    let call = json!({"name": "weather", "arguments": "{\"city\":\"Oslo\"}", "id": "call_w"});
    let dir = tempfile::tempdir().expect("a folder");
    let fixtures = json!([
        {
            "match": {"model": "tool", "hasToolResult": false},
            "response": {
                "toolCalls": [call], "usage": {"prompt_tokens": 20, "completion_tokens": 9}
            }
        },
        {
            "match": {"model": "tool", "toolCallId": "call_w", "toolResultContains": "rain"},
            "response": {
                "content": "It rains in Oslo all day long.",
                "usage": {"prompt_tokens": 40, "completion_tokens": 6}
            },
            "chunkSize": 5, "latency": 2
        }
    ]);
    let Some(aimock) = Aimock::start(dir.path(), fixtures) else { return };
    let home = home(&aimock, &server, &["tool"]);
    let node = home.start();
    let (task, frames) = follow(&node, "tool");
    assert_eq!(task["state"], "succeeded", "{task}");
    assert_eq!(task["output"], "It rains in Oslo all day long.");
    assert_eq!(
        task["usage"],
        json!({"iterations": 2, "input_tokens": 60, "output_tokens": 15, "cost_usd": 0.00009})
    );
    let words = words(&frames);
    assert!(2 < words.len(), "streamed in pieces: {words:?}");
    assert_eq!(words.concat(), "It rains in Oslo all day long.");
    let id = e2e::client::id_of(&task);
    let steps = node.steps(&id);
    let names: Vec<&Value> = steps.iter().map(|step| &step["name"]).collect();
    assert_eq!(names, ["tool", "weather", "tool"]);
    assert_eq!(steps[1]["output"], json!({"sky": "rain"}));
    assert_eq!(
        (&steps[0]["usage"]["input_tokens"], &steps[2]["usage"]["output_tokens"]),
        (&json!(20), &json!(6))
    );
    assert_eq!(server.seen()[0].path, "/weather/Oslo");
    let requests = aimock.requests("tool");
    assert_eq!(requests.len(), 2);
    let messages = &requests[1]["body"]["messages"];
    assert_eq!((&messages[0]["role"], &messages[1]["role"]), (&json!("system"), &json!("user")));
    assert_eq!(messages[2]["tool_calls"][0]["id"], "call_w");
    assert_eq!(messages[3]["tool_call_id"], "call_w");
    assert_eq!(requests[0]["body"]["tools"][0]["function"]["name"], "weather");
    let keys: Vec<&Value> = requests.iter().map(|r| &r["headers"]["idempotency-key"]).collect();
    assert_eq!(keys, [&format!("{id}-1"), &format!("{id}-3")]);
    node.stop();
}

#[test]
fn a_429_and_a_cut_in_mid_stream_are_made_again_with_the_same_key() {
    let server = Server::agreeing();
    let dir = tempfile::tempdir().expect("a folder");
    let limit = json!({"message": "slow down", "type": "rate_limit_error"});
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 3});
    let fixtures = json!([
        {
            "match": {"model": "limit", "sequenceIndex": 0},
            "response": {"error": limit, "status": 429, "retryAfter": 0}
        },
        {"match": {"model": "limit"}, "response": {"content": "at last", "usage": usage}},
        {
            "match": {"model": "cut", "sequenceIndex": 0},
            "response": {"content": "this answer is cut in the middle of its stream"},
            "chunkSize": 8, "latency": 20, "truncateAfterChunks": 3
        },
        {"match": {"model": "cut"}, "response": {"content": "whole", "usage": usage}}
    ]);
    let Some(aimock) = Aimock::start(dir.path(), fixtures) else { return };
    let home = home(&aimock, &server, &["limit", "cut"]);
    let node = home.start();
    for (agent, output, code) in
        [("limit", "at last", "model_rate_limited"), ("cut", "whole", "model_stream_cut")]
    {
        let (task, frames) = follow(&node, agent);
        assert_eq!(
            (&task["state"], &task["output"]),
            (&json!("succeeded"), &json!(output)),
            "{task}"
        );
        assert_eq!((&task["attempt"], &task["error"]), (&json!(2), &Value::Null));
        assert_eq!(task["usage"]["input_tokens"], 7, "what was cut off is not counted");
        let failed = frames.iter().find(|frame| frame.event == "step_failed");
        let failed = failed.unwrap_or_else(|| panic!("{frames:#?}")).json();
        assert_eq!(failed["error"]["code"], code, "{failed}");
        assert_eq!(failed["error"]["retryable"], true);
        let steps = node.steps(&e2e::client::id_of(&task));
        assert_eq!(steps.len(), 1, "{steps:#?}");
        assert_eq!((&steps[0]["state"], &steps[0]["attempt"]), (&json!("succeeded"), &json!(2)));
        let requests = aimock.requests(agent);
        assert_eq!(requests.len(), 2);
        let key = |place: usize| &requests[place]["headers"]["idempotency-key"];
        assert!(key(0).is_string() && key(0) == key(1), "{requests:#?}");
        if agent == "cut" {
            let said = words(&frames).concat();
            assert!(said.starts_with("this ans"), "it was cut in mid-stream: {frames:#?}");
        }
    }
    node.stop();
}
