//! Agents that keep failing are held back: nothing of theirs is lost, and it shows everywhere.

mod e2e;

use e2e::{Act, Home, Node, PATIENCE, Server};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Waits for the log line that says so of an agent.
fn wait_for(node: &Node, agent: &str, said: &str) {
    let of_it = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["target"] == "agent" && line["agent"] == agent && line["message"] == said)
            .then_some(())
    };
    let found = node.log().wait(Instant::now() + PATIENCE, of_it);
    assert!(found.is_some(), "no line {said} of {agent}:\n{}", node.log().text());
}

#[test]
fn an_agent_that_keeps_failing_waits_until_it_is_resumed() {
    let is_well = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&is_well);
    let server = Server::start(move |seen, _| match theirs.load(Ordering::SeqCst) {
        false => Act::Answer(500, json!("out of order")),
        true if seen.path.starts_with("/v1/") => {
            let message = json!({"role": "assistant", "content": "done"});
            Act::Answer(200, json!({"choices": [{"message": message, "finish_reason": "stop"}]}))
        }
        true => Act::Answer(200, json!("done")),
    });
    let retry = json!({"base_ms": 1, "factor": 1.0, "cap_ms": 1});
    let agent = |mut kind: Value| {
        (kind["max_concurrency"], kind["retry"]) = (json!(1), retry.clone());
        kind["max_attempts"] = json!(1000);
        kind
    };
    let home = Home::new(json!({
        "engine": {"shards": 1},
        "security": {"outbound": {"allow": [server.address()]}},
        "performance": {"breaker": {"minAttempts": 5, "pause": "1h", "maxPause": "1h"}},
        "models": {"small": {"provider": "openai", "baseUrl": server.url("/v1"), "model": "m"}},
        "agents": {
            "hook": agent(json!({"kind": "http", "url": server.url("/hook")})),
            "loop": agent(json!({"kind": "model", "model": "small"})),
        },
    }));
    let node = home.start();
    let well = node.get("/health").ok(200);
    for check in ["database", "agents", "models"] {
        assert_eq!(well["checks"][check], json!({"status": "ok"}), "{well}");
    }
    let ids: Vec<String> = ["hook", "loop", "hook", "loop"]
        .iter()
        .map(|agent| node.submit(&json!({"agent": agent, "input": "x"})))
        .collect();
    wait_for(&node, "hook", "held back");
    wait_for(&node, "loop", "held back");
    assert_eq!(server.count(), 10, "five attempts of each, and no more");

    let status = node.get("/admin/status").ok(200);
    assert_eq!(status["agents_held_back"], json!(["hook", "loop"]));
    let health = node.get("/health").ok(200);
    assert_eq!(health["status"], "degraded", "{health}");
    let check = node.post("/admin/health/check/agents", &Value::Null).ok(200);
    assert_eq!(check["error"], "2 of 2 agents are held back by failures: hook, loop");
    let check = node.post("/admin/health/check/models", &Value::Null).ok(200);
    assert_eq!(check["error"], "the last 5 calls of model small failed, with model_failed at last");
    let check = node.post("/admin/health/check/database", &Value::Null).ok(200);
    assert_eq!(check["status"], "ok");
    let metrics = node.get("/metrics").expect(200).text;
    assert!(metrics.contains("no_agent_breaker_open{agent=\"hook\"} 1\n"), "{metrics}");
    assert!(metrics.contains("no_agent_breaker_open{agent=\"echo\"} 0\n"));

    is_well.store(true, Ordering::SeqCst);
    for agent in ["hook", "loop"] {
        node.post(&format!("/v1/agents/{agent}/resume"), &Value::Null).ok(200);
    }
    for id in &ids {
        node.succeeded(id);
    }
    wait_for(&node, "hook", "let go");
    let metrics = node.get("/metrics").expect(200).text;
    assert!(metrics.contains("no_agent_breaker_open{agent=\"hook\"} 0\n"), "{metrics}");
    assert!(metrics.contains("no_agent_performance_score{agent=\"hook\"} 1\n"), "{metrics}");
    assert_eq!(node.get("/health").ok(200)["status"], "ok");
    node.stop();
}
