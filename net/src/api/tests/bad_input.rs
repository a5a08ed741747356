//! Bad input, a table each: what is sent, and the problem that comes.

use super::submit;
use crate::testing::World;

const ADMIN: (&str, &str) = ("authorization", "Bearer t:admin");

/// One bad request a row: method, path, body, what comes.
async fn check(world: &World, method: &str, uri: &str, body: &str, expected: &str) {
    let answered = world.call(method, uri, body).await;
    assert_eq!(answered.problem(), expected, "{method} {uri} {body}");
    assert_eq!(answered.headers["content-type"], "application/problem+json");
}

#[tokio::test(start_paused = true)]
async fn bad_submissions() {
    let world = World::new(2);
    let tags = format!(r#"{{"agent":"echo","tags":[{}]}}"#, vec![r#""x""#; 17].join(","));
    let long = format!(r#"{{"agent":"echo","fairness_key":"{}"}}"#, "x".repeat(129));
    let deep = format!(r#"{{"agent":"echo","input":{}{}}}"#, "[".repeat(129), "]".repeat(129));
    let large = format!(r#"{{"agent":"echo","input":"{}"}}"#, "x".repeat(1024 * 1024));
    let huge = "x".repeat(4 * 1024 * 1024 + 1);
    let rows: &[(&str, &str)] = &[
        ("", "400 bad_request -"),
        ("{", "400 bad_request -"),
        (r#"{"agent":"echo"} x"#, "400 bad_request -"),
        ("\u{feff}{}", "400 bad_request -"),
        ("[]", "422 invalid "),
        (r#"["echo",1]"#, "422 invalid "),
        ("{}", "422 invalid /agent"),
        (r#"{"agent":1}"#, "422 invalid /agent"),
        (r#"{"agent":""}"#, "404 agent_unknown -"),
        (r#"{"agent":"nobody"}"#, "404 agent_unknown -"),
        (r#"{"agent":"echo","colour":1}"#, "422 invalid /colour"),
        (r#"{"agent":"echo","callback_url":"http://x"}"#, "422 invalid /callback_url"),
        (r#"{"agent":"echo","agent":"echo"}"#, "422 invalid /agent"),
        (r#"{"agent":"echo","priority":10}"#, "422 invalid /priority"),
        (r#"{"agent":"echo","priority":-1}"#, "422 invalid /priority"),
        (r#"{"agent":"echo","priority":1.5}"#, "422 invalid /priority"),
        (r#"{"agent":"echo","tags":["a",""]}"#, "422 invalid /tags/1"),
        (r#"{"agent":"echo","tags":["a",7]}"#, "422 invalid /tags/1"),
        (&tags, "422 invalid /tags"),
        (&long, "422 invalid /fairness_key"),
        (r#"{"agent":"echo","run_at":"tomorrow"}"#, "422 invalid /run_at"),
        (r#"{"agent":"echo","run_at":"9000-01-01T00:00:00Z"}"#, "422 invalid /run_at"),
        (r#"{"agent":"echo","deadline":"2026-02-30T00:00:00Z"}"#, "422 invalid /deadline"),
        (r#"{"agent":"echo","timeout_ms":0}"#, "422 invalid /timeout_ms"),
        (r#"{"agent":"echo","max_attempts":0}"#, "422 invalid /max_attempts"),
        (r#"{"agent":"echo","max_attempts":1001}"#, "422 invalid /max_attempts"),
        (r#"{"agent":"echo","budget":{"max_tokens":1}}"#, "422 invalid /budget/max_tokens"),
        (r#"{"agent":"echo","budget":{"max_iterations":0}}"#, "422 invalid /budget/max_iterations"),
        (r#"{"agent":"sleep"}"#, "422 invalid /input/ms"),
        (r#"{"agent":"sleep","input":{}}"#, "422 invalid /input/ms"),
        (r#"{"agent":"sleep","input":{"ms":"1"}}"#, "422 invalid /input/ms"),
        (r#"{"agent":"sleep","input":{"ms":1,"s":1}}"#, "422 invalid /input/s"),
        (r#"{"agent":"sleep","input":{"ms":999999999999999}}"#, "422 invalid /input/ms"),
        (r#"{"agent":"sleep","input":[5]}"#, "422 invalid /input"),
        (&deep, "422 invalid /input"),
        (&large, "413 too_large -"),
        (&huge, "413 too_large -"),
    ];
    world
        .run(async {
            for (body, expected) in rows {
                check(&world, "POST", "/v1/tasks", body, expected).await;
            }
            assert_eq!(world.count("Submit"), 0, "nothing bad reaches a shard");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn bad_paths_queries_and_cursors() {
    let world = World::new(2);
    let rows: &[(&str, &str, &str, &str)] = &[
        ("GET", "/", "", "404 not_found -"),
        ("GET", "/v1/tasks/", "", "404 not_found -"),
        ("GET", "/v1/task", "", "404 not_found -"),
        ("PATCH", "/v1/tasks", "", "405 method_not_allowed -"),
        ("GET", "/v1/tasks/batch/x", "", "404 not_found -"),
        ("GET", "/v1/tasks/x", "", "404 task_unknown -"),
        ("GET", "/v1/tasks/%ff", "", "404 not_found -"),
        ("GET", "/v1/tasks/018f3c4e-0000-4000-8000-000000000000", "", "404 task_unknown -"),
        ("GET", "/v1/tasks/018f3c4e-0000-7000-8000-00000000ffff", "", "404 task_unknown -"),
        (
            "GET",
            "/v1/tasks/018f3c4e-0000-7000-8000-00000000ffff?wait_ms=1",
            "",
            "404 task_unknown -",
        ),
        ("GET", "/v1/tasks/018f3c4e-0000-7000-8000-000000000001", "", "404 task_unknown -"),
        ("POST", "/v1/tasks?wait=1", "{}", "422 invalid ?wait"),
        ("POST", "/v1/tasks?wait_ms=-1", "{}", "422 invalid ?wait_ms"),
        ("POST", "/v1/tasks?wait_ms=60001", "{}", "422 invalid ?wait_ms"),
        ("GET", "/v1/tasks?limit=501", "", "422 invalid ?limit"),
        ("GET", "/v1/tasks?limit=0", "", "422 invalid ?limit"),
        ("GET", "/v1/tasks?state=done", "", "422 invalid ?state"),
        ("GET", "/v1/tasks?cursor=AAAA", "", "400 bad_request -"),
        ("GET", "/v1/tasks?cursor=", "", "400 bad_request -"),
        ("GET", "/v1/tasks?q=%zz", "", "400 bad_request -"),
        ("GET", "/v1/tasks?colour=red", "", "422 invalid ?colour"),
        ("POST", "/v1/tasks/batch", r#"{"tasks":[]}"#, "422 invalid /tasks"),
        ("POST", "/v1/tasks/batch", r#"{"task":[]}"#, "422 invalid /task"),
        ("POST", "/v1/tasks/batch", "[]", "422 invalid "),
        ("POST", "/v1/tasks/batch", r#"[["echo"]]"#, "422 invalid "),
        ("POST", "/v1/dead-letters/redrive", "[]", "422 invalid "),
        ("POST", "/v1/dead-letters/redrive", r#"{"agent":"nobody"}"#, "404 agent_unknown -"),
        ("POST", "/v1/dead-letters/redrive", r#"{"agents":"x"}"#, "422 invalid /agents"),
        ("PUT", "/v1/agents/x", r#"{"kind":"cook"}"#, "422 invalid /kind"),
        ("PUT", "/v1/agents/x", r#"{"kind":"http"}"#, "422 invalid /url"),
        ("PUT", "/v1/agents/x", r#"{"kind":"model","model":"huge"}"#, "422 invalid /model"),
        ("PUT", "/v1/agents/echo", r#"{"kind":"echo"}"#, "422 invalid /name"),
        ("DELETE", "/v1/agents/sleep", "", "422 invalid /name"),
        ("DELETE", "/v1/agents/nobody", "", "404 agent_unknown -"),
        ("POST", "/v1/agents/nobody/pause", "", "404 agent_unknown -"),
        ("GET", "/v1/agents/nobody", "", "404 agent_unknown -"),
    ];
    world
        .run(async {
            for (method, uri, body, expected) in rows {
                check(&world, method, uri, body, expected).await;
            }
            let many = format!(r#"{{"tasks":[{}]}}"#, vec!["{}"; 1_001].join(","));
            check(&world, "POST", "/v1/tasks/batch", &many, "413 too_large -").await;
            let allow = world.call("DELETE", "/v1/tasks", "").await;
            assert_eq!(allow.headers["allow"], "POST, GET");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn bad_headers_and_tokens() {
    let world = World::new(2);
    let body = r#"{"agent":"echo"}"#;
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[], "401 unauthenticated -"),
        (&[("authorization", "Basic x")], "401 unauthenticated -"),
        (&[("authorization", "Bearer bad")], "401 unauthenticated -"),
        (&[("authorization", "Bearer t:viewer")], "403 forbidden -"),
        (&[("authorization", "Bearer t:worker")], "403 forbidden -"),
        (&[ADMIN, ("content-type", "text/plain")], "415 unsupported_media_type -"),
        (&[ADMIN, ("content-type", "application/x-ndjson")], "415 unsupported_media_type -"),
        (&[ADMIN, ("idempotency-key", "\"a")], "400 bad_request -"),
        (&[ADMIN, ("idempotency-key", "")], "400 bad_request -"),
        (&[ADMIN, ("idempotency-key", "a"), ("idempotency-key", "b")], "400 bad_request -"),
    ];
    world
        .run(async {
            for (headers, expected) in rows {
                let answered = world.call_with("POST", "/v1/tasks", body, headers).await;
                assert_eq!(answered.problem(), *expected, "{headers:?}");
                let is_401 = answered.status == 401;
                assert_eq!(answered.headers.contains_key("www-authenticate"), is_401);
            }
            let with_charset = [ADMIN, ("content-type", "Application/JSON; charset=utf-8")];
            let fine = world.call_with("POST", "/v1/tasks", body, &with_charset).await;
            assert_eq!(fine.status, 200);
            let figures = world.core.stats.figures();
            let route = figures.iter().find(|route| &*route.pattern == "/v1/tasks");
            let route = route.expect("it is mounted");
            assert_eq!(route.by_status.iter().sum::<u64>(), rows.len() as u64 + 1);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn bad_reports_and_resolutions() {
    let world = World::new(2);
    world
        .run(async {
            let id = submit(&world, r#"{"agent":"work"}"#).await;
            let resolve = format!("/v1/tasks/{id}/resolve");
            let events = format!("/v1/tasks/{id}/events");
            let lease = "/v1/worker/lease";
            let rows: &[(&str, &str, &str)] = &[
                (&resolve, r#"{"outcome":"maybe"}"#, "422 invalid /outcome"),
                (&resolve, r#"{"outcome":"retry","result":1}"#, "422 invalid /result"),
                (&resolve, r#"{}"#, "422 invalid /outcome"),
                (lease, r#"{}"#, "422 invalid /agents"),
                (lease, r#"{"agents":[]}"#, "422 invalid /agents"),
                (lease, r#"{"agents":["nobody"]}"#, "404 agent_unknown -"),
                (lease, r#"{"agents":["work","echo"]}"#, "422 invalid /agents/1"),
                (lease, r#"{"agents":["work"],"max_tasks":101}"#, "422 invalid /max_tasks"),
                (lease, r#"{"agents":["work"],"wait_ms":60001}"#, "422 invalid /wait_ms"),
                (lease, r#"{"agents":["work"],"lease_ms":99}"#, "422 invalid /lease_ms"),
                ("/v1/worker/heartbeat", r#"{"lease":"x"}"#, "422 invalid /lease"),
                ("/v1/worker/complete", r#"{"lease":"x","out":1}"#, "422 invalid /out"),
                ("/v1/worker/step", r#"{"lease":"x","name":""}"#, "422 invalid /name"),
                ("/v1/worker/fail", r#"{"lease":"x"}"#, "422 invalid /error"),
                (
                    "/v1/worker/fail",
                    r#"{"lease":"x","error":{"code":""}}"#,
                    "422 invalid /error/code",
                ),
            ];
            for (uri, body, expected) in rows {
                check(&world, "POST", uri, body, expected).await;
            }
            let headers = [ADMIN, ("last-event-id", "x")];
            let answered = world.call_with("GET", &events, "", &headers).await;
            assert_eq!(answered.problem(), "400 bad_request -");
        })
        .await;
}
