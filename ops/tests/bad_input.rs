//! What clients send that they should not: each gets its status, code and pointer, nothing is
//! changed by it, and the node lives on.

mod e2e;

use e2e::client::JSON;
use e2e::{Home, Node};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;

/// A task that nobody made, with a well-formed id.
const NOBODY: &str = "/v1/tasks/0197e7a4-0000-7000-8000-000000000001";

/// Method, path, body, and then the status, code and pointer of the answer.
type Row<'a> = (&'a str, &'a str, &'a str, u16, &'a str, &'a str);

const BODIES: &[Row<'_>] = &[
    ("POST", "/v1/tasks", "", 400, "bad_request", ""),
    ("POST", "/v1/tasks", "{", 400, "bad_request", ""),
    ("POST", "/v1/tasks", "\u{0}", 400, "bad_request", ""),
    ("POST", "/v1/tasks", "{\"agent\":\"echo\"} x", 400, "bad_request", ""),
    ("POST", "/v1/tasks", "{\"agent\":\"echo\",\"input\":01}", 400, "bad_request", ""),
    ("POST", "/v1/tasks", "{\"agent\":\"ec\\uD800ho\"}", 400, "bad_request", ""),
    ("POST", "/v1/tasks", "{}", 422, "invalid", "/agent"),
    ("POST", "/v1/tasks", "{\"agent\":7}", 422, "invalid", "/agent"),
    ("POST", "/v1/tasks", "{\"agent\":\"nobody\"}", 404, "agent_unknown", ""),
    ("POST", "/v1/tasks", "{\"agent\":\"echo\",\"colour\":1}", 422, "invalid", "/colour"),
    ("POST", "/v1/tasks", "{\"agent\":\"echo\",\"priority\":10}", 422, "invalid", "/priority"),
    ("POST", "/v1/tasks", "{\"agent\":\"echo\",\"priority\":-1}", 422, "invalid", "/priority"),
    ("POST", "/v1/tasks", "{\"agent\":\"echo\",\"tags\":[\"a\",1]}", 422, "invalid", "/tags/1"),
    ("POST", "/v1/tasks", "{\"agent\":\"echo\",\"tags\":[\"\"]}", 422, "invalid", "/tags/0"),
    ("POST", "/v1/tasks", "{\"agent\":\"echo\",\"timeout_ms\":0}", 422, "invalid", "/timeout_ms"),
    ("POST", "/v1/tasks", "{\"agent\":\"echo\",\"run_at\":\"soon\"}", 422, "invalid", "/run_at"),
    ("POST", "/v1/tasks", "{\"agent\":\"sleep\"}", 422, "invalid", "/input/ms"),
    (
        "POST",
        "/v1/tasks",
        "{\"agent\":\"sleep\",\"input\":{\"ms\":-1}}",
        422,
        "invalid",
        "/input/ms",
    ),
    (
        "POST",
        "/v1/tasks",
        "{\"agent\":\"echo\",\"budget\":{\"max_iterations\":0}}",
        422,
        "invalid",
        "/budget/max_iterations",
    ),
    ("POST", "/v1/tasks?wait_ms=x", "{\"agent\":\"echo\"}", 422, "invalid", "?wait_ms"),
    ("POST", "/v1/tasks?wait=1", "{\"agent\":\"echo\"}", 422, "invalid", "?wait"),
    ("POST", "/v1/tasks/batch", "{\"tasks\":[]}", 422, "invalid", "/tasks"),
    ("POST", "/v1/tasks/batch", "{\"tasks\":{}}", 422, "invalid", "/tasks"),
    ("POST", "/v1/tasks/batch", "[]", 422, "invalid", ""),
    ("POST", "/v1/dead-letters/redrive", "{\"agents\":1}", 422, "invalid", "/agents"),
    ("POST", "/v1/dead-letters/redrive", "{\"agent\":\"nobody\"}", 404, "agent_unknown", ""),
    ("PUT", "/v1/agents/a", "{\"kind\":\"http\"}", 422, "invalid", "/url"),
    ("PUT", "/v1/agents/a", "{\"kind\":\"magic\"}", 422, "invalid", "/kind"),
    ("PUT", "/v1/agents/a", "{\"kind\":\"echo\",\"colour\":1}", 422, "invalid", "/colour"),
    ("PUT", "/v1/agents/a", "{\"kind\":\"model\",\"model\":\"m\"}", 422, "invalid", "/model"),
    ("PUT", "/v1/agents/a%00", "{\"kind\":\"echo\"}", 422, "invalid", "/name"),
    ("PUT", "/v1/agents/a%zz", "{\"kind\":\"echo\"}", 404, "not_found", ""),
    ("POST", "/v1/worker/lease", "{\"agents\":[]}", 422, "invalid", "/agents"),
    ("POST", "/v1/worker/lease", "{\"agents\":[\"echo\"]}", 422, "invalid", "/agents/0"),
    ("POST", "/v1/worker/complete", "{\"lease\":\"junk\"}", 422, "invalid", "/lease"),
    ("POST", "/v1/worker/heartbeat", "{\"lease\":\"\"}", 422, "invalid", "/lease"),
];

const PATHS: &[Row<'_>] = &[
    ("GET", "/", "", 404, "not_found", ""),
    ("GET", "/v1", "", 404, "not_found", ""),
    ("GET", "/v1/tasks/../../etc/passwd", "", 404, "", ""),
    ("GET", "/v1/tasks/not-an-id", "", 404, "task_unknown", ""),
    ("GET", NOBODY, "", 404, "task_unknown", ""),
    ("GET", "/v1/tasks/not-an-id/steps", "", 404, "task_unknown", ""),
    ("POST", "/v1/tasks/not-an-id/cancel", "", 404, "task_unknown", ""),
    ("GET", "/v1/agents/nobody", "", 404, "agent_unknown", ""),
    ("DELETE", "/v1/agents/nobody", "", 404, "agent_unknown", ""),
    ("POST", "/v1/agents/nobody/pause", "", 404, "agent_unknown", ""),
    ("GET", "/v1/tasks?cursor=junk", "", 400, "bad_request", ""),
    ("GET", "/v1/tasks?cursor=%ff", "", 400, "bad_request", ""),
    ("GET", "/v1/tasks?limit=0", "", 422, "invalid", "?limit"),
    ("GET", "/v1/tasks?limit=501", "", 422, "invalid", "?limit"),
    ("GET", "/v1/tasks?state=done", "", 422, "invalid", "?state"),
    ("GET", "/v1/tasks?colour=red", "", 422, "invalid", "?colour"),
    ("DELETE", "/v1/tasks", "", 405, "method_not_allowed", ""),
    ("PATCH", NOBODY, "", 405, "method_not_allowed", ""),
    ("GET", "/v1/worker/lease", "", 405, "method_not_allowed", ""),
];

fn check(node: &Node, rows: &[Row<'_>]) {
    for (method, path, body, status, code, pointer) in rows {
        let has_body = matches!(*method, "POST" | "PUT");
        let sent = has_body.then_some(body.as_bytes());
        let headers = [JSON];
        let reply = node.send(method, path, &headers[..usize::from(has_body)], sent);
        assert_eq!(reply.status, *status, "{method} {path} {body}: {}", reply.text);
        if !code.is_empty() {
            assert_eq!(reply.body["code"], *code, "{method} {path} {body}: {}", reply.text);
            let told = reply.body["pointer"].as_str().unwrap_or_default();
            assert_eq!(told, *pointer, "{method} {path} {body}: {}", reply.text);
            assert_eq!(reply.header("content-type"), "application/problem+json");
            assert!(reply.body["title"].is_string() && reply.body["type"].is_string());
        }
    }
}

/// What nothing bad may change.
fn standing(node: &Node) -> [Value; 2] {
    [json!(node.all("/v1/tasks?limit=500")), node.get("/v1/agents").ok(200)]
}

fn start() -> (Home, Node, String) {
    let home = Home::new(json!({}));
    let node = home.start();
    let id = node.submit(&json!({"agent": "echo", "input": "kept"}));
    node.succeeded(&id);
    (home, node, id)
}

#[test]
fn bad_requests_get_their_code_and_pointer_and_change_nothing() {
    let (_home, node, _) = start();
    let before = standing(&node);
    check(&node, BODIES);
    check(&node, PATHS);
    assert_eq!(standing(&node), before);
    let allowed = node.send("DELETE", "/v1/tasks", &[], None);
    assert!(allowed.header("allow").contains("POST"), "{:?}", allowed.headers);
}

#[test]
fn what_is_too_large_too_deep_or_of_another_type_is_refused() {
    let (_home, node, _) = start();
    let before = standing(&node);
    let post = |path: &str, kind: &str, body: &str| {
        node.send("POST", path, &[("content-type", kind)], Some(body.as_bytes()))
    };
    let json = "application/json";
    let task = |input: &str| format!("{{\"agent\":\"echo\",\"input\":{input}}}");
    let large = task(&format!("\"{}\"", "x".repeat(1 << 20)));
    post("/v1/tasks", json, &large).problem(413, "too_large");
    let deep = task(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    let refused = post("/v1/tasks", json, &deep);
    assert!(matches!(refused.status, 400 | 422), "{}", refused.text);
    let many = format!("{{\"tasks\":[{}]}}", vec![task("1"); 1_001].join(","));
    post("/v1/tasks/batch", json, &many).problem(413, "too_large");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json"] {
        post("/v1/tasks", kind, &task("1")).problem(415, "unsupported_media_type");
    }
    post("/v1/tasks", "application/x-ndjson", &task("1")).problem(415, "unsupported_media_type");
    let tags: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    let body = json!({"agent": "echo", "tags": tags});
    assert_eq!(node.post("/v1/tasks", &body).problem(422, "invalid")["pointer"], "/tags");
    let key = "k".repeat(256);
    let headers = [JSON, ("idempotency-key", &*key)];
    let body = task("1");
    let refused = node.send("POST", "/v1/tasks", &headers, Some(body.as_bytes()));
    refused.problem(400, "bad_request");
    assert_eq!(standing(&node), before);
}

#[test]
fn a_body_past_its_bound_is_refused_before_it_is_read() {
    let (_home, node, _) = start();
    let before = standing(&node);
    let (host, token) = (node.address(), node.token());
    let head = |more: &str| {
        format!(
            "POST /v1/tasks HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\nconnection: close\r\n{more}\r\n\r\n"
        )
    };
    let answer = node.raw(head("content-length: 5000000").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let mut chunked = head("transfer-encoding: chunked").into_bytes();
    for _ in 0..70 {
        chunked.extend_from_slice(b"10000\r\n");
        chunked.extend_from_slice(&[b' '; 0x10000]);
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = node.raw(&chunked);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(standing(&node), before);
}

#[test]
fn what_is_no_http_is_refused_and_the_node_lives_on() {
    let (_home, node, id) = start();
    let host = node.address();
    let long = "x".repeat(40_000);
    let many = "a: b\r\n".repeat(200);
    for (bytes, may_be) in [
        ("GARBAGE\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        (
            format!("GET /{long} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"),
            "HTTP/1.1 4",
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nx: {long}\r\n\r\n"),
            "HTTP/1.1 431",
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{many}\r\n"),
            "HTTP/1.1 431",
        ),
        ("\u{0}\u{1}\u{2}\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        (
            "POST /v1/tasks HTTP/1.1\r\ncontent-length: -1\r\nhost: x\r\n\r\n".to_owned(),
            "HTTP/1.1 400",
        ),
        (
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"
                .to_owned(),
            "HTTP/1.1 400",
        ),
    ] {
        let start: String = bytes.chars().take(60).collect();
        let answer = node.raw(bytes.as_bytes());
        assert!(answer.is_empty() || answer.starts_with(may_be), "{start:?}: {answer}");
    }
    assert_eq!(node.task(&id)["state"], "succeeded");
    node.with_token(None).get("/health/live").expect(200);
    node.stop();
}

#[test]
fn past_its_bounds_the_node_refuses_and_says_when_to_come_back() {
    let home = Home::new(json!({
        "service": {"maxConnections": 20},
        "engine": {"shards": 1, "liveTasksMax": 5}
    }));
    let node = home.start();
    let sleep = json!({"agent": "sleep", "input": {"ms": 600_000}});
    let ids: Vec<String> = (0..5).map(|_| node.submit(&sleep)).collect();
    let full = node.post("/v1/tasks", &sleep);
    assert!(!full.header("retry-after").is_empty());
    full.problem(503, "queue_full");
    let whole = node.post("/v1/tasks/batch", &json!({"tasks": [sleep, sleep]}));
    whole.problem(503, "queue_full");
    node.order(&format!("/v1/tasks/{}/cancel", ids[0])).expect(200);
    let rows = node.post("/v1/tasks/batch", &json!({"tasks": [sleep, sleep]})).ok(200);
    assert_eq!(
        (&rows["items"][0]["status"], &rows["items"][1]["status"]),
        (&json!(202), &json!(503))
    );
    assert_eq!(node.all("/v1/tasks?state=waiting&limit=10").len(), 5);

    let request = format!("GET /health/live HTTP/1.1\r\nhost: {}\r\n\r\n", node.address());
    let open: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut socket = TcpStream::connect(node.address()).expect("it listens");
            socket.write_all(request.as_bytes()).expect("it takes it");
            socket
        })
        .collect();
    let one_more = node.raw(b"");
    assert!(one_more.starts_with("HTTP/1.1 503"), "{one_more}");
    assert!(one_more.to_lowercase().contains("retry-after"), "{one_more}");
    drop(open);
    drop(node);
}
