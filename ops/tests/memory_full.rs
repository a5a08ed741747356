//! Memory that runs out: new work is refused, what was taken can be worked off, and then the node
//! takes new work again.

mod e2e;

use e2e::client::JSON;
use e2e::{Home, Node, PATIENCE};
use serde_json::{Value, json};
use std::time::Instant;

/// More than the stores' caches of two shards, which stay.
const MEMORY_MAX: u64 = 224 << 20;
/// What comes in between two looks at the memory.
const SLACK: u64 = 64 << 20;
const BATCH: usize = 50;

#[test]
fn used_up_memory_refuses_new_work_until_the_old_is_done() {
    let home = Home::new(json!({
        "engine": {"memoryMaxBytes": MEMORY_MAX},
        "agents": {"render": {"kind": "worker"}},
    }));
    let node = home.start();
    let (refused, health) = fill(&node);
    assert_eq!(refused["detail"], "the node's memory is full");
    assert_eq!(health["checks"]["disk"]["status"], "ok", "{health}");
    assert!(metric(&node, "process_resident_memory_bytes") < MEMORY_MAX + SLACK);

    work_off(&node);
    let deadline = Instant::now() + PATIENCE;
    let again = json!({"agent": "echo", "input": 1}).to_string();
    while node.send("POST", "/v1/tasks", &[JSON], Some(again.as_bytes())).status == 503 {
        assert!(Instant::now() < deadline, "refused although nothing is left");
    }
    node.stop();
}

/// Submits until the node refuses and says in its health that its memory is used up: what it says
/// to both. A first refusal may pass again, when buffers that were under way are given back.
fn fill(node: &Node) -> (Value, Value) {
    let task = json!({"agent": "render", "input": "x".repeat(15 << 10)});
    let batch = json!({"tasks": vec![task; BATCH]}).to_string();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let reply = node.send("POST", "/v1/tasks/batch", &[JSON], Some(batch.as_bytes()));
        if reply.status == 200 {
            continue;
        }
        assert!(!reply.header("retry-after").is_empty());
        let refused = reply.problem(503, "queue_full");
        let health = node.get("/health").body;
        let by_net = metric(node, "no_admission_refused_total{reason=\"memory_full\"}");
        if health["checks"]["memory"]["status"] == "failing" && 0 < by_net {
            return (refused, health);
        }
    }
    panic!("there is no end to its memory");
}

/// Leases and completes everything.
fn work_off(node: &Node) {
    let worker = node.patient(PATIENCE);
    loop {
        let ask = json!({"agents": ["render"], "max_tasks": 100, "wait_ms": 0, "lease_ms": 60_000});
        let mut answer = worker.post("/v1/worker/lease", &ask).ok(200);
        let Value::Array(leases) = answer["leases"].take() else { panic!("{answer}") };
        if leases.is_empty() {
            return;
        }
        let done = |lease: &Value| json!({"lease": lease["lease"], "output": "drawn"});
        let done: Vec<Value> = leases.iter().map(done).collect();
        worker.post("/v1/worker/complete", &json!(done)).expect(200);
    }
}

fn metric(node: &Node, name: &str) -> u64 {
    let text = node.get("/metrics").expect(200).text;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}")).parse::<f64>().expect("a number") as u64
}
