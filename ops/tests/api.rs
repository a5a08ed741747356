//! The HTTP API as an application uses it: submit, look, list, steer, agents, and what an operator
//! looks at. Workers, streams and bad input have files of their own.

mod e2e;

use e2e::client::id_of;
use e2e::{Act, Home, Node, Server};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

fn start() -> (Home, Node) {
    let home = Home::new(json!({}));
    let node = home.start();
    (home, node)
}

fn ids(items: &[Value]) -> Vec<String> {
    items.iter().map(id_of).collect()
}

#[test]
fn a_submission_is_acknowledged_with_its_place_and_runs_to_its_end() {
    let (_home, node) = start();
    let input = json!({"text": "é\u{0}\n", "big": 12_345_678_901_234_567_890_u64, "list": [1.50]});
    let reply = node.post("/v1/tasks", &json!({"agent": "echo", "input": input})).expect(202);
    let id = id_of(&reply.body);
    assert_eq!(reply.header("location"), format!("/v1/tasks/{id}"));
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!((&reply.body["attempt"], &reply.body["output"]), (&json!(0), &Value::Null));
    let task = node.succeeded(&id);
    assert_eq!((&task["output"], &task["input"]), (&input, &input));
    for (field, expected) in [
        ("priority", json!(5)),
        ("attempt", json!(1)),
        ("max_attempts", json!(3)),
        ("tags", json!([])),
        ("fairness_key", Value::Null),
        ("error", Value::Null),
        ("waiting", Value::Null),
    ] {
        assert_eq!(task[field], expected, "{field}");
    }
    let times = ["created_at", "started_at", "ended_at"].map(|field| task[field].as_str());
    assert!(times.iter().all(Option::is_some) && times.is_sorted(), "{times:?}");
}

#[test]
fn a_submission_waits_for_the_end_as_long_as_it_says() {
    let (_home, node) = start();
    let echo = json!({"agent": "echo", "input": "now"});
    let task = node.post("/v1/tasks?wait_ms=20000", &echo).ok(200);
    assert_eq!((&task["state"], &task["output"]), (&json!("succeeded"), &json!("now")));
    let sleep = json!({"agent": "sleep", "input": {"ms": 600_000}});
    let task = node.post("/v1/tasks?wait_ms=20", &sleep).ok(202);
    let id = id_of(&task);
    let task = node.get(&format!("/v1/tasks/{id}?wait_ms=20")).ok(200);
    assert_eq!((&task["state"], &task["waiting"]["reason"]), (&json!("waiting"), &json!("timer")));
    let short = json!({"agent": "sleep", "input": {"ms": 30}});
    let task = node.post("/v1/tasks?wait_ms=20000", &short).ok(200);
    assert_eq!(task["state"], "succeeded");
    let task = node.order(&format!("/v1/tasks/{id}/cancel")).ok(200);
    assert_eq!(task["state"], "cancelled");
    node.order(&format!("/v1/tasks/{id}/cancel")).problem(409, "task_ended");
}

#[test]
fn large_payloads_come_back_as_they_went_in() {
    let (home, node) = start();
    let sizes = [15_000, 16_384, 17_000, 1_000_000];
    let text = |size: usize| "\u{e9}x".repeat(size / 3);
    let ids: Vec<String> = sizes
        .iter()
        .map(|size| node.submit(&json!({"agent": "echo", "input": text(*size)})))
        .collect();
    node.kill9();
    let node = home.start();
    for (id, size) in ids.iter().zip(sizes) {
        let task = node.succeeded(id);
        assert_eq!((&task["input"], &task["output"]), (&json!(text(size)), &json!(text(size))));
    }
    let listed = node.all("/v1/tasks?limit=2");
    assert_eq!(listed.len(), sizes.len());
    assert!(listed.iter().all(|task| task["input"] == task["output"]));
    node.stop();
}

#[test]
fn requests_in_one_piece_are_answered_in_their_order() {
    let (_home, node) = start();
    let request = |path: &str, then: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: {then}\r\n\r\n", node.address())
    };
    let piece = [
        request("/health/live", "keep-alive"),
        request("/v1/tasks", "keep-alive"),
        request("/nowhere", "close"),
    ];
    let answers = node.raw(piece.concat().as_bytes());
    let statuses: Vec<&str> =
        answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "401", "404"], "{answers}");
}

#[test]
fn a_batch_gives_a_row_for_each_item_in_order() {
    let (_home, node) = start();
    let items = json!({"tasks": [
        {"agent": "echo", "input": 0},
        {"agent": "echo", "input": 1, "priority": 10},
        {"agent": "nobody", "input": 2},
        {"agent": "echo", "input": 3}
    ]});
    let rows = node.post("/v1/tasks/batch", &items).ok(200);
    let statuses: Vec<&Value> =
        rows["items"].as_array().expect("rows").iter().map(|row| &row["status"]).collect();
    assert_eq!(statuses, [202, 422, 404, 202]);
    assert_eq!(rows["items"][1]["problem"]["pointer"], "/tasks/1/priority");
    assert_eq!(rows["items"][2]["problem"]["code"], "agent_unknown");
    assert_eq!(node.succeeded(&id_of(&rows["items"][3]["task"]))["output"], 3);

    let lines = [
        "{\"agent\":\"echo\",\"input\":0}",
        "",
        "{\"agent\":\"echo\"",
        "{\"agent\":\"echo\",\"x\":1}\r",
    ];
    let lines = lines.join("\n");
    let headers = [("content-type", "application/x-ndjson")];
    let rows = node.send("POST", "/v1/tasks/batch", &headers, Some(lines.as_bytes())).ok(200);
    let row = |place: usize| &rows["items"][place];
    assert_eq!(row(0)["status"], 202);
    assert_eq!(
        (&row(1)["status"], &row(1)["problem"]["code"]),
        (&json!(400), &json!("bad_request"))
    );
    assert_eq!((&row(2)["status"], &row(2)["problem"]["pointer"]), (&json!(422), &json!("/x")));
    assert_eq!(rows["items"].as_array().expect("rows").len(), 3);
    assert_eq!(node.all("/v1/tasks?limit=100").len(), 3, "the good ones alone");
}

#[test]
fn a_thousand_in_one_batch_all_run() {
    let (_home, node) = start();
    let tasks: Vec<Value> = (0..1_000).map(|n| json!({"agent": "echo", "input": n})).collect();
    let rows = node.post("/v1/tasks/batch", &json!({"tasks": tasks})).ok(200);
    for (n, row) in rows["items"].as_array().expect("rows").iter().enumerate() {
        assert_eq!(row["status"], 202, "{row}");
        assert_eq!(row["task"]["input"], n);
    }
    for row in rows["items"].as_array().expect("rows").iter().rev() {
        node.succeeded(&id_of(&row["task"]));
    }
    assert_eq!(node.all("/v1/tasks?state=succeeded&limit=500").len(), 1_000);
}

#[test]
fn lists_are_paged_newest_first_and_filtered() {
    let (_home, node) = start();
    let mut made = Vec::new();
    for n in 0..7 {
        let (tag, key) = (format!("tag {}", n % 2), format!("key {}", n % 3));
        let body = json!({"agent": "echo", "input": n, "tags": [tag], "fairness_key": key});
        let id = node.submit(&body);
        node.succeeded(&id);
        made.push(id);
    }
    let sleeper = node.submit(&json!({"agent": "sleep", "input": {"ms": 600_000}}));
    node.after_event(&sleeper, "waited");
    let all = node.all("/v1/tasks?limit=3");
    assert_eq!(all.len(), 8);
    let listed = ids(&all);
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), 8, "none twice");
    assert!(listed.is_sorted_by(|a, b| a[..13] >= b[..13]), "newest first: {listed:?}");
    let page = node.get("/v1/tasks?limit=3").ok(200);
    assert_eq!(page["items"].as_array().map(Vec::len), Some(3));
    assert!(page["next_cursor"].is_string());
    let count = |query: &str| node.all(&format!("/v1/tasks?{query}&limit=2")).len();
    assert_eq!(count("state=succeeded"), 7);
    assert_eq!(count("state=waiting"), 1);
    assert_eq!(count("agent=sleep"), 1);
    assert_eq!(count("agent=echo&tag=tag+0"), 4);
    assert_eq!(count("tag=tag%201&fairness_key=key%200"), 1);
    assert_eq!(count("fairness_key=key%202"), 2);
    assert_eq!(count("state=failed"), 0);
    assert_eq!(count("agent=nobody"), 0);
}

#[test]
fn one_key_makes_one_task_also_after_a_restart() {
    let (home, node) = start();
    let body = json!({"agent": "echo", "input": "once"});
    let first = node.submit_keyed("order 17", &body).expect(202);
    let id = id_of(&first.body);
    node.succeeded(&id);
    let again = node.submit_keyed("order 17", &body).expect(200);
    assert_eq!(id_of(&again.body), id);
    let other = json!({"agent": "echo", "input": "another"});
    node.submit_keyed("order 17", &other).problem(409, "key_reused");
    node.kill9();
    let node = home.start();
    assert_eq!(id_of(&node.submit_keyed("order 17", &body).expect(200).body), id);
    node.submit_keyed("order 17", &other).problem(409, "key_reused");
    assert_ne!(id_of(&node.submit_keyed("order 18", &body).body), id);
    assert_eq!(node.all("/v1/tasks?limit=10").len(), 2);
    // Another tenant's key is another key.
    let theirs = node.with_token(Some(&home.token(&["--role", "admin", "--tenant", "other"])));
    let reply = theirs.submit_keyed("order 17", &other);
    assert!(matches!(reply.status, 200 | 202), "{}", reply.text);
    theirs.get(&format!("/v1/tasks/{id}")).problem(404, "task_unknown");
    theirs.order(&format!("/v1/tasks/{id}/cancel")).problem(404, "task_unknown");
    assert_eq!(theirs.all("/v1/tasks?limit=10").len(), 1);
}

#[test]
fn a_task_for_later_waits_for_its_time() {
    let (home, node) = start();
    let later = json!({"agent": "echo", "input": 1, "run_at": "2031-01-31T12:00:00.000Z"});
    let id = node.submit(&later);
    node.kill9();
    let node = home.start();
    let task = node.task(&id);
    assert_eq!((&task["state"], &task["run_at"]), (&json!("scheduled"), &later["run_at"]));
    node.order(&format!("/v1/tasks/{id}/cancel")).expect(200);
    let past = json!({"agent": "echo", "input": 1, "run_at": "2020-01-31T12:00:00+02:00"});
    node.succeeded(&node.submit(&past));
    let late =
        json!({"agent": "sleep", "input": {"ms": 600_000}, "deadline": "2020-01-01T00:00:00Z"});
    let task = node.ended(&node.submit(&late));
    assert_eq!(
        (&task["state"], &task["error"]["code"]),
        (&json!("failed"), &json!("deadline_exceeded"))
    );
}

#[test]
fn dead_letters_are_kept_retried_and_redriven() {
    let status = Arc::new(AtomicU16::new(400));
    let now = Arc::clone(&status);
    let server =
        Server::start(move |_, _| Act::Answer(now.load(Ordering::SeqCst), json!({"said": 1})));
    let home = Home::new(json!({
        "security": {"outbound": {"allow": [server.address()]}},
        "agents": {"post": {"kind": "http", "url": server.url("/"), "max_attempts": 1}}
    }));
    let node = home.start();
    let dead: Vec<String> =
        (0..4).map(|n| node.submit(&json!({"agent": "post", "input": n}))).collect();
    for id in &dead {
        let task = node.ended(id);
        assert_eq!(
            (&task["state"], &task["error"]["retryable"]),
            (&json!("failed"), &json!(false))
        );
        assert_eq!(task["error"]["code"], "http_status", "{task}");
    }
    node.kill9();
    let node = home.start();
    assert_eq!(node.all("/v1/tasks?state=failed&limit=10").len(), 4);
    status.store(200, Ordering::SeqCst);
    let task = node.order(&format!("/v1/tasks/{}/retry", dead[0])).ok(200);
    assert_eq!(id_of(&task), dead[0]);
    let task = node.succeeded(&dead[0]);
    assert_eq!((&task["attempt"], &task["error"]), (&json!(2), &Value::Null));
    let redrive = json!({"agent": "echo"});
    assert_eq!(node.post("/v1/dead-letters/redrive", &redrive).ok(200)["redriven"], 0);
    let redrive = json!({"agent": "post"});
    assert_eq!(node.post("/v1/dead-letters/redrive", &redrive).ok(200)["redriven"], 3);
    for id in &dead {
        assert_eq!(node.succeeded(id)["output"], json!({"said": 1}));
    }
    assert_eq!(node.order("/v1/dead-letters/redrive").ok(200)["redriven"], 0);
    assert_eq!(node.order(&format!("/v1/tasks/{}/retry", dead[0])).status, 409);
}

#[test]
fn agents_are_defined_paused_resumed_and_deleted_durably() {
    let (home, node) = start();
    let names = |node: &Node| -> Vec<String> {
        let agents = node.get("/v1/agents").ok(200);
        let agents = agents["items"].as_array().expect("agents").clone();
        agents.iter().map(|agent| agent["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&node), ["echo", "sleep"]);
    let definition = json!({"kind": "sleep", "max_attempts": 2});
    let put = node.put("/v1/agents/nap", &definition);
    assert!(matches!(put.status, 200 | 201), "{}", put.text);
    let paused = node.order("/v1/agents/nap/pause").ok(200);
    assert_eq!(paused["paused"], true);
    let held = node.submit(&json!({"agent": "nap", "input": {"ms": 1}}));
    node.kill9();
    let node = home.start();
    assert_eq!(names(&node), ["echo", "nap", "sleep"]);
    let agent = node.get("/v1/agents/nap").ok(200);
    assert_eq!((&agent["paused"], &agent["max_attempts"]), (&json!(true), &json!(2)));
    assert_eq!(agent["live"]["queued"], 1, "{agent}");
    assert_eq!(node.task(&held)["state"], "queued");
    node.delete("/v1/agents/nap").problem(409, "agent_in_use");
    node.order("/v1/agents/nap/resume").expect(200);
    assert_eq!(node.succeeded(&held)["max_attempts"], 2);
    node.delete("/v1/agents/nap").expect(204);
    node.get("/v1/agents/nap").problem(404, "agent_unknown");
    let body = json!({"agent": "nap", "input": {"ms": 1}});
    node.post("/v1/tasks", &body).problem(404, "agent_unknown");
    node.put("/v1/agents/echo", &definition).expect(422);
    node.delete("/v1/agents/sleep").expect(422);
    node.stop();
    let node = home.start();
    assert_eq!(names(&node), ["echo", "sleep"]);
    assert_eq!(node.task(&held)["state"], "succeeded");
}

#[test]
fn an_agents_concurrency_holds_its_tasks_back() {
    let server = Server::start(|_, _| Act::Hold(json!("done")));
    let home = Home::new(json!({
        "security": {"outbound": {"allow": [server.address()]}},
        "agents": {"post": {"kind": "http", "url": server.url("/"), "max_concurrency": 2}}
    }));
    let node = home.start();
    let ids: Vec<String> =
        (0..5).map(|n| node.submit(&json!({"agent": "post", "input": n}))).collect();
    for seen in 2..=5 {
        server.wait_for(seen);
        let live = node.get("/v1/agents/post").ok(200)["live"].take();
        assert_eq!((&live["running"], &live["queued"]), (&json!(2), &json!(5 - seen)), "{live}");
        server.release(1);
    }
    server.release(1);
    for id in &ids {
        assert_eq!(node.succeeded(id)["output"], "done");
    }
    assert_eq!(server.count(), 5);
}

#[test]
fn tokens_open_what_their_role_may_and_nothing_is_open_that_should_not_be() {
    let (home, node) = start();
    let id = node.submit(&json!({"agent": "echo", "input": 1}));
    let nobody = node.with_token(None);
    let forged = node.with_token(Some("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."));
    for client in [&nobody, &forged] {
        for path in ["/v1/tasks", "/v1/agents", &format!("/v1/tasks/{id}"), "/admin/status"] {
            let reply = client.get(path);
            assert!(matches!(reply.status, 401 | 404), "{path}: {}", reply.text);
            assert!(path == "/admin/status" || reply.status == 401, "{path}: {}", reply.text);
        }
        let echo = json!({"agent": "echo", "input": 1});
        let refused = client.post("/v1/tasks", &echo).expect(401);
        assert_eq!(refused.header("www-authenticate"), "Bearer");
        refused.problem(401, "unauthenticated");
    }
    let viewer = node.with_token(Some(&home.token(&["--role", "viewer"])));
    viewer.get(&format!("/v1/tasks/{id}")).expect(200);
    viewer.get("/v1/agents").expect(200);
    let echo = json!({"agent": "echo", "input": 1});
    viewer.post("/v1/tasks", &echo).problem(403, "forbidden");
    viewer.order(&format!("/v1/tasks/{id}/cancel")).problem(403, "forbidden");
    viewer.put("/v1/agents/mine", &json!({"kind": "echo"})).problem(403, "forbidden");
    viewer.order("/v1/dead-letters/redrive").problem(403, "forbidden");
    let worker = node.with_token(Some(&home.token(&["--role", "worker"])));
    worker.post("/v1/tasks", &echo).problem(403, "forbidden");
    let submitter = node.with_token(Some(&home.token(&["--role", "submitter"])));
    submitter.post("/v1/tasks", &echo).expect(202);
    let ask = json!({"agents": ["echo"]});
    submitter.post("/v1/worker/lease", &ask).problem(403, "forbidden");
    assert_eq!(node.all("/v1/tasks?limit=10").len(), 2);
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = home.data().join(name);
        std::fs::metadata(path).expect(name).permissions().mode() & 0o777
    };
    assert_eq!(mode("admin.token"), 0o600);
}

#[test]
fn health_and_metrics_answer_without_a_token_and_count() {
    let (_home, node) = start();
    let nobody = node.with_token(None);
    for path in ["/health", "/health/live", "/health/ready"] {
        nobody.get(path).expect(200);
    }
    let text = nobody.get("/metrics").expect(200).text;
    for family in FAMILIES {
        assert!(text.contains(&format!("# TYPE {family} ")), "{family} is missing");
    }
    assert_eq!(sum(&text, "no_tasks_total", &["agent=\"echo\"", "state=\"succeeded\""]), 0.0);
    for n in 0..5 {
        node.succeeded(&node.submit(&json!({"agent": "echo", "input": n})));
    }
    let text = nobody.get("/metrics").expect(200).text;
    assert_eq!(sum(&text, "no_tasks_total", &["agent=\"echo\"", "state=\"succeeded\""]), 5.0);
    assert_eq!(sum(&text, "no_task_duration_seconds_count", &["agent=\"echo\""]), 5.0);
    let route = ["method=\"POST\"", "route=\"/v1/tasks\"", "status=\"202\""];
    assert_eq!(sum(&text, "no_http_requests_total", &route), 5.0);
    assert!(0.0 < sum(&text, "no_journal_commit_duration_seconds_count", &[]));
    assert!(0.0 < sum(&text, "no_journal_bytes_total", &[]));
    assert!(0.0 < sum(&text, "no_loop_iteration_duration_seconds_count", &[]));
    assert!(0.0 < sum(&text, "no_agent_pool_size", &[]));
}

/// Families of DESIGN §8: HTTP, pool, queue, loop, journal, rings, models, tools, resources.
const FAMILIES: [&str; 33] = [
    "no_http_requests_total",
    "no_http_request_duration_seconds",
    "no_http_requests_in_flight",
    "no_agent_pool_size",
    "no_agent_pool_active",
    "no_agent_pool_idle",
    "no_agent_pool_failed",
    "no_agent_pool_healthy_ratio",
    "no_loop_iteration_duration_seconds",
    "no_loop_efficiency_ratio",
    "no_task_queue_depth",
    "no_tasks_total",
    "no_task_duration_seconds",
    "no_task_queue_wait_seconds",
    "no_journal_commit_duration_seconds",
    "no_journal_batch_records",
    "no_journal_bytes_total",
    "no_journal_errors_total",
    "no_ring_depth",
    "no_ring_full_total",
    "no_model_calls_total",
    "no_model_tokens_total",
    "no_model_cost_usd_total",
    "no_model_call_duration_seconds",
    "no_tool_calls_total",
    "no_auth_attempts_total",
    "no_auth_failures_total",
    "no_rbac_decisions_total",
    "no_rbac_denials_total",
    "no_cpu_usage_ratio",
    "no_memory_usage_ratio",
    "no_disk_usage_ratio",
    "no_cache_requests_total",
];

/// The sum of a family's samples that have all these labels.
fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    let value = |line: &str| -> Option<f64> {
        let rest = line.strip_prefix(name)?;
        let is_name = rest.starts_with('{') || rest.starts_with(' ');
        let is_ours = is_name && labels.iter().all(|label| rest.contains(label));
        is_ours.then(|| rest.rsplit(' ').next()?.parse().ok()).flatten()
    };
    text.lines().filter_map(value).sum()
}
