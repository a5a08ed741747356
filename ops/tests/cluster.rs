//! Several nodes that share one database: any of them answers any request, and each partition is
//! one node's at a time.

mod e2e;

use e2e::client::{JSON, is_ended};
use e2e::cluster::{home, homes, owner_of, start};
use e2e::postgres::Postgres;
use e2e::{Client, Node};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn keyed(node: &Client, key: &str) -> String {
    let reply = node.submit_keyed(key, &json!({"agent": "echo", "input": 1}));
    assert!(matches!(reply.status, 200 | 202), "{}", reply.text);
    reply.body["id"].as_str().expect("an id").to_owned()
}

#[test]
fn any_node_answers_any_request() {
    let Some(postgres) = Postgres::start() else { return };
    let nodes = start(&postgres, &homes(&postgres));
    for i in 0..12 {
        let key = format!("key-{i}");
        let ids: BTreeSet<String> = nodes.iter().map(|node| keyed(node, &key)).collect();
        assert_eq!(ids.len(), 1, "one key makes one task, whichever node is asked");
    }
    // Without a key a task stays where it came.
    let made: Vec<String> =
        nodes.iter().map(|node| node.submit(&json!({"agent": "echo", "input": 2}))).collect();
    for id in &made {
        for node in &nodes {
            assert_eq!(node.succeeded(id)["output"], 2);
        }
    }
    let parked = nodes[0].submit(&json!({"agent": "sleep", "input": {"ms": 600_000}}));
    let at = owner_of(&postgres, &parked);
    let (owner, other) = (&nodes[at], &nodes[(at + 1) % 3]);
    owner.after_event(&parked, "waited");
    // A long poll, a stream and a cancel by way of a node that has not the task.
    let polling = {
        let (client, path) = (other.client().clone(), format!("/v1/tasks/{parked}?wait_ms=30000"));
        std::thread::spawn(move || client.get(&path).ok(200))
    };
    let mut events = other.events(&parked, None);
    events.until("waited");
    other.order(&format!("/v1/tasks/{parked}/cancel")).expect(200);
    events.until("cancelled");
    assert_eq!(polling.join().expect("an answer")["state"], "cancelled");
    owner.order(&format!("/v1/tasks/{parked}/cancel")).problem(409, "task_ended");
    other.order(&format!("/v1/tasks/{parked}/cancel")).problem(409, "task_ended");
    nodes[1].order("/v1/tasks/019-nothing/cancel").problem(404, "task_unknown");
    assert_eq!(nodes[2].all("/v1/tasks?limit=500").len(), 16);
    nodes.into_iter().for_each(Node::stop);
}

#[test]
fn a_batch_is_cut_and_joined_in_its_order() {
    let Some(postgres) = Postgres::start() else { return };
    let nodes = start(&postgres, &homes(&postgres));
    let tasks: Vec<Value> = (0..60)
        .map(|i| match i {
            7 => json!({"agent": "nobody", "input": i}),
            9 => json!({"agent": "echo", "input": i, "bad": 1}),
            i => json!({"agent": "echo", "input": i}),
        })
        .collect();
    let body = json!({"tasks": tasks}).to_string();
    let send = |node: &Node| {
        let headers = [JSON, ("idempotency-key", "batch-1")];
        node.send("POST", "/v1/tasks/batch", &headers, Some(body.as_bytes())).ok(200)
    };
    let first = send(&nodes[0]);
    let rows = first["items"].as_array().expect("rows");
    assert_eq!(rows.len(), 60);
    for (i, row) in rows.iter().enumerate() {
        match i {
            7 => assert_eq!(row["problem"]["code"], "agent_unknown", "{row}"),
            9 => assert_eq!(row["problem"]["pointer"], "/tasks/9/bad", "{row}"),
            i => assert_eq!(row["task"]["input"], i, "{row}"),
        }
    }
    let ids = |answer: &Value| -> Vec<Value> {
        let rows = answer["items"].as_array().expect("rows").iter();
        rows.map(|row| row["task"]["id"].clone()).collect()
    };
    for node in &nodes[1..] {
        assert_eq!(ids(&send(node)), ids(&first), "the same tasks");
    }
    assert_eq!(postgres.says("SELECT count(*) FROM tasks"), "58");
    // Lines, and without a key: all of it where it came.
    let lines = "{\"agent\":\"echo\",\"input\":1}\n{\"agent\":\"echo\",\"input\":2}\n";
    let kind = [("content-type", "application/x-ndjson")];
    let reply = nodes[1].send("POST", "/v1/tasks/batch", &kind, Some(lines.as_bytes())).ok(200);
    assert_eq!(reply["items"][1]["task"]["input"], 2);
    let empty = nodes[2].post("/v1/tasks/batch", &json!({"tasks": []}));
    assert_eq!(empty.problem(422, "invalid")["pointer"], "/tasks");
    nodes.into_iter().for_each(Node::stop);
}

#[test]
fn a_worker_of_any_node_gets_any_nodes_tasks_and_reports_on_them_anywhere() {
    let Some(postgres) = Postgres::start() else { return };
    let nodes = start(&postgres, &homes(&postgres));
    let render = json!({"agent": "render", "input": "x"});
    let ids: BTreeSet<String> = (0..9).map(|i| nodes[i % 3].submit(&render)).collect();
    let mut leases: Vec<(String, String)> = Vec::new();
    while leases.len() < ids.len() {
        let asked = json!({"agents": ["render"], "max_tasks": 2, "wait_ms": 10_000});
        let got = nodes[0].post("/v1/worker/lease", &asked).ok(200);
        let got = got["leases"].as_array().expect("leases");
        assert!(!got.is_empty(), "the other nodes have some");
        let text = |lease: &Value, name: &str| lease[name].as_str().expect("text").to_owned();
        leases.extend(got.iter().map(|lease| (text(lease, "lease"), text(lease, "task"))));
    }
    let leased: BTreeSet<String> = leases.iter().map(|(_, task)| task.clone()).collect();
    assert_eq!(leased, ids);
    let asked = json!({"agents": ["render"], "wait_ms": 0});
    assert_eq!(nodes[1].post("/v1/worker/lease", &asked).ok(200)["leases"], json!([]));
    // One by one and many at once, by way of nodes that have some of them.
    let (first, rest) = leases.split_first().expect("some");
    nodes[2].post("/v1/worker/heartbeat", &json!({"lease": first.0})).expect(200);
    nodes[2].post("/v1/worker/complete", &json!({"lease": first.0, "output": 0})).expect(200);
    let mut reports: Vec<Value> =
        rest.iter().map(|(lease, task)| json!({"lease": lease, "output": task})).collect();
    reports.insert(3, json!({"lease": "nonsense"}));
    let rows = nodes[1].post("/v1/worker/complete", &json!(reports)).ok(200);
    let rows = rows.as_array().expect("rows");
    assert_eq!(rows.len(), reports.len());
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(row["status"], if i == 3 { 422 } else { 200 }, "{row}");
    }
    for (_, task) in rest {
        assert_eq!(nodes[0].succeeded(task)["output"], **task);
    }
    nodes[0]
        .post("/v1/worker/complete", &json!({"lease": first.0, "output": 1}))
        .problem(409, "lease_lost");
    nodes.into_iter().for_each(Node::stop);
}

#[test]
fn agents_and_dead_letters_are_the_same_on_all_nodes() {
    let Some(postgres) = Postgres::start() else { return };
    let nodes = start(&postgres, &homes(&postgres));
    nodes[0].put("/v1/agents/late", &json!({"kind": "worker"})).expect(200);
    // The answer comes when the others know it.
    let ids: Vec<String> = nodes
        .iter()
        .map(|node| node.submit(&json!({"agent": "late", "input": 1, "max_attempts": 1})))
        .collect();
    for _ in &ids {
        let asked = json!({"agents": ["late"], "max_tasks": 1, "wait_ms": 10_000});
        let lease = nodes[1].post("/v1/worker/lease", &asked).ok(200)["leases"][0].clone();
        let error = json!({"code": "no", "message": "broken"});
        let report = json!({"lease": lease["lease"], "retryable": false, "error": error});
        nodes[2].post("/v1/worker/fail", &report).expect(200);
    }
    for id in &ids {
        assert_eq!(nodes[0].ended(id)["state"], "failed");
    }
    let redrive = json!({"agent": "late"});
    let redriven = nodes[2].post("/v1/dead-letters/redrive", &redrive).ok(200);
    assert_eq!(redriven["redriven"], 3);
    nodes[1].order("/v1/agents/late/pause").expect(200);
    for node in &nodes {
        assert_eq!(node.get("/v1/agents/late").ok(200)["paused"], true);
    }
    let asked = json!({"agents": ["late"], "wait_ms": 0});
    assert_eq!(nodes[0].post("/v1/worker/lease", &asked).ok(200)["leases"], json!([]));
    nodes.into_iter().for_each(Node::stop);
}

#[test]
fn an_agents_bounds_are_those_of_all_nodes_together() {
    let Some(postgres) = Postgres::start() else { return };
    let nodes = start(&postgres, &homes(&postgres));
    let agent = json!({"kind": "worker", "max_concurrency": 4});
    nodes[0].put("/v1/agents/narrow", &agent).expect(200);
    for i in 0..24 {
        nodes[i % 3].submit(&json!({"agent": "narrow", "input": i}));
    }
    let mut leases = Vec::new();
    loop {
        let asked = json!({"agents": ["narrow"], "max_tasks": 10, "wait_ms": 0});
        let got = nodes[leases.len() % 3].post("/v1/worker/lease", &asked).ok(200);
        let got = got["leases"].as_array().expect("leases").clone();
        if got.is_empty() {
            break;
        }
        leases.extend(got);
    }
    assert_eq!(leases.len(), 4);
    let [a, b, c] = nodes;
    // The two that stay share it out anew.
    c.stop();
    b.stop();
    let asked = json!({"agents": ["narrow"], "max_tasks": 10, "wait_ms": 0});
    assert_eq!(a.post("/v1/worker/lease", &asked).ok(200)["leases"], json!([]));
    let first = json!({"lease": leases[0]["lease"], "output": 1});
    a.post("/v1/worker/complete", &first).expect(200);
    let more = a.post("/v1/worker/lease", &asked).ok(200);
    assert_eq!(more["leases"].as_array().expect("leases").len(), 1, "{more}");
    a.stop();
}

#[test]
fn a_database_of_others_and_a_node_that_nobody_reaches_are_named() {
    let Some(postgres) = Postgres::start() else { return };
    let home = home(&postgres.config(), "a", &json!({}));
    postgres.migrate(&home);
    let test = |home: &e2e::Home| {
        let config = home.config();
        let config = config.to_str().expect("plain");
        let output = home.run(&["db", "test-connection", "--config", config]);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).expect("text"))
    };
    let node = home.start();
    let (code, said) = test(&home);
    assert!(code == Some(0) && !said.contains("warning"), "{said}");
    postgres.says(
        "INSERT INTO nodes (name, incarnation, beat, address, draining) \
         VALUES ('b', 1, 1, 'http://127.0.0.1:1', false)",
    );
    let (code, said) = test(&home);
    assert!(code == Some(0) && said.contains("node b cannot be reached"), "{said}");
    let mut database = postgres.config();
    database["cluster"] = json!("staging");
    let other = e2e::Home::new(json!({"service": {"node": "x"}, "database": database}));
    let of_others = "holds the store of the cluster \"no\", not of \"staging\"";
    for (code, said) in [test(&other), {
        let (code, said) = other.refused();
        (Some(code), said)
    }] {
        assert!(code == Some(4) && said.contains(of_others), "{code:?} {said}");
    }
    assert_eq!(postgres.says("SELECT count(*) FROM nodes WHERE name = 'x'"), "0");
    node.stop();
}

#[test]
fn only_nodes_pass() {
    let Some(postgres) = Postgres::start() else { return };
    let home = home(&postgres.config(), "a", &json!({}));
    postgres.migrate(&home);
    let node = home.start();
    let bad = [("no-pass", "00")];
    node.send("GET", "/v1/tasks", &bad, None).problem(401, "unauthenticated");
    node.send("POST", "/cluster/look", &[], None).problem(404, "not_found");
    let places = [JSON, ("no-places", "7"), ("idempotency-key", "k")];
    let body = br#"{"tasks":[{"agent":"echo","input":1}]}"#;
    let first = node.send("POST", "/v1/tasks/batch", &places, Some(body)).ok(200);
    let plain = [JSON, ("idempotency-key", "k")];
    let again = node.send("POST", "/v1/tasks/batch", &plain, Some(body)).ok(200);
    let id = |answer: &Value| answer["items"][0]["task"]["id"].clone();
    assert_eq!(id(&first), id(&again), "a client does not say what places its items had");
    assert!(is_ended(&node.ended(id(&first).as_str().expect("an id"))));
    node.stop();
}
