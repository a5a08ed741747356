//! The worker protocol from outside: lease, heartbeat, step, complete, fail, and what a fence
//! refuses.

mod e2e;

use e2e::client::id_of;
use e2e::{Client, Home, Node};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn home() -> Home {
    let retry = json!({"base_ms": 1, "factor": 1.0, "cap_ms": 1});
    Home::new(json!({"agents": {"render": {"kind": "worker", "retry": retry}}}))
}

fn submit(node: &Node, input: Value) -> String {
    node.submit(&json!({"agent": "render", "input": input}))
}

/// Leases of `render`, at most `max_tasks`, waiting up to 20 s for the first.
fn lease(client: &Client, max_tasks: u64, lease_ms: u64) -> Vec<Value> {
    let ask = json!({
        "agents": ["render"], "max_tasks": max_tasks, "wait_ms": 20_000, "lease_ms": lease_ms
    });
    let mut answer = client.post("/v1/worker/lease", &ask).ok(200);
    match answer["leases"].take() {
        Value::Array(leases) => leases,
        other => panic!("no leases but {other}"),
    }
}

/// The one lease that there must be.
fn lease_one(client: &Client, lease_ms: u64) -> Value {
    let mut leases = lease(client, 1, lease_ms);
    assert_eq!(leases.len(), 1, "{leases:?}");
    leases.remove(0)
}

#[test]
fn a_worker_leases_reports_steps_and_completes() {
    let home = home();
    let node = home.start();
    let worker = node.with_token(Some(&home.token(&["--role", "worker"])));
    let waiting = {
        let worker = worker.clone();
        std::thread::spawn(move || lease_one(&worker, 30_000))
    };
    let id = submit(&node, json!({"frame": 7}));
    let held = waiting.join().expect("a lease comes");
    assert_eq!((&held["task"], &held["agent"]), (&json!(id), &json!("render")));
    assert_eq!((&held["attempt"], &held["steps"]), (&json!(1), &json!([])));
    assert_eq!(held["input"], json!({"frame": 7}));
    assert!(held["expires_at"].is_string(), "{held}");
    assert_eq!(node.task(&id)["state"], "running");
    let mine = |more: Value| {
        let mut body = json!({"lease": held["lease"]});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        body
    };
    let beat = worker.post("/v1/worker/heartbeat", &mine(json!({"lease_ms": 60_000}))).ok(200);
    assert_eq!(beat["cancelled"], false);
    assert!(held["expires_at"].as_str() < beat["expires_at"].as_str(), "{beat} {held}");
    let step = mine(json!({"name": "trace", "result": [1, 2]}));
    worker.post("/v1/worker/step", &step).expect(200);
    // The same report again is the same step.
    worker.post("/v1/worker/step", &step).expect(200);
    worker.post("/v1/worker/complete", &mine(json!({"output": "done"}))).expect(200);
    let task = node.succeeded(&id);
    assert_eq!(task["output"], "done");
    let steps = node.steps(&id);
    assert_eq!(steps.len(), 1, "{steps:#?}");
    assert_eq!((&steps[0]["name"], &steps[0]["kind"]), (&json!("trace"), &json!("worker")));
    assert_eq!(steps[0]["output"], json!([1, 2]));
    worker.post("/v1/worker/complete", &mine(json!({"output": 2}))).problem(409, "lease_lost");
    assert_eq!(node.succeeded(&id)["output"], "done");
    node.stop();
}

#[test]
fn a_failed_attempt_is_leased_again_with_its_steps_and_a_permanent_one_is_not() {
    let home = home();
    let node = home.start();
    let id = submit(&node, json!(1));
    let first = lease_one(&node, 30_000);
    let step = json!({"lease": first["lease"], "name": "half", "result": 0.5});
    node.post("/v1/worker/step", &step).expect(200);
    let error = json!({"code": "gpu_busy", "message": "later"});
    let fail = json!({"lease": first["lease"], "retryable": true, "error": error});
    node.post("/v1/worker/fail", &fail).expect(200);
    let second = lease_one(&node, 30_000);
    assert_eq!((&second["task"], &second["attempt"]), (&json!(id), &json!(2)));
    assert_eq!(second["steps"][0]["name"], "half", "{second}");
    assert_eq!(second["steps"][0]["output"], 0.5);
    let error = json!({"code": "bad_scene", "message": "no camera"});
    let fail = json!({"lease": second["lease"], "retryable": false, "error": error});
    node.post("/v1/worker/fail", &fail).expect(200);
    let task = node.ended(&id);
    assert_eq!(task["state"], "failed");
    assert_eq!(
        task["error"],
        json!({"code": "bad_scene", "message": "no camera", "retryable": false})
    );
}

#[test]
fn after_a_lease_ran_out_its_holder_is_refused_and_the_next_one_is_heard() {
    let home = home();
    let node = home.start();
    let id = submit(&node, json!(1));
    let stale = lease_one(&node, 100);
    // Nobody beats: the next long poll gets the task once the lease has run out.
    let fresh = lease_one(&node, 30_000);
    assert_eq!((&fresh["task"], &fresh["attempt"]), (&json!(id), &json!(2)));
    assert_ne!(fresh["lease"], stale["lease"]);
    let stale = &stale["lease"];
    for (path, body) in [
        ("heartbeat", json!({"lease": stale})),
        ("step", json!({"lease": stale, "name": "late", "result": 1})),
        ("complete", json!({"lease": stale, "output": "late"})),
        ("fail", json!({"lease": stale, "error": {"code": "late"}})),
    ] {
        node.post(&format!("/v1/worker/{path}"), &body).problem(409, "lease_lost");
    }
    let rows = json!([
        {"lease": stale, "output": "late"},
        {"lease": fresh["lease"], "output": "in time"}
    ]);
    let rows = node.post("/v1/worker/complete", &rows).ok(200);
    assert_eq!((&rows[0]["status"], &rows[1]["status"]), (&json!(409), &json!(200)), "{rows}");
    assert_eq!(rows[0]["problem"]["code"], "lease_lost");
    let task = node.succeeded(&id);
    assert_eq!(task["output"], "in time");
    assert!(node.steps(&id).is_empty());
}

#[test]
fn two_workers_never_hold_one_task() {
    let home = home();
    let node = home.start();
    let tasks: Vec<Value> = (0..60).map(|n| json!({"agent": "render", "input": n})).collect();
    let rows = node.post("/v1/tasks/batch", &json!({"tasks": tasks})).ok(200);
    let ids: Vec<String> =
        rows["items"].as_array().expect("rows").iter().map(|row| id_of(&row["task"])).collect();
    let work = |client: Client| {
        let mut held = Vec::new();
        loop {
            let ask = json!({"agents": ["render"], "max_tasks": 3, "lease_ms": 60_000});
            let answer = client.post("/v1/worker/lease", &ask).ok(200);
            let leases = answer["leases"].as_array().expect("leases").clone();
            if leases.is_empty() {
                return held;
            }
            let done = |lease: &Value| json!({"lease": lease["lease"], "output": lease["input"]});
            let rows: Vec<Value> = leases.iter().map(done).collect();
            let rows = client.post("/v1/worker/complete", &json!(rows)).ok(200);
            for row in rows.as_array().expect("rows") {
                assert_eq!(row["status"], 200, "{row}");
            }
            held.extend(leases.iter().map(|lease| lease["task"].as_str().expect("id").to_owned()));
        }
    };
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let client = node.client().clone();
            std::thread::spawn(move || work(client))
        })
        .collect();
    let mut held = BTreeMap::new();
    for worker in workers {
        for id in worker.join().expect("a worker") {
            *held.entry(id).or_insert(0) += 1;
        }
    }
    assert_eq!(held.len(), ids.len());
    for id in &ids {
        assert_eq!(held[id], 1, "{id} was leased twice");
        let task = node.succeeded(id);
        assert_eq!((&task["output"], &task["attempt"]), (&task["input"], &json!(1)));
    }
}

#[test]
fn a_heartbeat_tells_of_a_cancel_and_its_report_is_refused() {
    let home = home();
    let node = home.start();
    let id = submit(&node, json!(1));
    let held = lease_one(&node, 30_000);
    node.order(&format!("/v1/tasks/{id}/cancel")).expect(200);
    let beat = node.post("/v1/worker/heartbeat", &json!({"lease": held["lease"]})).ok(200);
    assert_eq!(beat["cancelled"], true);
    let complete = json!({"lease": held["lease"], "output": "too late"});
    let refused = node.post("/v1/worker/complete", &complete);
    assert_eq!(refused.status, 409, "{}", refused.text);
    let task = node.task(&id);
    assert_eq!((&task["state"], &task["output"]), (&json!("cancelled"), &Value::Null));
}

#[test]
fn a_lease_outlives_a_kill_of_the_node() {
    let home = home();
    let node = home.start();
    let id = submit(&node, json!(1));
    let held = lease_one(&node, 60_000);
    node.kill9();
    let node = home.start();
    assert_eq!(node.task(&id)["state"], "running");
    node.post("/v1/worker/heartbeat", &json!({"lease": held["lease"]})).expect(200);
    let complete = json!({"lease": held["lease"], "output": "after all"});
    node.post("/v1/worker/complete", &complete).expect(200);
    let task = node.succeeded(&id);
    assert_eq!((&task["output"], &task["attempt"]), (&json!("after all"), &json!(1)));
    node.stop();
}

#[test]
fn a_worker_gets_its_own_tenants_tasks_alone() {
    let home = home();
    let node = home.start();
    let other = home.token(&["--role", "admin", "--tenant", "other"]);
    let other = node.with_token(Some(&other));
    let theirs = other.submit(&json!({"agent": "render", "input": "theirs"}));
    let ask = json!({"agents": ["render"], "max_tasks": 10});
    let ours = node.post("/v1/worker/lease", &ask).ok(200);
    assert_eq!(ours["leases"], json!([]));
    let held = lease_one(&other, 30_000);
    assert_eq!(held["task"], json!(theirs));
    let complete = json!({"lease": held["lease"], "output": 1});
    let refused = node.post("/v1/worker/complete", &complete);
    assert!(matches!(refused.status, 404 | 409), "{}", refused.text);
    other.post("/v1/worker/complete", &complete).expect(200);
    other.succeeded(&theirs);
}
