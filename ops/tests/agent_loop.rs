//! The agent loop from outside: its steps, what a kill in the middle of a tool call leads to, what
//! ends a loop, and where its calls may go.

mod e2e;

use e2e::client::id_of;
use e2e::{Act, Home, Node, Server};
use serde_json::{Value, json};

/// A home with one agent `loop` whose scripted model gives `script`, and a tool `search` at
/// `server`.
fn home(server: &Server, effect: &str, script: Value) -> Home {
    let tool = json!({
        "kind": "http", "name": "search", "url": server.url("/search"), "effect": effect
    });
    let retry = json!({"base_ms": 1, "factor": 1.0, "cap_ms": 1});
    Home::new(json!({
        "security": {"outbound": {"allow": [server.address()]}},
        "models": {"script": {"provider": "scripted", "script": script}},
        "agents": {
            "loop": {
                "kind": "model", "model": "script", "tools": [tool, {"kind": "wait"}],
                "retry": retry, "max_attempts": 3
            },
            "post": {"kind": "http", "url": server.url("/post"), "retry": retry}
        }
    }))
}

/// A model that searches once and answers.
fn search_once() -> Value {
    json!([
        {"text": "I look.", "tool_calls": [{"name": "search", "arguments": {"q": "rain"}}]},
        {"text": "It rains."}
    ])
}

fn submit(node: &Node) -> String {
    node.submit(&json!({"agent": "loop", "input": "Does it rain?"}))
}

/// Name, kind and state of each step.
fn shape(steps: &[Value]) -> Vec<[&str; 3]> {
    steps
        .iter()
        .map(|step| ["name", "kind", "state"].map(|field| step[field].as_str().unwrap_or("?")))
        .collect()
}

#[test]
fn model_tool_model_answer_is_shown_step_by_step() {
    let server = Server::agreeing();
    let home = home(&server, "idempotent", search_once());
    let node = home.start();
    let id = submit(&node);
    let task = node.succeeded(&id);
    assert_eq!(task["output"], "It rains.");
    assert_eq!(task["usage"]["iterations"], 2);
    let steps = node.steps(&id);
    assert_eq!(
        shape(&steps),
        [
            ["script", "model", "succeeded"],
            ["search", "tool", "succeeded"],
            ["script", "model", "succeeded"]
        ]
    );
    assert_eq!(steps[0]["output"]["tool_calls"][0]["name"], "search");
    assert_eq!(steps[1]["input"], json!({"q": "rain"}));
    assert_eq!(steps[1]["output"], json!({"ok": true}));
    for step in &steps {
        assert_eq!(step["attempt"], 1);
        assert!(step["started_at"].as_str() <= step["ended_at"].as_str(), "{step}");
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].key.as_str(), &seen[0].body), (&*format!("{id}-2"), &json!({"q": "rain"})));
    node.stop();
}

#[test]
fn killed_during_an_idempotent_call_the_loop_calls_again_with_the_same_key() {
    let server = Server::start(|_, place| match place {
        0 => Act::Hold(json!({"ok": false})),
        _ => Act::Answer(200, json!({"ok": true})),
    });
    let home = home(&server, "idempotent", search_once());
    let node = home.start();
    let id = submit(&node);
    assert_eq!(server.wait_for(1).key, format!("{id}-2"));
    node.kill9();
    server.wait_closed(0);
    let node = home.start();
    let task = node.succeeded(&id);
    assert_eq!(task["output"], "It rains.");
    assert_eq!((server.count(), server.count_of(&format!("{id}-2"))), (2, 2));
    let frames = node.events(&id, None).rest();
    let begun = |step: u64| {
        let begins = |frame: &&e2e::sse::Frame| {
            frame.event == "step_started" && frame.json()["step"] == step
        };
        frames.iter().filter(begins).count()
    };
    assert_eq!((begun(1), begun(2), begun(3)), (1, 2, 1), "{frames:#?}");
    assert_eq!(node.steps(&id)[1]["output"], json!({"ok": true}));
}

#[test]
fn killed_during_an_unsafe_call_it_parks_until_somebody_says_what_happened() {
    let server = Server::start(|_, place| match place {
        0..3 => Act::Hold(json!(null)),
        _ => Act::Answer(200, json!({"ok": "second"})),
    });
    let home = home(&server, "unsafe", search_once());
    let node = home.start();
    let ids = [submit(&node), submit(&node), submit(&node)];
    server.wait_for(3);
    node.kill9();
    let node = home.start();
    for id in &ids {
        let task = node.after_event(id, "waited");
        assert_eq!(task["state"], "waiting", "{task}");
        assert_eq!(task["waiting"]["reason"], "outcome_unknown");
        assert_eq!(task["waiting"]["name"], "search");
        assert_eq!(node.steps(id)[1]["state"], "outcome_unknown");
    }
    // It is as parked after another start.
    node.stop();
    let node = home.start();
    let resolve = |id: &str, how: Value| node.post(&format!("/v1/tasks/{id}/resolve"), &how);
    let [done, retry, fail] = &ids;
    for id in &ids {
        assert_eq!(node.task(id)["waiting"]["reason"], "outcome_unknown");
    }
    resolve(done, json!({"outcome": "done", "result": {"ok": "by hand"}})).expect(200);
    resolve(retry, json!({"outcome": "retry"})).expect(200);
    resolve(fail, json!({"outcome": "fail"})).expect(200);
    assert_eq!(node.succeeded(done)["output"], "It rains.");
    assert_eq!(node.steps(done)[1]["output"], json!({"ok": "by hand"}));
    assert_eq!(server.count_of(&format!("{done}-2")), 1);
    assert_eq!(node.succeeded(retry)["output"], "It rains.");
    assert_eq!(node.steps(retry)[1]["output"], json!({"ok": "second"}));
    assert_eq!(server.count_of(&format!("{retry}-2")), 2);
    let failed = node.ended(fail);
    assert_eq!(
        (&failed["state"], &failed["error"]["code"]),
        (&"failed".into(), &"outcome_unknown".into())
    );
    assert_eq!(server.count_of(&format!("{fail}-2")), 1);
    resolve(done, json!({"outcome": "retry"})).expect(409);
    node.stop();
}

#[test]
fn what_runs_during_three_kills_in_a_row_is_poison_until_somebody_retries_it() {
    let server = Server::start(|_, place| match place {
        0..3 => Act::Hold(json!(null)),
        _ => Act::Answer(200, json!({"ok": true})),
    });
    let home = home(&server, "idempotent", search_once());
    let mut node = home.start();
    let id = submit(&node);
    for kill in 1..=3 {
        server.wait_for(kill);
        node.kill9();
        node = home.start();
    }
    let task = node.ended(&id);
    assert_eq!((&task["state"], &task["error"]["code"]), (&json!("failed"), &json!("poison")));
    assert_eq!(node.steps(&id)[1]["state"], "failed");
    node.order(&format!("/v1/tasks/{id}/retry")).expect(200);
    assert_eq!(node.succeeded(&id)["output"], "It rains.");
    assert_eq!(server.count_of(&format!("{id}-2")), 4);
    let steps = node.steps(&id);
    assert_eq!(shape(&steps)[1], ["search", "tool", "succeeded"]);
    assert_eq!(steps[1]["error"], Value::Null);
}

#[test]
fn a_loop_parked_in_wait_survives_a_kill_and_ends_not_before_its_time() {
    let server = Server::agreeing();
    let script = json!([
        {"tool_calls": [{"name": "wait", "arguments": {"ms": 1_000}}]},
        {"text": "rested"}
    ]);
    let home = home(&server, "idempotent", script);
    let node = home.start();
    let id = submit(&node);
    let parked = node.after_event(&id, "waited");
    assert_eq!(
        (&parked["state"], &parked["waiting"]["reason"]),
        (&"waiting".into(), &"timer".into())
    );
    let until = parked["waiting"]["until"].as_str().expect("a time").to_owned();
    node.kill9();
    let node = home.start();
    let task = node.succeeded(&id);
    assert_eq!(task["output"], "rested");
    assert!(*until <= *task["ended_at"].as_str().expect("a time"), "{until} {task}");
    assert_eq!(shape(&node.steps(&id))[1], ["wait", "timer", "succeeded"]);
}

#[test]
fn the_same_call_again_and_again_is_a_loop_that_ends() {
    let server = Server::agreeing();
    let script = json!([{"tool_calls": [{"name": "search", "arguments": {"q": "again"}}]}]);
    let home = home(&server, "idempotent", script);
    let node = home.start();
    let task = node.ended(&submit(&node));
    assert_eq!(task["state"], "failed");
    assert_eq!(task["error"]["code"], "loop_detected", "{task}");
    assert_eq!(task["error"]["retryable"], false);
    assert_eq!(server.count(), 4, "the fifth call is not made");
}

#[test]
fn a_budget_that_is_used_up_ends_the_loop_before_the_next_model_call() {
    let server = Server::agreeing();
    let script = json!([{"tool_calls": [{"name": "search", "arguments": {"q": "more"}}]}]);
    let home = home(&server, "idempotent", script);
    let node = home.start();
    let id = node.submit(&json!({"agent": "loop", "input": "x", "budget": {"max_iterations": 2}}));
    let task = node.ended(&id);
    assert_eq!(task["state"], "failed");
    assert_eq!(task["error"]["code"], "budget_exhausted", "{task}");
    assert_eq!(task["usage"]["iterations"], 2);
    assert_eq!(node.steps(&id).len(), 4, "two model calls, two tool calls");
}

#[test]
fn cancel_closes_the_socket_of_the_call_under_way() {
    let server = Server::start(|_, _| Act::Hold(json!(null)));
    let home = home(&server, "idempotent", search_once());
    let node = home.start();
    let id = submit(&node);
    let post = node.submit(&json!({"agent": "post", "input": 1}));
    server.wait_for(2);
    for id in [&id, &post] {
        let task = node.order(&format!("/v1/tasks/{id}/cancel")).ok(200);
        assert_eq!(task["state"], "cancelled");
    }
    server.wait_closed(0);
    server.wait_closed(1);
    let task = node.task(&id);
    assert_eq!((&task["state"], &task["output"]), (&"cancelled".into(), &Value::Null));
    let steps = node.steps(&id);
    assert!(steps.iter().all(|step| step["state"] != "running"), "{steps:#?}");
    node.order(&format!("/v1/tasks/{id}/cancel")).problem(409, "task_ended");
    assert_eq!(node.task(&id), task);
    node.stop();
}

#[test]
fn a_tool_at_an_address_that_is_not_allowed_is_an_error_told_to_the_model() {
    let server = Server::agreeing();
    let home = home(&server, "idempotent", search_once());
    let tool = json!({"kind": "http", "name": "search", "url": server.url("/search")});
    home.configure(json!({
        "models": {"script": {"provider": "scripted", "script": search_once()}},
        "agents": {
            "loop": {"kind": "model", "model": "script", "tools": [tool]},
            "post": {"kind": "http", "url": server.url("/post")}
        }
    }));
    let node = home.start();
    let id = submit(&node);
    assert_eq!(node.succeeded(&id)["output"], "It rains.");
    let steps = node.steps(&id);
    assert_eq!(steps[1]["output"]["error"]["code"], "outbound_refused", "{}", steps[1]);
    let post = node.ended(&node.submit(&json!({"agent": "post", "input": 1})));
    assert_eq!(
        (&post["state"], &post["error"]["code"]),
        (&"failed".into(), &"outbound_refused".into())
    );
    assert_eq!(server.count(), 0, "nothing went out");
}

#[test]
fn a_tool_that_fails_for_now_is_called_again_and_one_that_refuses_is_news_for_the_model() {
    let server = Server::start(|_, place| match place {
        0 | 2 => Act::Answer(503, json!({"busy": true})),
        1 => Act::Answer(200, json!({"ok": true})),
        _ => Act::Answer(404, json!({"no": "such page"})),
    });
    let home = home(&server, "idempotent", search_once());
    let node = home.start();
    let first = submit(&node);
    let task = node.succeeded(&first);
    assert_eq!((task["attempt"].as_u64(), server.count()), (Some(2), 2));
    assert_eq!(server.count_of(&format!("{first}-2")), 2);
    let second = submit(&node);
    node.succeeded(&second);
    let told = &node.steps(&second)[1]["output"]["error"];
    assert_eq!((&told["status"], &told["body"]["no"]), (&json!(404), &"such page".into()));
    let again = node.get(&format!("/v1/tasks/{first}")).ok(200);
    assert_eq!(id_of(&again), first);
}

#[test]
fn an_unsafe_call_whose_answer_leaves_it_open_parks_without_a_crash() {
    let server = Server::start(|_, _| Act::Answer(504, json!({"gave": "up"})));
    let home = home(&server, "unsafe", search_once());
    let node = home.start();
    let id = submit(&node);
    let task = node.after_event(&id, "waited");
    assert_eq!(task["waiting"]["reason"], "outcome_unknown", "{task}");
    assert_eq!(node.steps(&id)[1]["state"], "outcome_unknown");
    node.post(&format!("/v1/tasks/{id}/resolve"), &json!({"outcome": "done"})).expect(200);
    assert_eq!(node.succeeded(&id)["output"], "It rains.");
    assert_eq!((server.count(), &node.steps(&id)[1]["output"]), (1, &Value::Null));
}

#[test]
fn an_attempt_that_takes_too_long_is_cut_off_and_made_again() {
    let server = Server::start(|_, _| Act::Hold(json!(null)));
    let home = home(&server, "idempotent", search_once());
    let node = home.start();
    let body = json!({"agent": "post", "input": 1, "timeout_ms": 100, "max_attempts": 2});
    let id = node.submit(&body);
    let task = node.ended(&id);
    assert_eq!((&task["state"], &task["error"]["code"]), (&json!("failed"), &json!("timeout")));
    assert_eq!(task["attempt"], 2);
    server.wait_closed(0);
    server.wait_closed(1);
    assert_eq!(server.count_of(&format!("{id}-0")), 2);
}

/// A model that asks for another search each time, `iterations` times.
fn searching(iterations: usize) -> Server {
    Server::start(move |seen, _| {
        let messages = seen.body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let results = messages.iter().filter(|message| message["role"] == "tool").count();
        let function = json!({"name": "search", "arguments": format!("{{\"page\":{results}}}")});
        let call = json!({"id": format!("c{results}"), "type": "function", "function": function});
        let message = match results < iterations {
            true => json!({"role": "assistant", "content": null, "tool_calls": [call]}),
            false => json!({"role": "assistant", "content": format!("{results} pages")}),
        };
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        Act::Answer(200, json!({"object": "chat.completion", "choices": [choice]}))
    })
}

#[test]
fn a_long_loop_keeps_its_whole_context_over_a_kill_and_its_steps_are_paged() {
    let model = searching(40);
    let server = Server::start(|seen, place| match place {
        20 => Act::Hold(json!("lost")),
        _ => Act::Answer(200, seen.body["page"].clone()),
    });
    let tool = json!({
        "kind": "http", "name": "search", "url": server.url("/"), "effect": "idempotent"
    });
    let home = Home::new(json!({
        "security": {"outbound": {"allow": [server.address()]}},
        "models": {
            "remote": {"provider": "openai", "baseUrl": model.url("/v1"), "model": "searching"}
        },
        "agents": {"loop": {"kind": "model", "model": "remote", "tools": [tool]}}
    }));
    let node = home.start();
    let id = submit(&node);
    server.wait_for(21);
    node.kill9();
    let node = home.start();
    assert_eq!(node.succeeded(&id)["output"], "40 pages");
    let steps = node.steps(&id);
    assert_eq!(steps.len(), 81);
    for limit in [1, 7, 81, 500] {
        assert_eq!(node.all(&format!("/v1/tasks/{id}/steps?limit={limit}")), steps, "{limit}");
    }
    for (place, step) in steps.iter().enumerate().filter(|(_, step)| step["kind"] == "tool") {
        assert_eq!((&step["step"], &step["output"]), (&json!(place + 1), &step["input"]["page"]));
    }
    let last = model.seen().pop().expect("requests").body;
    let results: Vec<String> = last["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .filter(|message| message["role"] == "tool")
        .map(|message| message["content"].as_str().expect("a text").to_owned())
        .collect();
    let expected: Vec<String> = (0..40).map(|page| page.to_string()).collect();
    assert_eq!(results, expected, "the model was told everything, in order");
    assert_eq!((model.count(), server.count()), (41, 41), "one call of the tool was made again");
}
