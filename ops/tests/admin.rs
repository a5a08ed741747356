//! What operators ask a node about itself.

mod e2e;

use e2e::{Act, Home, Server};
use serde_json::{Value, json};

#[test]
fn health_in_detail_and_the_status_are_for_those_who_may_read_them() {
    let home = Home::new(json!({"agents": {"render": {"kind": "worker"}}}));
    let node = home.start();
    node.submit(&json!({"agent": "render", "input": 1}));
    for path in ["/health/detailed", "/admin/health/checks", "/admin/status"] {
        node.with_token(None).get(path).problem(401, "unauthenticated");
        let worker = node.with_token(Some(&home.token(&["--role", "worker"])));
        worker.get(path).problem(403, "forbidden");
        node.get(&format!("{path}?x=1")).problem(422, "invalid");
    }
    let viewer = node.with_token(Some(&home.token(&["--role", "viewer"])));

    let health = viewer.get("/health/detailed").ok(200);
    assert_eq!((&health["status"], &health["ready"]), (&json!("ok"), &json!("ready")));
    for name in ["shards", "journal", "disk", "memory", "database", "agents", "audit"] {
        assert_eq!(health["checks"][name], json!({"status": "ok", "last_error": null}), "{health}");
    }
    let ratio = |value: &Value| value.as_f64().is_some_and(|ratio| (0.0..=1.0).contains(&ratio));
    for name in ["cpu_ratio", "memory_ratio", "disk_ratio"] {
        assert!(ratio(&health["resources"][name]), "{name}: {health}");
    }
    assert!(health["resources"]["resident_bytes"].as_u64().is_some_and(|bytes| 1 << 20 < bytes));

    let checks = viewer.get("/admin/health/checks").ok(200);
    let names = checks["checks"].as_array().expect("a list").iter().map(|check| &check["name"]);
    let expected = ["shards", "journal", "disk", "memory", "database", "agents", "audit"];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    let check = viewer.post("/admin/health/check/journal", &Value::Null).ok(200);
    assert_eq!(check, json!({"name": "journal", "status": "ok", "last_error": null}));
    let unknown = viewer.post("/admin/health/check/x", &Value::Null).problem(404, "not_found");
    assert!(unknown["detail"].as_str().is_some_and(|text| text.contains("shards, journal")));

    let status = viewer.get("/admin/status").ok(200);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["stage"], &status["partitions"]), (&json!("ready"), &json!(64)));
    let figures = &status["shards"][0]["figures"];
    assert!(figures["slots"].as_u64().is_some_and(|slots| 0 < slots), "{status}");
    let count = |shard: &Value| shard["figures"]["tasks"]["queued"].as_u64().unwrap_or_default();
    let shards = status["shards"].as_array().expect("a list");
    assert_eq!(shards.iter().map(count).sum::<u64>(), 1, "{status}");
    assert_eq!(status["config"]["agents"]["render"]["kind"], "worker");
    node.stop();
}

#[test]
fn who_may_can_have_a_node_drain_and_stop() {
    let server = Server::start(|_, _| Act::Hold(json!("late")));
    let home = Home::new(json!({
        "security": {"outbound": {"allow": [server.address()]}},
        "agents": {"slow": {"kind": "http", "url": server.url("/")}},
    }));
    let mut node = home.start();
    let id = node.submit(&json!({"agent": "slow", "input": 1}));
    server.wait_for(1);
    let operator = node.with_token(Some(&home.token(&["--role", "operator"])));
    operator.post("/admin/shutdown", &Value::Null).problem(403, "forbidden");
    let listed = operator.get("/admin/shutdown/handlers").ok(200);
    let listed = listed["handlers"].as_array().expect("a list").clone();
    let names = listed.iter().map(|handler| handler["name"].as_str().expect("a name"));
    let expected = ["drain", "net_cores", "shards", "cluster", "guards", "reader", "store"];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    for (place, handler) in listed.iter().enumerate() {
        assert_eq!(handler["order"], place + 1);
        assert!(handler["timeout_ms"].as_u64().is_some_and(|ms| 0 < ms), "{handler}");
    }
    node.get("/health/ready").ok(200);

    let asked = node.post("/admin/shutdown", &Value::Null).ok(202);
    assert_eq!(asked, json!({"status": "draining"}));
    assert_eq!(node.get("/health/ready").ok(503)["status"], "draining");
    server.release(1);
    assert_eq!(node.exited().code(), Some(0));
    let log = node.log().text();
    assert!(log.contains("\"reason\":\"Request\""), "{log}");
    let audit = std::fs::read_dir(home.data().join("audit")).expect("a folder");
    let lines: String = audit
        .map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("text"))
        .collect();
    assert!(lines.contains("node.shutdown"), "{lines}");

    let node = home.start();
    assert_eq!(node.succeeded(&id)["output"], "late", "what ran could finish");
    node.stop();
}

#[test]
fn a_request_of_a_sampled_trace_is_an_exemplar() {
    let home = Home::new(json!({}));
    let node = home.start();
    let ask = |path: &str, header: &str| {
        let host = node.address();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        node.raw(format!("{head}{header}\r\n\r\n").as_bytes())
    };
    let trace = "0af7651916cd43dd8448eb211c80319c";
    ask("/health/live", &format!("traceparent: 00-{trace}-b7ad6b7169203331-01"));
    ask("/health/live", "traceparent: 00-11111111111111111111111111111111-b7ad6b7169203331-00");
    let text = ask("/metrics", "Accept: application/openmetrics-text; version=1.0.0");
    let of_trace: Vec<&str> = text.lines().filter(|line| line.contains("trace_id")).collect();
    let [line] = of_trace[..] else { panic!("one exemplar, not {of_trace:?}") };
    let series =
        "no_http_request_duration_seconds_bucket{method=\"GET\",route=\"/health/live\",le=";
    assert!(line.starts_with(series), "{line}");
    assert!(line.contains(&format!(" # {{trace_id=\"{trace}\"}} 0.")), "{line}");
    let text = ask("/metrics", "Accept: text/plain");
    assert!(!text.contains("trace_id"), "the older form has no place for it");
    node.stop();
}
