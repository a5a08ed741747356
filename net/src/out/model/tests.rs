//! Tests of models against a server that does as it is told.

use crate::out::tests::harness::{self, Act, Harness, Server, answer, failed};
use no_engine::agent::state::ModelAnswer;
use no_engine::command::Outcome;
use serde_json::{Value, json};

fn models(server: &Server) -> Value {
    json!({"m": {
        "provider": "openai", "baseUrl": server.url("/v1"), "model": "gpt-x",
        "apiKeyEnv": "KEY", "prices": {"inputPerMillion": 2, "outputPerMillion": 10},
    }})
}

fn agent() -> Value {
    json!({
        "kind": "model", "model": "m", "system": "be \"brief\"", "max_output_tokens": 99,
        "tools": [
            {"kind": "http", "name": "look", "description": "looks", "url": "http://x",
             "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}},
            {"kind": "http", "name": "plain", "url": "http://x"},
            {"kind": "wait"},
        ],
    })
}

fn event(json: &str) -> String {
    format!("data: {}\n\n", flat(json))
}

/// A JSON text of several lines as one.
fn flat(json: &str) -> String {
    json.lines().map(str::trim).collect()
}

fn stream(events: &[&str]) -> String {
    let events: String = events.iter().map(|json| event(json)).collect();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}"
    )
}

fn model(outcome: &Outcome) -> (&ModelAnswer, String) {
    let Outcome::Model { answer, output } = outcome else { panic!("no answer: {outcome:?}") };
    (answer, String::from_utf8_lossy(output.bytes().expect("at hand")).into_owned())
}

const CALLS: &[&str] = &[
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"hm "},
        "finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"content":"yes"}}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function",
        "function":{"name":"look","arguments":""}}]}}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function",
        "function":{"name":"wait","arguments":"{\"ms\":"}}]}}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,
        "function":{"arguments":"{\"q\":\"é\"}"}}]}}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,
        "function":{"arguments":"5}"}}]}}]}"#,
    r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    r#"{"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050}}"#,
    "[DONE]",
];

#[tokio::test]
async fn a_streamed_answer_is_put_together_however_it_is_cut() {
    harness::local(async {
        let dripped = stream(CALLS);
        let whole = dripped.clone();
        let server = Server::start(move |seen| match seen.header("x").as_str() {
            "" => vec![Act::Drip(dripped.clone()), Act::Close],
            _ => vec![Act::Write(whole.clone()), Act::Close],
        })
        .await;
        // A model's own address needs no entry in the allow-list.
        let harness = Harness::new(&[], models(&server));
        let outcome = harness.model(&agent()).await;
        let (answer, output) = model(&outcome);
        let expected = r#"{"text":"hm yes","tool_calls":[
            {"id":"a","name":"look","arguments":"{\"q\":\"é\"}"},
            {"id":"b","name":"wait","arguments":"{\"ms\":5}"}]}"#;
        assert_eq!(output, flat(expected));
        assert_eq!((answer.usage.input_tokens, answer.usage.output_tokens), (1_000, 50));
        assert_eq!(answer.usage.cost_micro_usd, 2_500);
        assert_eq!(harness.deltas.borrow().concat(), "hm yes");
    })
    .await;
}

#[tokio::test]
async fn the_request_is_what_every_compatible_server_knows() {
    harness::local(async {
        let reply = stream(CALLS);
        let server = Server::start(move |_| vec![Act::Write(reply.clone()), Act::Close]).await;
        let harness = Harness::new(&[], models(&server));
        harness.model(&agent()).await;
        let seen = server.seen(0);
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v1/chat/completions"));
        assert_eq!(seen.header("authorization"), "Bearer sk-secret");
        assert_eq!(seen.header("idempotency-key"), format!("{}-7", harness::task()));
        let body: Value = serde_json::from_str(&seen.body).expect("JSON");
        let wait = json!({"type": "object", "additionalProperties": false, "required": ["ms"],
            "properties": {"ms": {"type": "integer", "minimum": 0,
                "description": "How long to wait, in milliseconds."}}});
        let function =
            |name: &str, parameters: Value| json!({"name": name, "parameters": parameters});
        let mut look =
            function("look", json!({"type": "object", "properties": {"q": {"type": "string"}}}));
        look["description"] = "looks".into();
        let mut waits = function("wait", wait);
        waits["description"] = "Pauses for the given number of milliseconds, then goes on.".into();
        let plain = function("plain", json!({"type": "object"}));
        let tools: Vec<Value> = [look, plain, waits]
            .into_iter()
            .map(|function| json!({"type": "function", "function": function}))
            .collect();
        let expected = json!({
            "model": "gpt-x", "stream": true, "stream_options": {"include_usage": true},
            "max_tokens": 99, "tools": tools,
            "messages": [
                {"role": "system", "content": "be \"brief\""},
                {"role": "user", "content": "hello"},
            ],
        });
        assert_eq!(body, expected);
    })
    .await;
}

#[tokio::test]
async fn a_whole_answer_is_taken_too() {
    harness::local(async {
        let body = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},
            "finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
        let reply = answer("200 OK\r\ncontent-type: application/json", body);
        let server = Server::start(move |_| vec![Act::Write(reply.clone())]).await;
        let harness = Harness::new(&[], models(&server));
        let outcome = harness.model(&agent()).await;
        let (answer, output) = model(&outcome);
        assert_eq!(output, r#"{"text":"hi"}"#);
        assert_eq!(answer.usage.cost_micro_usd, 16);
        assert_eq!(*harness.deltas.borrow(), vec!["hi"]);
    })
    .await;
}

#[tokio::test]
async fn a_stream_cut_before_its_end_is_a_failure_and_after_it_is_not() {
    harness::local(async {
        for kept in 0..CALLS.len() {
            let is_complete = 7 <= kept;
            for last in ["", "data: {\"choices\":[{\"ind"] {
                let reply = format!("{}{last}", stream(&CALLS[..kept]));
                let server =
                    Server::start(move |_| vec![Act::Write(reply.clone()), Act::Close]).await;
                let harness = Harness::new(&[], models(&server));
                let outcome = harness.model(&agent()).await;
                if is_complete {
                    assert_eq!(model(&outcome).0.tool_calls.len(), 2);
                    continue;
                }
                let (error, _, maybe_done) = failed(&outcome);
                assert_eq!((&*error.code, error.retryable), ("model_stream_cut", true));
                assert!(maybe_done);
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_holds_on_after_the_end_does_not_hold_the_answer() {
    harness::local(async {
        for (kept, input_tokens) in [(7, 0), (8, 1_000), (9, 1_000)] {
            let reply = stream(&CALLS[..kept]);
            let server = Server::start(move |_| vec![Act::Write(reply.clone()), Act::Hold]).await;
            let harness = Harness::new(&[], models(&server));
            let outcome = harness.model(&agent()).await;
            assert_eq!(model(&outcome).0.usage.input_tokens, input_tokens);
            server.closed().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_complete_stream_leaves_its_connection_for_the_next_call() {
    harness::local(async {
        let events: String = CALLS.iter().map(|json| event(json)).collect();
        let reply = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
             transfer-encoding: chunked\r\n\r\n{:x}\r\n{events}\r\n0\r\n\r\n",
            events.len()
        );
        let server = Server::start(move |_| vec![Act::Write(reply.clone())]).await;
        let harness = Harness::new(&[], models(&server));
        for _ in 0..3 {
            assert_eq!(model(&harness.model(&agent()).await).0.tool_calls.len(), 2);
        }
        assert_eq!((server.requests(), server.connections()), (3, 1));
    })
    .await;
}

#[tokio::test]
async fn refusals_have_their_codes_and_never_show_the_key() {
    harness::local(async {
        for (status, code, retryable, after) in [
            ("401 Unauthorized", "model_unauthorized", false, None),
            ("403 Forbidden", "model_unauthorized", false, None),
            ("400 Bad Request", "model_refused", false, None),
            ("404 Not Found", "model_refused", false, None),
            ("429 Slow\r\nretry-after: 2", "model_rate_limited", true, Some(2_000)),
            ("500 Oops", "model_failed", true, None),
            ("503 Busy\r\nretry-after: 1", "model_failed", true, Some(1_000)),
        ] {
            let reply = answer(status, r#"{"error":{"message":"bad key sk-secret, sorry"}}"#);
            let server = Server::start(move |_| vec![Act::Write(reply.clone())]).await;
            let harness = Harness::new(&[], models(&server));
            let outcome = harness.model(&agent()).await;
            let (error, retry_after_ms, maybe_done) = failed(&outcome);
            assert_eq!((&*error.code, error.retryable), (code, retryable), "{status}");
            assert_eq!((retry_after_ms, maybe_done), (after, false), "{status}");
            assert!(!error.message.contains("sk-secret"), "{error:?}");
            let is_quoted = error.message.contains("sorry");
            assert_eq!(is_quoted, code != "model_unauthorized", "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn answers_that_cannot_be_used_are_failures() {
    harness::local(async {
        let error = stream(&[r#"{"error":{"message":"overloaded"}}"#]);
        let junk = stream(&["junk"]);
        let page = answer("200 OK", "<html>");
        let long = format!("{}data: {}\n\n", stream(&[]), "x".repeat(2 << 20));
        for (reply, code) in [
            (error, "model_failed"),
            (junk, "model_answer_invalid"),
            (page, "model_answer_invalid"),
            (long, "model_answer_invalid"),
        ] {
            let server = Server::start(move |_| vec![Act::Write(reply.clone()), Act::Close]).await;
            let harness = Harness::new(&[], models(&server));
            let outcome = harness.model(&agent()).await;
            let (error, _, _) = failed(&outcome);
            assert_eq!((&*error.code, error.retryable), (code, true));
        }
    })
    .await;
}

#[tokio::test]
async fn a_models_address_is_closed_to_tools() {
    harness::local(async {
        let reply = stream(CALLS);
        let server = Server::start(move |_| vec![Act::Write(reply.clone()), Act::Close]).await;
        let harness = Harness::new(&[], models(&server));
        harness.model(&agent()).await;
        let tool = json!({"kind": "http", "name": "t", "url": server.url("/v1")});
        let outcome = harness.tool(&tool, "{}").await;
        assert_eq!(&*failed(&outcome).0.code, "outbound_refused");
        assert_eq!(server.requests(), 1);
    })
    .await;
}

#[tokio::test]
async fn abort_cuts_a_stream_and_closes_the_socket() {
    harness::local(async {
        let reply = stream(&CALLS[..2]);
        let server = Server::start(move |_| vec![Act::Write(reply.clone()), Act::Hold]).await;
        let harness = Harness::new(&[], models(&server));
        let agent = serde_json::from_value(agent()).expect("an agent");
        let call = harness::model_call(agent);
        let (task, fence) = (call.task, call.fence);
        harness.outbound.call(call);
        server.asked().await;
        harness.outbound.abort(task, fence);
        server.closed().await;
        assert_eq!((harness.outcomes(), harness.outbound.open()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_scripted_model_answers_from_the_configuration() {
    harness::local(async {
        let models = json!({"m": {"provider": "scripted", "script": [{"text": "done"}]}});
        let harness = Harness::new(&[], models);
        let outcome = harness.model(&json!({"kind": "model", "model": "m"})).await;
        assert_eq!(model(&outcome).1, r#"{"text":"done"}"#);
        assert_eq!(*harness.deltas.borrow(), vec!["done"]);
        let outcome = harness.model(&json!({"kind": "model", "model": "other"})).await;
        assert_eq!(&*failed(&outcome).0.code, "not_configured");
    })
    .await;
}
