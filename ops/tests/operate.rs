//! What an operator tries a node and its data folder out with: `no smoke`, `no journal inspect` and
//! `no health`.

mod e2e;

use e2e::{Home, Node};
use serde_json::{Value, json};
use std::fs;
use std::process::Output;

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
}

fn smoke(home: &Home, node: &Node, more: &[&str]) -> (Option<i32>, Value) {
    let output = home.run(&[&["smoke", "--json", "--url", node.url()], more].concat());
    (output.status.code(), json_of(&output))
}

/// A step's status and hint.
fn step<'a>(said: &'a Value, name: &str) -> (&'a str, &'a Value) {
    let steps = said["steps"].as_array().expect("steps");
    let step = steps.iter().find(|step| step["step"] == name).expect("it was made");
    (step["status"].as_str().expect("a status"), &step["hint"])
}

#[test]
fn a_node_that_works_passes_and_one_task_is_left() {
    let home = Home::new(json!({}));
    let node = home.start();
    for run in 1..=2 {
        let (code, said) = smoke(&home, &node, &[]);
        assert_eq!((code, &said["status"]), (Some(0), &json!("ok")), "{said:#}");
        assert_eq!(said["steps"].as_array().map(Vec::len), Some(10));
        let is_well = |step: &Value| step["status"] == "ok" && step["ms"].is_number();
        assert!(said["steps"].as_array().expect("steps").iter().all(is_well), "{said:#}");
        assert_eq!(node.all("/v1/tasks?tag=smoke").len(), run);
    }
    let shown = home.run(&["smoke", "--url", node.url()]);
    assert!(String::from_utf8_lossy(&shown.stdout).lines().all(|line| line.starts_with("ok ")));
    let health = home.run(&["health", "--detailed", "--url", node.url()]);
    let health = String::from_utf8_lossy(&health.stdout).into_owned();
    assert!(health.starts_with("ok (200)"), "{health}");
    let resources = health.lines().last().expect("the last line has the resources");
    for piece in ["cpu ", "memory ", "disk free ", " %", " MiB"] {
        assert!(resources.contains(piece), "{piece:?} in {resources}");
    }
    node.stop();
}

#[test]
fn what_does_not_work_is_named_with_what_to_do() {
    let home = Home::new(json!({"agents": {"work": {"kind": "worker"}}}));
    let node = home.start();
    let viewer = home.token(&["--role", "viewer"]);
    let (code, said) = smoke(&home, &node, &["--token", &viewer]);
    assert_eq!((code, step(&said, "submit").0), (Some(1), "failed"), "{said:#}");
    assert!(step(&said, "submit").1.as_str().is_some_and(|hint| hint.contains("role")), "{said:#}");
    assert_eq!(step(&said, "events").0, "skipped");

    // Nobody leases it, so it ends by its deadline.
    let (code, said) = smoke(&home, &node, &["--agent", "work", "--timeout", "1"]);
    assert_eq!((code, step(&said, "submit").0), (Some(1), "ok"), "{said:#}");
    assert_eq!((step(&said, "events").0, step(&said, "answer").0), ("failed", "failed"));
    let id = said["task"].as_str().expect("an id");
    assert_eq!(node.task(id)["state"], "failed");

    let url = node.url().to_owned();
    node.stop();
    let output = home.run(&["smoke", "--url", &url]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 2), "{said}");
    assert!(said.starts_with("FAILED") && said.contains("start it"), "{said}");
}

#[test]
fn journals_are_looked_at_beside_a_node_and_after_its_crash() {
    let home = Home::new(json!({}));
    let node = home.start();
    for n in 0..50 {
        node.submit(&json!({"agent": "echo", "input": n}));
    }
    let inspect = |more: &[&str]| home.run(&[&["journal", "inspect"], more].concat());
    let said = inspect(&["--json"]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let said = json_of(&said);
    assert_eq!(
        (&said["status"], said["shards"].as_array().map(Vec::len)),
        (&json!("sound"), Some(2))
    );
    node.kill9();

    let said = inspect(&["--shard", "0", "--json"]);
    let said = &json_of(&said)["shards"][0];
    assert_eq!((&said["shard"], &said["is_clean"]), (&json!(0), &json!(false)), "{said:#}");
    let last = said["frames"].as_array().and_then(|frames| frames.last()).expect("frames");
    assert_eq!(last["number"], said["last"]);
    assert!(said["applied"].as_u64() <= said["last"].as_u64(), "{said:#}");
    assert_eq!(inspect(&["--shard", "2"]).status.code(), Some(2));

    let path = home.data().join("shard-001.journal");
    let mut bytes = fs::read(&path).expect("a journal");
    bytes[0] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let said = inspect(&[]);
    assert_eq!(said.status.code(), Some(4), "{said:?}");
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(out.contains("damaged: its header is not a journal's"), "{out}");
    assert!(err.contains("no backup restore"), "{err}");
    let empty = Home::new(json!({}));
    assert_eq!(empty.run(&["journal", "inspect"]).status.code(), Some(4));
}

#[test]
fn the_machine_is_measured_and_nothing_is_left_behind() {
    let home = Home::new(json!({}));
    let said = home.run(&["bench", "--seconds", "1", "--json"]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let said = json_of(&said);
    let number = |pointer: &str| said.pointer(pointer).and_then(Value::as_f64).expect(pointer);
    for pointer in [
        "/measured/disk/sync_p50_us",
        "/measured/disk/write_mb_s",
        "/measured/cores/cores/0/share",
        "/measured/engine_us",
        "/measured/node/tasks_per_second",
        "/measured/node/net_us",
        "/measured/node/shard_us",
        "/measured/node/journal_bytes",
        "/prediction/tasks_per_second",
    ] {
        assert!(0.0 < number(pointer), "{pointer} of {said:#}");
    }
    assert!(number("/measured/disk/sync_p50_us") <= number("/measured/disk/sync_max_us"));
    assert_eq!(said["prediction"]["arithmetic"].as_array().map(Vec::len), Some(4));
    // The folder is the nearest that is there, as there is no data yet.
    let left = fs::read_dir(home.path()).expect("a folder").flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["test.json"]);
}
