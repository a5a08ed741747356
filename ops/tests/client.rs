//! The client commands against a server that plays nO.

mod common;
#[path = "common/server.rs"]
mod server;

use common::{Said, no};
use expect_test::expect;
use serde_json::{Value, json};
use server::Server;
use std::os::unix::fs::PermissionsExt as _;

/// Runs a client command against the server.
fn ask(server: &Server, args: &[&str]) -> Said {
    let mut all = args.to_vec();
    all.extend(["--url", server.url.as_str(), "--token", "t0ken"]);
    no(&all)
}

fn task(state: &str) -> Value {
    json!({"id": "id-1", "agent": "echo", "state": state, "attempt": 1, "output": null,
        "error": null, "tags": ["a", "b"], "created_at": "2026-11-25T00:00:00Z"})
}

fn done(output: Value) -> Value {
    let mut task = task("succeeded");
    task["output"] = output;
    task
}

#[test]
fn submit_sends_everything_and_names_the_task() {
    let server = Server::json(vec![(202, task("queued"))]);
    let args = ["task", "submit", "echo", "hello", "--key", "k", "--priority", "9", "--tag", "a"];
    let said = ask(&server, &args);
    assert_eq!((said.code, said.out.as_str()), (0, "id-1 queued\n"), "{}", said.err);
    let asked = &server.asked()[0];
    assert_eq!(asked.line, "POST /v1/tasks");
    assert!(asked.headers.contains(&"authorization: Bearer t0ken".to_owned()), "{asked:?}");
    assert!(asked.headers.contains(&"idempotency-key: k".to_owned()), "{asked:?}");
    let body: Value = serde_json::from_str(&asked.body).expect("json");
    assert_eq!(body, json!({"agent": "echo", "input": "hello", "priority": 9, "tags": ["a"]}));
}

#[test]
fn submit_waits_again_until_the_end() {
    let server = Server::json(vec![
        (202, task("running")),
        (200, task("waiting")),
        (200, done(json!({"a": 1}))),
    ]);
    let said = ask(&server, &["task", "submit", "echo", "{\"a\":1}", "--wait"]);
    assert_eq!((said.code, said.out.as_str()), (0, "{\n  \"a\": 1\n}\n"), "{}", said.err);
    let lines: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines[0], "POST /v1/tasks");
    assert_eq!(lines[2], "GET /v1/tasks/id-1?wait_ms=30000");
}

#[test]
fn a_task_that_failed_is_exit_code_1_with_its_error() {
    let mut failed = task("failed");
    failed["error"] = json!({"code": "timeout", "message": "took too long", "retryable": true});
    let server = Server::json(vec![(200, failed)]);
    let said = ask(&server, &["task", "submit", "sleep", "--wait"]);
    assert_eq!(said.code, 1);
    expect![[r#"
        timeout: took too long
        error: task id-1 is failed
    "#]]
    .assert_eq(&said.err);
    server.asked();
}

#[test]
fn refusals_are_shown_with_what_to_do() {
    let check = |status, problem: Value, expected: expect_test::Expect| {
        let server = Server::json(vec![(status, problem)]);
        let said = ask(&server, &["task", "get", "x/y"]);
        assert_eq!(said.code, 1);
        expected.assert_eq(&said.err);
        assert_eq!(server.asked()[0].line, "GET /v1/tasks/x%2Fy");
    };
    check(
        401,
        json!({"code": "unauthenticated", "detail": "expired"}),
        expect![[r#"
            error: unauthenticated: expired
            hint: give a token with --token or NO_TOKEN_FILE, or the data folder with --data-dir
        "#]],
    );
    check(
        422,
        json!({"code": "invalid", "detail": "at most 16", "pointer": "/tags"}),
        expect![[r#"
            error: invalid: at most 16 (/tags)
        "#]],
    );
    check(
        500,
        json!("?"),
        expect![[r#"
            error: http_500: refused
        "#]],
    );
}

#[test]
fn list_follows_cursors_and_prints_a_table() {
    let page = |next: Value| json!({"items": [task("queued")], "next_cursor": next});
    let server = Server::json(vec![(200, page(json!("c 1"))), (200, page(Value::Null))]);
    let said = ask(&server, &["task", "list", "--state", "queued", "--limit", "0"]);
    expect![[r#"
        ID    AGENT  STATE   ATTEMPT  CREATED               TAGS
        id-1  echo   queued  1        2026-11-25T00:00:00Z  a,b
        id-1  echo   queued  1        2026-11-25T00:00:00Z  a,b
    "#]]
    .assert_eq(&said.out);
    assert_eq!(server.asked()[1].line, "GET /v1/tasks?limit=500&state=queued&cursor=c%201");
}

#[test]
fn watch_goes_on_behind_the_last_event_after_a_cut() {
    let step = json!({"step": 1, "kind": "model", "name": "small", "output": "hm"});
    let first = format!(": nO\n\nid: 7\nevent: step_ended\ndata: {step}\n\nid: 8\nevent: st");
    let second = "id: 8\nevent: succeeded\ndata: {\"output\":\"the answer\"}\n\n".to_owned();
    let server = Server::play(vec![
        (200, "text/event-stream", first),
        (200, "application/json", task("running").to_string()),
        (503, "application/json", json!({"code": "draining", "detail": "stopping"}).to_string()),
        (200, "text/event-stream", second),
        (200, "application/json", done(json!("the answer")).to_string()),
    ]);
    let said = ask(&server, &["task", "watch", "id-1"]);
    expect![[r#"
           1  model   small                done     -> hm
              succeeded
        the answer
    "#]]
    .assert_eq(&said.out);
    assert_eq!((said.code, said.err.as_str()), (0, "nO does not answer; trying again\n"));
    let asked = server.asked();
    assert_eq!(asked[3].line, "GET /v1/tasks/id-1/events");
    assert!(asked[3].headers.contains(&"last-event-id: 7".to_owned()), "{:?}", asked[3]);
}

#[test]
fn control_and_agents() {
    let agents = json!({"items": [{"name": "echo", "kind": "echo", "paused": false,
        "live": {"queued": 1, "running": 2, "waiting": 4, "failed": 3}}], "next_cursor": null});
    let server = Server::json(vec![
        (200, task("cancelled")),
        (200, task("scheduled")),
        (200, json!({})),
        (200, json!({})),
        (204, Value::Null),
        (200, agents),
    ]);
    assert_eq!(ask(&server, &["task", "cancel", "id-1"]).out, "id-1 cancelled\n");
    assert_eq!(ask(&server, &["task", "retry", "id-1"]).out, "id-1 scheduled\n");
    let said = ask(&server, &["agent", "put", "a b", r#"{"kind":"worker"}"#]);
    assert_eq!(said.out, "agent a b is defined\n");
    assert_eq!(ask(&server, &["agent", "pause", "a"]).out, "agent a paused\n");
    assert_eq!(ask(&server, &["agent", "delete", "a"]).out, "agent a deleted\n");
    expect![[r#"
        NAME  KIND  PAUSED  QUEUED  RUNNING  WAITING  FAILED
        echo  echo  false   1       2        4        3
    "#]]
    .assert_eq(&ask(&server, &["agent", "list"]).out);
    let lines: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines[2], "PUT /v1/agents/a%20b");
    assert_eq!(lines[3..5], ["POST /v1/agents/a/pause", "DELETE /v1/agents/a"]);
}

#[test]
fn health_is_an_exit_code() {
    let body =
        json!({"status": "unhealthy", "checks": {"journal": {"status": "down", "error": "EIO"}}});
    let unknown = json!({"code": "not_found", "title": "There is nothing at this path"});
    let answers = vec![(200, json!({"status": "healthy"})), (503, body), (404, unknown)];
    let server = Server::json(answers);
    let said = ask(&server, &["health"]);
    assert_eq!((said.code, said.out.as_str()), (0, "healthy (200)\n"));
    let said = ask(&server, &["health", "--detailed"]);
    assert_eq!(said.code, 1);
    expect![[r#"
        unhealthy (503)
        CHECK    STATUS  DETAIL
        journal  down    EIO
    "#]]
    .assert_eq(&said.out);
    let said = ask(&server, &["health", "--detailed"]);
    assert_eq!(said.err, "error: not_found: There is nothing at this path\n");
    assert_eq!(server.asked()[1].line, "GET /health/detailed");
}

#[test]
fn nobody_there_is_said_with_what_to_do() {
    let said = no(&["health", "--url", "http://127.0.0.1:1", "--token", "t"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("no answer from http://127.0.0.1:1"), "{}", said.err);
    assert!(said.err.contains("hint: is nO running there?"), "{}", said.err);
}

#[test]
fn the_data_folders_token_is_used_unless_others_can_read_it() {
    let dir = tempfile::tempdir().expect("folder");
    let data = dir.path().to_str().expect("utf-8");
    let key = no_auth::LocalKey::open_or_create(dir.path()).expect("made");
    let file = key.ensure_admin_token(dir.path(), 1_800_000_000).expect("written");
    let token = std::fs::read_to_string(&file).expect("there");
    let server = Server::json(vec![(200, task("queued"))]);
    let args = ["task", "get", "id-1", "--url", &server.url, "--data-dir", data];
    assert_eq!(no(&args).code, 0);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("mode");
    let said = no(&args);
    assert_eq!(said.code, 3);
    assert!(said.err.contains("chmod 600") && !said.err.contains(&token), "{}", said.err);
    let asked = server.asked();
    assert!(asked[0].headers.contains(&format!("authorization: Bearer {token}")), "{asked:?}");
}
