//! Tasks through the router: submitted, waited for, listed, controlled, and refused when full.

use super::{id_of, submit};
use crate::testing::{World, late, stop};
use no_engine::agent::definition::ToolEffect;
use no_engine::agent::state::StepKind;
use no_engine::command::Intake;
use no_engine::event::Event;
use no_engine::id::{Attempt, Fence, Step, TaskId};
use no_engine::payload::Payload;
use no_engine::shard::pulse::Reading;
use no_engine::task::Usage;

const ADMIN: (&str, &str) = ("authorization", "Bearer t:admin");

#[tokio::test(start_paused = true)]
async fn a_task_is_submitted_and_read() {
    let world = World::new(2);
    world
        .run(async {
            let body = r#"{"agent":"work","input":{"a":[1, 2]},"priority":9,"tags":["x"]}"#;
            let answered = world.call("POST", "/v1/tasks", body).await;
            assert_eq!(answered.status, 202, "{}", answered.text);
            let id = id_of(&answered);
            assert_eq!(answered.headers["location"], format!("/v1/tasks/{id}"));
            assert!(answered.text.contains(r#""input":{"a":[1, 2]},"output":null"#));
            let got = world.call("GET", &format!("/v1/tasks/{id}"), "").await;
            assert_eq!((got.status, got.text), (200, answered.text));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_ended_task_is_200_and_large_payloads_are_read_in() {
    let world = World::new(2);
    world
        .run(async {
            let big = "x".repeat(20_000);
            let body = format!(r#"{{"agent":"echo","input":"{big}"}}"#);
            let answered = world.call("POST", "/v1/tasks?wait_ms=50", &body).await;
            assert_eq!(answered.status, 200);
            assert_eq!(answered.json()["output"], big);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_answer_in_time_is_a_503_that_says_so() {
    // Nobody turns this world: its shards are as still as a full disk makes them.
    let world = World::new(1);
    let answered = world.call("POST", "/v1/tasks", r#"{"agent":"echo","input":1}"#).await;
    assert_eq!(answered.status, 503, "{}", answered.text);
    assert_eq!(answered.json()["code"], "queue_full");
    assert!(answered.text.contains("ask again, with the same key"), "{}", answered.text);
    assert!(answered.headers.contains_key("retry-after"));
}

#[tokio::test(start_paused = true)]
async fn waits_end_with_the_task_the_time_or_the_node() {
    let world = World::new(2);
    world
        .run(async {
            let begun = tokio::time::Instant::now();
            let body = r#"{"agent":"sleep","input":{"ms":5}}"#;
            let answered = world.call("POST", "/v1/tasks?wait_ms=100", body).await;
            assert_eq!(answered.status, 202);
            assert!(100 <= begun.elapsed().as_millis());
            assert_eq!(world.count("Unwatch"), 1);
            let id = id_of(&answered);
            let uri = format!("/v1/tasks/{id}?wait_ms=60000");

            let get = world.call("GET", &uri, "");
            let end = async {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                let id: TaskId = id.parse().expect("an id");
                world.happens(id, Event::Succeeded { output: Payload::null() });
            };
            let (got, ()) = tokio::join!(get, end);
            assert_eq!(got.json()["state"], "succeeded");
            assert!(begun.elapsed().as_millis() < 1_000);

            let again = world.call("POST", "/v1/tasks?wait_ms=60000", body);
            let stopping = async {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                stop(&world);
            };
            let (answered, ()) = tokio::join!(again, stopping);
            assert_eq!(answered.status, 202);
            assert!(begun.elapsed().as_millis() < 1_000);
            assert!(world.core.pending.is_empty());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_forgotten() {
    let world = World::new(2);
    world
        .run(async {
            let id = submit(&world, r#"{"agent":"sleep","input":{"ms":5}}"#).await;
            let uri = format!("/v1/tasks/{id}?wait_ms=60000");
            let get = world.call("GET", &uri, "");
            let leave = std::time::Duration::from_millis(50);
            assert!(tokio::time::timeout(leave, get).await.is_err());
            world.turn().await;
            assert_eq!(world.count("Unwatch"), 1);
            assert!(world.core.pending.is_empty());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn one_key_makes_one_task() {
    let world = World::new(2);
    world
        .run(async {
            let body = r#"{"agent":"work","input":1}"#;
            let keyed = |key: &'static str| [ADMIN, ("idempotency-key", key)];
            let first = world.call_with("POST", "/v1/tasks", body, &keyed("\"k\"")).await;
            let second = world.call_with("POST", "/v1/tasks?wait_ms=5", body, &keyed("k")).await;
            assert_eq!((second.status, id_of(&first)), (202, id_of(&second)));
            let other = r#"{"agent":"work","input":2}"#;
            let reused = world.call_with("POST", "/v1/tasks", other, &keyed("k")).await;
            assert_eq!(reused.problem(), "409 key_reused -");
            let headers = [("authorization", "Bearer u:admin"), ("idempotency-key", "k")];
            let elsewhere = world.call_with("POST", "/v1/tasks", other, &headers).await;
            assert_eq!(elsewhere.status, 202, "another tenant's key is another key");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn tenants_do_not_see_each_other() {
    let world = World::new(2);
    world
        .run(async {
            let id = submit(&world, r#"{"agent":"work"}"#).await;
            let other = [("authorization", "Bearer u:admin")];
            for (method, path) in [
                ("GET", ""),
                ("GET", "?wait_ms=10"),
                ("GET", "/steps"),
                ("GET", "/events"),
                ("POST", "/cancel"),
                ("POST", "/retry"),
            ] {
                let uri = format!("/v1/tasks/{id}{path}");
                let answered = world.call_with(method, &uri, "", &other).await;
                assert_eq!(answered.problem(), "404 task_unknown -", "{method} {uri}");
            }
            let list = world.call_with("GET", "/v1/tasks", "", &other).await;
            assert_eq!(list.text, r#"{"items":[],"next_cursor":null}"#);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn control_says_what_came_of_it() {
    let world = World::new(2);
    world
        .run(async {
            let id = submit(&world, r#"{"agent":"work"}"#).await;
            let cancel = format!("/v1/tasks/{id}/cancel");
            let retry = format!("/v1/tasks/{id}/retry");
            assert_eq!(world.call("POST", &retry, "").await.problem(), "409 wrong_state -");
            let cancelled = world.call("POST", &cancel, "{}").await;
            assert_eq!(cancelled.json()["state"], "cancelled");
            assert_eq!(world.call("POST", &cancel, "").await.problem(), "409 task_ended -");

            let id = submit(&world, r#"{"agent":"work"}"#).await;
            let resolve = format!("/v1/tasks/{id}/resolve");
            let done = world.call("POST", &resolve, r#"{"outcome":"done","result":[1]}"#).await;
            assert_eq!(done.json()["output"], serde_json::json!([1]));
            let redriven = world.call("POST", "/v1/dead-letters/redrive", "").await;
            assert_eq!(redriven.text, r#"{"redriven":4}"#);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_answers_item_by_item() {
    let world = World::new(2);
    world
        .run(async {
            let body = r#"{"tasks":[{"agent":"echo","input":1},{"agent":"echo","priority":10},
                {"agent":"nobody"},{"agent":"echo","input":4}]}"#;
            let answered = world.call("POST", "/v1/tasks/batch", body).await;
            assert_eq!(answered.status, 200);
            let items = answered.json()["items"].clone();
            let statuses: Vec<_> = (0..4).map(|i| items[i]["status"].as_u64()).collect();
            assert_eq!(statuses, [Some(200), Some(422), Some(404), Some(200)]);
            assert_eq!(items[1]["problem"]["pointer"], "/tasks/1/priority");
            assert_eq!(items[3]["task"]["output"], 4);

            let lines = "{\"agent\":\"echo\",\"input\":1}\r\n\n{\"agent\":\n{\"agent\":\"echo\"}";
            let ndjson = [ADMIN, ("content-type", "application/x-ndjson")];
            let answered = world.call_with("POST", "/v1/tasks/batch", lines, &ndjson).await;
            let items = answered.json()["items"].clone();
            let codes: Vec<_> = (0..3).map(|i| items[i]["problem"]["code"].as_str()).collect();
            assert_eq!(codes, [None, Some("bad_request"), None]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_large_batch_goes_to_all_shards_and_a_repeat_makes_nothing_new() {
    let world = World::new(2);
    world
        .run(async {
            let items = vec![r#"{"agent":"echo"}"#; 1_000].join("\n");
            let headers =
                [ADMIN, ("content-type", "application/x-ndjson"), ("idempotency-key", "k")];
            let first = world.call_with("POST", "/v1/tasks/batch", &items, &headers).await;
            assert_eq!(world.count("Submit"), 2);
            assert_eq!(world.store.borrow().tasks.len(), 1_000);
            let second = world.call_with("POST", "/v1/tasks/batch", &items, &headers).await;
            assert_eq!(world.store.borrow().tasks.len(), 1_000);
            assert_eq!(first.text, second.text);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn lists_are_paged() {
    let world = World::new(2);
    world
        .run(async {
            for _ in 0..5 {
                submit(&world, r#"{"agent":"work"}"#).await;
            }
            submit(&world, r#"{"agent":"echo"}"#).await;
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            for _ in 0..3 {
                let uri = format!("/v1/tasks?agent=work&state=queued&limit=2{cursor}");
                let page = world.call("GET", &uri, "").await.json();
                let items = page["items"].as_array().expect("items").clone();
                seen.extend(items.iter().map(|task| task["id"].as_str().unwrap_or("").to_owned()));
                cursor = match page["next_cursor"].as_str() {
                    Some(next) => format!("&cursor={next}"),
                    None => String::new(),
                };
            }
            assert!(cursor.is_empty());
            assert_eq!(seen.len(), 5);
            assert!(seen.is_sorted_by(|a, b| b < a), "newest first: {seen:?}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn full_and_stopping_nodes_refuse_before_work() {
    let world = World::of(1, 1);
    world
        .run(async {
            let body = r#"{"agent":"echo"}"#;
            let cases = [
                (Intake::DiskFull, "507 disk_full -"),
                (Intake::MemoryFull, "503 queue_full -"),
                (Intake::Draining, "503 draining -"),
            ];
            for (intake, expected) in cases {
                world.core.intake.set(intake);
                for path in ["/v1/tasks", "/v1/tasks/batch"] {
                    let answered = world.call("POST", path, body).await;
                    assert_eq!(answered.problem(), expected);
                    assert!(answered.headers.contains_key("retry-after"));
                }
            }
            world.core.intake.set(Intake::Open);
            world.is_stuck.set(true);
            let first = world.call("POST", "/v1/tasks", body);
            let second = async {
                tokio::task::yield_now().await;
                let answered = world.call("POST", "/v1/tasks", body).await;
                world.is_stuck.set(false);
                answered
            };
            let (first, second) = tokio::join!(first, second);
            assert_eq!((first.status, second.problem().as_str()), (200, "503 queue_full -"));
            assert_eq!(second.headers["retry-after"], "1");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_full_shard_is_not_asked() {
    let world = World::new(1);
    let room = |room| world.pulses[0].write(Reading { room, ..world.pulses[0].read() });
    let submits = || world.seen.borrow().iter().filter(|name| *name == "Submit").count();
    let body = r#"{"agent":"echo"}"#;
    let batch = format!(r#"{{"tasks":[{body}]}}"#);
    world
        .run(async {
            room(0);
            for (path, body) in [("/v1/tasks", body), ("/v1/tasks/batch", &batch)] {
                let answered = world.call("POST", path, body).await;
                assert_eq!(answered.problem(), "503 queue_full -");
                assert_eq!(answered.headers["retry-after"], "1");
            }
            assert_eq!(submits(), 0);
            // Room for one, which is on its way: its place is not given twice.
            room(1);
            world.is_stuck.set(true);
            let second = async {
                tokio::task::yield_now().await;
                let answered = world.call("POST", "/v1/tasks", body).await;
                world.is_stuck.set(false);
                answered
            };
            let (first, second) = tokio::join!(world.call("POST", "/v1/tasks", body), second);
            assert_eq!((first.status, second.problem().as_str()), (200, "503 queue_full -"));
            assert_eq!(world.call("POST", "/v1/tasks", body).await.status, 200);
            assert_eq!(submits(), 2);
        })
        .await;
}

fn started(step: u32) -> Event {
    Event::StepStarted {
        step: Step(step),
        kind: StepKind::Tool,
        name: "search".into(),
        call_id: None,
        input: Some(Payload::inline(b"{\"q\":1}")),
        effect: ToolEffect::Pure,
        until: None,
    }
}

fn ended(step: u32) -> Event {
    Event::StepEnded {
        step: Step(step),
        kind: StepKind::Tool,
        name: "search".into(),
        call_id: None,
        output: Payload::inline(b"\"found\""),
        usage: Usage::default(),
        planned: Vec::new(),
        empty: false,
        reported: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn steps_are_folded_and_paged() {
    let world = World::new(2);
    world
        .run(async {
            let id = submit(&world, r#"{"agent":"work"}"#).await;
            let task: TaskId = id.parse().expect("an id");
            let attempt = |n| Event::Started { attempt: Attempt(n), fence: Fence(0), lease_ms: None };
            let failed = Event::StepFailed { step: Step(2), error: late().into() };
            let events = [attempt(1), started(1), started(2), ended(1), failed.clone(), attempt(2)];
            for event in events.into_iter().chain([started(2), ended(2), started(3), failed]) {
                world.happens(task, event);
            }
            let uri = format!("/v1/tasks/{id}/steps");
            let all = world.call("GET", &uri, "").await.json();
            let (mut paged, mut cursor) = (Vec::new(), String::new());
            for _ in 0..3 {
                let page = world.call("GET", &format!("{uri}?limit=1{cursor}"), "").await.json();
                paged.extend(page["items"].as_array().expect("items").clone());
                cursor = page["next_cursor"].as_str().map_or(String::new(), |next| {
                    format!("&cursor={next}")
                });
            }
            assert_eq!(cursor, "");
            let expected = expect_test::expect![[r#"
                {"attempt":1,"ended_at":"2025-11-25T02:38:49.007Z","error":null,"input":{"q":1},"kind":"tool","name":"search","output":"found","started_at":"2025-11-25T02:38:49.007Z","state":"succeeded","step":1,"usage":{"cost_usd":0,"input_tokens":0,"iterations":0,"output_tokens":0}}
                2 2 failed
                3 2 running
            "#]];
            let line = |step: &serde_json::Value| {
                let state = step["state"].as_str().unwrap_or("").to_owned();
                format!("{} {} {state}\n", step["step"], step["attempt"])
            };
            let text: String = paged[1..].iter().map(line).collect();
            expected.assert_eq(&format!("{}\n{text}", paged[0]));
            assert_eq!(all["items"].as_array(), Some(&paged));
        })
        .await;
}
