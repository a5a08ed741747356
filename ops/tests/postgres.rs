//! Nodes whose tasks are in PostgreSQL: the store's commands, a start that needs tables, what goes
//! on through kills of either side, and a second node that takes over.

mod e2e;

use e2e::client::JSON;
use e2e::postgres::Postgres;
use e2e::{Home, Node, PATIENCE};
use no_loadtest::Silent;
use no_loadtest::restarts::{RestartsPlan, table};
use no_loadtest::serve::Serve;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A home of a node with that name on that database.
fn home(postgres: &Postgres, node: &str) -> Home {
    let script = json!([
        {"text": "", "tool_calls": [{"name": "wait", "arguments": {"ms": 30}}]},
        {"text": "done"}
    ]);
    Home::new(json!({
        "service": {"node": node},
        "database": postgres.config(),
        "models": {"small": {"provider": "scripted", "script": script}},
        "agents": {
            "loop": {"kind": "model", "model": "small", "tools": [{"kind": "wait"}]},
            "render": {"kind": "worker"}
        }
    }))
}

/// `no db` with that command: exit code, and what it said.
fn db(home: &Home, command: &str, more: &[&str]) -> (i32, String) {
    let config = home.config();
    let args = [&["db", command, "--config", config.to_str().expect("plain")], more].concat();
    let output = home.run(&args);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8(said).expect("text"))
}

#[test]
fn commands_say_what_the_database_is_and_what_it_needs() {
    let Some(postgres) = Postgres::start() else { return };
    let home = home(&postgres, "a");
    let (code, said) = db(&home, "test-connection", &[]);
    assert!(code == 0 && said.contains("no db migrate"), "{code} {said}");
    for refused in [db(&home, "health-check", &[]), home.refused()] {
        assert!(refused.0 == 4 && refused.1.contains("no db migrate"), "{refused:?}");
    }
    let (code, said) = db(&home, "migrate", &["--json"]);
    assert_eq!(code, 0, "{said}");
    let made: Value = serde_json::from_str(&said).expect("json");
    assert_eq!((&made["from"], &made["store"]), (&Value::Null, &json!("postgresql")));
    let (code, said) = db(&home, "migrate", &[]);
    assert!(code == 0 && said.contains("already"), "{code} {said}");
    let (code, said) = db(&home, "health-check", &["--json"]);
    assert_eq!(code, 0, "{said}");
    let seen: Value = serde_json::from_str(&said).expect("json");
    assert!(seen["commit_ms"].as_f64().is_some_and(|ms| 0.0 < ms), "{seen}");

    postgres.kill();
    let away = db(&home, "test-connection", &[]);
    assert!(away.0 == 4 && away.1.contains("PostgreSQL at"), "{away:?}");
    // Files are looked at as well.
    let files = Home::new(json!({}));
    let (code, said) = db(&files, "migrate", &[]);
    assert!(code == 2 && said.contains("database.host"), "{code} {said}");
    files.start().stop();
    let (code, said) = db(&files, "health-check", &[]);
    assert!(code == 0 && said.contains("2 shard(s)"), "{code} {said}");
}

/// Submits with a key; the task's id.
fn keyed(node: &Node, key: &str) -> String {
    let headers = [JSON, ("idempotency-key", key)];
    let reply = node.send("POST", "/v1/tasks", &headers, Some(br#"{"agent":"echo","input":1}"#));
    assert!(matches!(reply.status, 200 | 202), "{}", reply.text);
    reply.body["id"].as_str().expect("an id").to_owned()
}

#[test]
fn what_runs_goes_on_after_a_kill_of_the_node_and_of_the_database() {
    let Some(postgres) = Postgres::start() else { return };
    let home = home(&postgres, "a");
    postgres.migrate(&home);
    let node = home.start();
    let echo = keyed(&node, "k");
    assert_eq!(node.succeeded(&echo)["output"], 1);
    let looped = node.submit(&json!({"agent": "loop", "input": "go"}));
    assert_eq!(node.succeeded(&looped)["output"], "done");
    assert_eq!(node.steps(&looped).len(), 3);
    // Larger than what stands in its row.
    let large = json!("x".repeat(40_000));
    let stored = node.submit(&json!({"agent": "echo", "input": large}));
    assert_eq!(node.succeeded(&stored)["output"], large);
    let slept = node.submit(&json!({"agent": "sleep", "input": {"ms": 600_000}}));
    node.after_event(&slept, "waited");
    node.put("/v1/agents/late", &json!({"kind": "echo"})).expect(200);
    node.kill9();

    let node = home.start();
    assert_eq!(keyed(&node, "k"), echo, "one key makes one task");
    assert_eq!(node.task(&slept)["state"], "waiting");
    node.get("/v1/agents/late").expect(200);
    let until = Instant::now() + PATIENCE;
    postgres.kill();
    // What comes while it is away is acknowledged once it is back, and not before.
    let client = node.client().clone();
    let waiting =
        std::thread::spawn(move || client.submit(&json!({"agent": "echo", "input": "meanwhile"})));
    postgres.start_again();
    let late = waiting.join().expect("acknowledged");
    assert_eq!(node.succeeded(&late)["output"], "meanwhile");
    assert!(Instant::now() < until, "it took long");
    let all = node.all("/v1/tasks?limit=2");
    assert_eq!(all.len(), 5, "{all:#?}");
    node.order(&format!("/v1/tasks/{slept}/cancel")).expect(200);
    node.stop();
    let counted =
        "SELECT count(*) || '|' || count(*) FILTER (WHERE state = 'succeeded') FROM tasks";
    let counted = postgres.says(counted);
    assert_eq!(counted, "5|4");
}

#[test]
fn restarts_under_load_lose_nothing_and_double_nothing() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.migrate(&home(&postgres, "a"));
    let mut serve = Serve::new(env!("CARGO_BIN_EXE_no"));
    serve.config = json!({"database": postgres.config(), "service": {"node": "a"}});
    let plan = RestartsPlan {
        restarts: 3,
        every: Duration::from_millis(400),
        rate: Some(500.0),
        connections: 8,
        ..RestartsPlan::new(serve)
    };
    let report = plan.run(&mut Silent).expect("a report");
    assert!(report.is_met(), "{}", table(&report));
}
