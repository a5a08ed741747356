//! A task's events as a stream: everything once and in order, also for a client that comes back
//! after the node was killed.

mod e2e;

use e2e::sse::Frame;
use e2e::{Act, Home, Server};
use serde_json::{Value, json};

fn home(server: &Server) -> Home {
    let script = json!([
        {"text": "I look.", "tool_calls": [{"name": "search", "arguments": {"q": "a\nb"}}]},
        {"text": "found"}
    ]);
    let tool = json!({
        "kind": "http", "name": "search", "url": server.url("/"), "effect": "idempotent"
    });
    Home::new(json!({
        "security": {"outbound": {"allow": [server.address()]}},
        "models": {"script": {"provider": "scripted", "script": script}},
        "agents": {"loop": {"kind": "model", "model": "script", "tools": [tool]}}
    }))
}

fn journaled(frames: Vec<Frame>) -> Vec<Frame> {
    frames.into_iter().filter(|frame| !frame.id.is_empty()).collect()
}

#[test]
fn a_stream_that_is_resumed_after_a_kill_gives_the_same_bytes_once() {
    let server = Server::start(|_, place| match place {
        0 => Act::Hold(json!("lost")),
        _ => Act::Answer(200, json!("rain")),
    });
    let home = home(&server);
    let node = home.start();
    let id = node.submit(&json!({"agent": "loop", "input": "?"}));
    let mut events = node.events(&id, None);
    assert!(events.head.starts_with("HTTP/1.1 200"), "{}", events.head);
    assert!(events.head.to_ascii_lowercase().contains("content-type: text/event-stream"));
    server.wait_for(1);
    let mut got = Vec::new();
    while !got.iter().any(|frame: &Frame| frame.data.contains("\"kind\":\"tool\"")) {
        got.push(events.next().expect("the tool's step begins"));
    }
    let mut got = journaled(got);
    node.kill9();
    assert!(journaled(events.rest()).is_empty(), "nothing more came");
    let node = home.start();
    let last = got.last().expect("some came").id.clone();
    got.extend(journaled(node.events(&id, Some(&last)).rest()));
    assert_eq!(node.succeeded(&id)["output"], "found");
    let whole = journaled(node.events(&id, None).rest());
    assert_eq!(got, whole, "each event once, with the same bytes");
    let numbers: Vec<u64> = whole.iter().map(|frame| frame.id.parse().expect("a number")).collect();
    assert_eq!(numbers, (1..=whole.len() as u64).collect::<Vec<_>>());
    for frame in &whole {
        assert_eq!(frame.json()["n"].to_string(), frame.id);
        assert_eq!(frame.json()["event"], *frame.event);
    }
    assert_eq!(whole[0].event, "submitted");
    assert_eq!(whole.last().map(|frame| &*frame.event), Some("succeeded"));
    assert!(whole.iter().any(|frame| frame.event == "interrupted"));
    let end = whole.last().expect("some").id.clone();
    assert!(node.events(&id, Some(&end)).rest().is_empty());
    node.stop();
}

#[test]
fn a_stream_follows_a_task_to_its_end_and_ends() {
    let server = Server::start(|_, _| Act::Hold(json!("rain")));
    let home = home(&server);
    let node = home.start();
    let id = node.submit(&json!({"agent": "loop", "input": "?"}));
    server.wait_for(1);
    let mut first = node.events(&id, None);
    let mut second = node.events(&id, Some("1"));
    // Both stand before the tool's answer comes.
    assert_eq!(first.next().map(|frame| frame.event).as_deref(), Some("submitted"));
    assert_eq!(second.next().map(|frame| frame.id).as_deref(), Some("2"));
    server.release(1);
    let first = first.rest();
    assert_eq!(journaled(first.clone())[1..], journaled(second.rest()));
    let deltas: Vec<Value> =
        first.iter().filter(|frame| frame.event == "delta").map(Frame::json).collect();
    assert_eq!(deltas, [json!({"step": 3, "text": "found"})], "the model's words as they come");
    let task = node.succeeded(&id);
    assert_eq!(task["output"], "found");
    node.get("/v1/tasks/0197e7a4-0000-7000-8000-000000000001/events").problem(404, "task_unknown");
    let headers = [("last-event-id", "x")];
    let path = format!("/v1/tasks/{id}/events");
    node.send("GET", &path, &headers, None).problem(400, "bad_request");
}

#[test]
fn the_words_of_a_loop_are_not_shown_to_another_tenant() {
    let server = Server::agreeing();
    let home = home(&server);
    let node = home.start();
    let id = node.submit(&json!({"agent": "loop", "input": "?"}));
    let other = node.with_token(Some(&home.token(&["--role", "viewer", "--tenant", "other"])));
    other.get(&format!("/v1/tasks/{id}/events")).problem(404, "task_unknown");
    other.get(&format!("/v1/tasks/{id}/steps")).problem(404, "task_unknown");
    node.with_token(None).get(&format!("/v1/tasks/{id}/events")).problem(401, "unauthenticated");
}
