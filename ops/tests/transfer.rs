//! A store of files moved into PostgreSQL and back: whole, in order, and only once.

mod e2e;

use e2e::postgres::Postgres;
use e2e::{Home, Node};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

fn agents() -> Value {
    json!({"render": {"kind": "worker"}})
}

/// A home whose tasks are in that database.
fn shared(postgres: &Postgres) -> Home {
    Home::new(json!({"database": postgres.config(), "agents": agents()}))
}

/// `no db` with these arguments and that home's configuration: exit code, and what it said.
fn db(home: &Home, args: &[&str]) -> (i32, String) {
    let config = home.config();
    let config = ["--config", config.to_str().expect("plain")];
    let output = home.run(&[&["db"], args, &config].concat());
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8(said).expect("text"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain")
}

/// One of each: ended, parked, failed, with a key, with a large payload, with feedback.
struct Filled {
    ended: Vec<String>,
    parked: String,
    dead: String,
    keyed: String,
    large: String,
    ready: String,
}

fn fill(node: &Node) -> Filled {
    let echo = |input: Value| node.submit(&json!({"agent": "echo", "input": input}));
    let ended: Vec<String> = (0..450).map(|i| echo(json!(i))).collect();
    let large = echo(json!("x".repeat(40_000)));
    ended.iter().chain([&large]).for_each(|id| drop(node.succeeded(id)));
    let parked = node.submit(&json!({"agent": "sleep", "input": {"ms": 600_000}}));
    node.after_event(&parked, "waited");
    let render = json!({"agent": "render", "input": 1, "max_attempts": 1});
    let dead = node.submit(&render);
    let asked = json!({"agents": ["render"], "wait_ms": 10_000});
    let lease = node.post("/v1/worker/lease", &asked).ok(200)["leases"][0]["lease"].clone();
    let error = json!({"code": "no", "message": "broken"});
    let report = json!({"lease": lease, "retryable": false, "error": error});
    node.post("/v1/worker/fail", &report).expect(200);
    let keyed = node.submit_keyed("k", &json!({"agent": "echo", "input": "k"}));
    let keyed = keyed.body["id"].as_str().expect("an id").to_owned();
    node.succeeded(&keyed);
    let ready = node.submit(&render);
    node.put("/v1/agents/late", &json!({"kind": "echo"})).expect(200);
    node.post(&format!("/v1/tasks/{large}/feedback"), &json!({"score": 4})).expect(200);
    Filled { ended, parked, dead, keyed, large, ready }
}

fn check(node: &Node, filled: &Filled) {
    let Filled { ended, parked, dead, keyed, large, ready } = filled;
    for (i, id) in ended.iter().enumerate().step_by(97) {
        assert_eq!(node.task(id)["output"], i, "{id}");
    }
    assert_eq!(node.all("/v1/tasks?limit=500").len(), 455);
    assert_eq!(node.task(large)["output"].as_str().map(str::len), Some(40_000));
    assert_eq!(node.task(parked)["state"], "waiting");
    assert_eq!(node.task(dead)["error"]["message"], "broken");
    let again = node.submit_keyed("k", &json!({"agent": "echo", "input": "k"})).ok(200);
    assert_eq!(again["id"], **keyed, "one key makes one task");
    assert_eq!(node.task(ready)["state"], "queued");
    node.get("/v1/agents/late").expect(200);
    let metrics = node.get("/metrics").expect(200).text;
    assert!(metrics.contains("no_customer_satisfaction_index{agent=\"echo\"} 0.75"), "{metrics}");
    let steps = node.events(&ended[0], None).rest().len();
    assert_eq!(steps, 3, "submitted, started, succeeded");
}

#[test]
fn all_moves_into_a_database_and_back() {
    let Some(postgres) = Postgres::start() else { return };
    let files = Home::new(json!({"agents": agents()}));
    let node = files.start();
    let filled = fill(&node);
    let shared = shared(&postgres);
    let import = ["import", "--from", text(files.data())];
    let (code, said) = db(&shared, &import);
    assert!(code == 4 && said.contains("in use by another nO"), "{code} {said}");
    node.stop();
    let (code, said) = db(&shared, &import);
    assert!(code == 4 && said.contains("no db migrate"), "{code} {said}");
    postgres.migrate(&shared);
    let (code, said) = db(&shared, &["import", "--from", text(files.data()), "--json"]);
    assert_eq!(code, 0, "{said}");
    let moved: Value = serde_json::from_str(&said).expect("json");
    assert_eq!((&moved["tasks"], &moved["keys"]), (&json!(455), &json!(1)), "{moved}");
    let (code, said) = db(&shared, &import);
    assert!(code == 4 && said.contains("holds a store"), "{code} {said}");
    let node = shared.start();
    check(&node, &filled);
    let to = shared.path().join("back");
    let export = ["export", "--to", text(&to), "--json"];
    let (code, said) = db(&shared, &export);
    assert!(code == 4 && said.contains("runs on the database"), "{code} {said}");
    node.order(&format!("/v1/tasks/{}/retry", filled.dead)).expect(200);
    node.order(&format!("/v1/tasks/{}/cancel", filled.dead)).expect(200);
    node.stop();
    let (code, said) = db(&shared, &export);
    assert_eq!(code, 0, "{said}");
    let back: Value = serde_json::from_str(&said).expect("json");
    assert_eq!(back["tasks"], 455, "{back}");
    assert_ne!(back["digest"], moved["digest"], "a task was cancelled in between");
    let home = Home::with_data(json!({"agents": agents()}), to);
    let node = home.start();
    assert_eq!(node.task(&filled.dead)["state"], "cancelled");
    assert_eq!(node.task(&filled.parked)["state"], "waiting");
    assert_eq!(node.task(&filled.large)["output"].as_str().map(str::len), Some(40_000));
    let again = node.submit_keyed("k", &json!({"agent": "echo", "input": "k"})).ok(200);
    assert_eq!(again["id"], *filled.keyed);
    node.stop();
}

#[test]
fn an_import_that_was_killed_goes_on_where_it_was() {
    let Some(postgres) = Postgres::start() else { return };
    let files = Home::new(json!({"agents": agents()}));
    let node = files.start();
    let filled = fill(&node);
    node.stop();
    let shared = shared(&postgres);
    postgres.migrate(&shared);
    let config = shared.config();
    for after in [1, 150, 300] {
        let mut command: Command = shared.command(&[
            "db",
            "import",
            "--from",
            text(files.data()),
            "--config",
            text(&config),
        ]);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it runs");
        let until = std::time::Instant::now() + e2e::PATIENCE;
        while postgres.says("SELECT count(*) FROM tasks").parse::<u64>().expect("a count") < after {
            assert!(std::time::Instant::now() < until, "it does not get on");
        }
        child.kill().expect("a child of ours");
        child.wait().expect("a child of ours");
        let (code, said) = shared.refused();
        assert!(code == 4 && said.contains("half moved from"), "{code} {said}");
    }
    let (code, said) = db(&shared, &["import", "--from", text(files.data()), "--json"]);
    assert_eq!(code, 0, "{said}");
    let node = shared.start();
    check(&node, &filled);
    node.stop();
}

#[test]
fn what_cannot_be_moved_is_named() {
    let Some(postgres) = Postgres::start() else { return };
    let shared = shared(&postgres);
    postgres.migrate(&shared);
    let nowhere = ["import", "--from", "/nowhere/data"];
    let (code, said) = db(&shared, &nowhere);
    assert!(code == 4, "{code} {said}");
    let few = Home::new(json!({"engine": {"partitions": 8}}));
    few.start().stop();
    let (code, said) = db(&shared, &["import", "--from", text(few.data())]);
    assert!(code == 4 && said.contains("set engine.partitions"), "{code} {said}");
    let files = Home::new(json!({}));
    let (code, said) = db(&files, &["import", "--from", text(few.data())]);
    assert!(code == 2 && said.contains("NO_DB_HOST"), "{code} {said}");
    let (code, said) = db(&shared, &["export", "--to", text(few.data())]);
    assert!(code == 4 && said.contains("is there already"), "{code} {said}");
    assert_eq!(postgres.says("SELECT count(*) FROM tasks"), "0");
}
