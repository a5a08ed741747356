//! Traces from outside: a collector of our own reads what a node sends, strictly as OTLP's JSON
//! is written, and holds the spans against what was asked and what happened.

mod e2e;

use e2e::client::{JSON, id_of};
use e2e::{Act, Home, Node, PATIENCE, Server};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// OTLP's request for traces, with nothing more than it has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Export {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ResourceSpans {
    resource: Resource,
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    attributes: Vec<Pair>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
    name: String,
    version: String,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(default)]
    parent_span_id: String,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Pair>,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    code: u8,
    message: String,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    key: String,
    value: AnyValue,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
enum AnyValue {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "intValue")]
    Whole(String),
    #[serde(rename = "doubleValue")]
    Double(f64),
}

impl Span {
    /// An attribute as text; empty when it is absent.
    fn attribute(&self, key: &str) -> String {
        let found = self.attributes.iter().find(|pair| pair.key == key);
        found.map_or(String::new(), |pair| match &pair.value {
            AnyValue::Text(text) | AnyValue::Whole(text) => text.clone(),
            AnyValue::Double(number) => number.to_string(),
        })
    }

    fn is_of(&self, task: &str) -> bool {
        self.attribute("no.task.id") == task
    }

    fn is_task(&self) -> bool {
        !self.attribute("no.attempts").is_empty()
    }
}

fn hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// All spans that a collector has taken, checked one by one.
fn spans(collector: &Server) -> Vec<Span> {
    let mut all = Vec::new();
    for seen in collector.seen() {
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/traces"));
        let export: Export = serde_json::from_value(seen.body).expect("OTLP");
        for resource in export.resource_spans {
            let has = |key: &str| resource.resource.attributes.iter().any(|pair| pair.key == key);
            assert!(has("service.name") && has("service.version"));
            for scope in resource.scope_spans {
                assert_eq!(scope.scope.name, "no");
                assert_ne!(scope.scope.version, "");
                all.extend(scope.spans);
            }
        }
    }
    for span in &all {
        assert!(hex(&span.trace_id, 32) && hex(&span.span_id, 16), "{span:?}");
        assert!(span.parent_span_id.is_empty() || hex(&span.parent_span_id, 16), "{span:?}");
        let nano = |text: &str| text.parse::<u64>().expect("a fixed64 as text");
        assert!(nano(&span.start_time_unix_nano) <= nano(&span.end_time_unix_nano), "{span:?}");
        assert!(matches!(span.kind, 1 | 3), "{span:?}");
        assert!(span.status.as_ref().is_none_or(|s| s.code == 2 && !s.message.is_empty()));
    }
    all
}

/// Waits until the collector has the span of this task, and gives all spans of it.
#[track_caller]
fn spans_of(collector: &Server, task: &str) -> Vec<Span> {
    let until = Instant::now() + PATIENCE;
    let mut count = 1;
    loop {
        let mut all = spans(collector);
        all.retain(|span| span.is_of(task));
        if all.iter().any(Span::is_task) {
            return all;
        }
        assert!(Instant::now() < until, "no span of {task}: {all:#?}");
        collector.wait_for(count);
        count = collector.count() + 1;
    }
}

fn config(server: &Server, collector: &Server) -> Value {
    let tool = json!({
        "kind": "http", "name": "search", "url": server.url("/search"), "effect": "idempotent"
    });
    let script = json!([
        {"text": "I look.", "tool_calls": [{"name": "search", "arguments": {"q": "rain"}}]},
        {"text": "It rains."}
    ]);
    let retry = json!({"base_ms": 1, "factor": 1.0, "cap_ms": 1});
    json!({
        "security": {"outbound": {"allow": [server.address()]}},
        "monitoring": {"otlp": {"endpoint": collector.url(""), "serviceName": "tested"}},
        "models": {"script": {"provider": "scripted", "script": script}},
        "agents": {
            "loop": {"kind": "model", "model": "script", "tools": [tool], "retry": retry},
            "post": {"kind": "http", "url": server.url("/post"), "retry": retry},
            "render": {"kind": "worker"}
        }
    })
}

/// Submits with this `traceparent`; the task's id.
fn submit(node: &Node, agent: &str, traceparent: &str) -> String {
    let body = json!({"agent": agent, "input": "Does it rain?"});
    let headers = [JSON, ("traceparent", traceparent)];
    let reply = node.send("POST", "/v1/tasks", &headers, Some(body.to_string().as_bytes()));
    assert!(matches!(reply.status, 200 | 202), "{}", reply.text);
    id_of(&reply.body)
}

fn collector() -> Server {
    Server::start(|_, _| Act::Answer(200, json!({})))
}

/// The one span of that name.
#[track_caller]
fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

#[test]
fn a_worker_is_told_the_span_that_it_works_in() {
    let (server, collector) = (Server::agreeing(), collector());
    let home = Home::new(config(&server, &collector));
    let node = home.start();
    let asked = json!({"agents": ["render"], "max_tasks": 1, "wait_ms": 10_000});
    for flags in ["01", "00"] {
        let id = submit(&node, "render", &format!("00-{TRACE}-{PARENT}-{flags}"));
        let lease = node.post("/v1/worker/lease", &asked).ok(200)["leases"][0].clone();
        let told = lease["traceparent"].as_str().expect("a text").to_owned();
        assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with(flags), "{told}");
        let done = json!({"lease": lease["lease"], "output": 1});
        node.post("/v1/worker/complete", &done).expect(200);
        node.succeeded(&id);
        if flags == "01" {
            let spans = spans_of(&collector, &id);
            let attempt = named(&spans, "attempt 1");
            assert_eq!(told, format!("00-{TRACE}-{}-01", attempt.span_id));
        }
    }
    node.stop();
}

#[test]
fn a_loop_is_a_tree_in_its_callers_trace() {
    let (server, collector) = (Server::agreeing(), collector());
    let home = Home::new(config(&server, &collector));
    let node = home.start();
    let id = submit(&node, "loop", &format!("00-{TRACE}-{PARENT}-01"));
    assert_eq!(node.succeeded(&id)["output"], "It rains.");
    let spans = spans_of(&collector, &id);
    assert_eq!(spans.len(), 5, "{spans:#?}");
    assert!(spans.iter().all(|span| span.trace_id == TRACE && span.status.is_none()));
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), 5);
    let (task, attempt) = (named(&spans, "invoke_agent loop"), named(&spans, "attempt 1"));
    assert_eq!(task.parent_span_id, PARENT);
    assert_eq!(attempt.parent_span_id, task.span_id);
    let steps: Vec<_> = spans.iter().filter(|span| !span.attribute("no.step").is_empty()).collect();
    assert!(steps.iter().all(|step| step.parent_span_id == attempt.span_id && step.kind == 3));
    let shape: BTreeMap<_, _> =
        steps.iter().map(|step| (step.attribute("no.step"), step.name.as_str())).collect();
    let expected = [("1", "chat script"), ("2", "execute_tool search"), ("3", "chat script")];
    assert!(shape.iter().map(|(n, name)| (n.as_str(), *name)).eq(expected), "{shape:?}");
    let tool = named(&spans, "execute_tool search");
    assert_eq!(tool.attribute("gen_ai.tool.name"), "search");
    assert_eq!(task.attribute("gen_ai.agent.name"), "loop");
    assert_eq!(task.attribute("no.outcome"), "succeeded");
    assert_eq!(server.seen()[0].trace, format!("00-{TRACE}-{}-01", tool.span_id));
    node.stop();
}

#[test]
fn a_trace_that_the_caller_does_not_keep_is_not_sent_and_a_malformed_one_is_ignored() {
    let (server, collector) = (Server::agreeing(), collector());
    let home = Home::new(config(&server, &collector));
    let node = home.start();
    let left = submit(&node, "post", &format!("00-{TRACE}-{PARENT}-00"));
    node.succeeded(&left);
    assert!(server.seen()[0].trace.starts_with(&format!("00-{TRACE}-")));
    assert!(server.seen()[0].trace.ends_with("-00"));
    let bad = submit(&node, "post", &format!("00-{}-{PARENT}-01", TRACE.to_uppercase()));
    node.succeeded(&bad);
    let spans = spans_of(&collector, &bad);
    assert!(spans.iter().all(|span| span.trace_id == bad.replace('-', "")));
    assert_eq!(named(&spans, "invoke_agent post").parent_span_id, "");
    node.stop();
    assert!(self::spans(&collector).iter().all(|span| !span.is_of(&left)));
}

#[test]
fn killed_in_the_middle_a_task_goes_on_in_its_trace() {
    let server = Server::start(|_, place| match place {
        0 => Act::Hold(json!({"ok": false})),
        _ => Act::Answer(200, json!({"ok": true})),
    });
    let collector = collector();
    let home = Home::new(config(&server, &collector));
    let node = home.start();
    let id = submit(&node, "loop", &format!("00-{TRACE}-{PARENT}-01"));
    server.wait_for(1);
    node.kill9();
    let node = home.start();
    node.succeeded(&id);
    let spans = spans_of(&collector, &id);
    assert!(spans.iter().all(|span| span.trace_id == TRACE), "{spans:#?}");
    let mut by_id = BTreeMap::new();
    for span in &spans {
        assert!(by_id.insert(&span.span_id, span).is_none(), "twice: {span:?}");
    }
    let task = named(&spans, "invoke_agent loop");
    let (first, second) = (named(&spans, "attempt 1"), named(&spans, "attempt 2"));
    assert_eq!((&first.parent_span_id, &second.parent_span_id), (&task.span_id, &task.span_id));
    assert_eq!(first.attribute("no.outcome"), "interrupted");
    assert_eq!(first.status.as_ref().map(|status| status.code), Some(2));
    assert_eq!(second.attribute("no.outcome"), "succeeded");
    assert!(first.start_time_unix_nano < first.end_time_unix_nano, "its start is remembered");
    let calls: Vec<_> = spans.iter().filter(|span| span.name == "execute_tool search").collect();
    let sent: Vec<_> = server.seen().iter().map(|seen| seen.trace.clone()).collect();
    assert_eq!((calls.len(), sent.len()), (2, 2));
    for (call, (sent, attempt)) in calls.iter().zip(sent.iter().zip([first, second])) {
        assert_eq!(**sent, format!("00-{TRACE}-{}-01", call.span_id));
        assert_eq!(call.parent_span_id, attempt.span_id);
    }
    node.stop();
}

#[test]
fn a_retry_is_a_second_attempt_and_a_redrive_a_second_round() {
    let server = Server::start(|_, place| match place {
        0 => Act::Answer(503, json!({})),
        2 => Act::Answer(404, json!({})),
        _ => Act::Answer(200, json!({"ok": true})),
    });
    let collector = collector();
    let home = Home::new(config(&server, &collector));
    let node = home.start();
    let id = submit(&node, "post", &format!("00-{TRACE}-{PARENT}-01"));
    node.succeeded(&id);
    let spans = spans_of(&collector, &id);
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let (first, second) = (named(&spans, "attempt 1"), named(&spans, "attempt 2"));
    assert_eq!(first.attribute("error.type"), "http_status");
    assert!(first.status.is_some() && second.status.is_none());
    assert_eq!(server.seen()[1].trace, format!("00-{TRACE}-{}-01", second.span_id));
    let id = submit(&node, "post", &format!("00-{TRACE}-{PARENT}-01"));
    assert_eq!(node.ended(&id)["state"], "failed");
    node.order(&format!("/v1/tasks/{id}/retry")).expect(200);
    node.succeeded(&id);
    node.stop();
    let mut spans = self::spans(&collector);
    spans.retain(|span| span.is_of(&id));
    let rounds: Vec<_> = spans.iter().filter(|span| span.is_task()).collect();
    assert_eq!((spans.len(), rounds.len()), (4, 2), "{spans:#?}");
    assert_eq!(rounds[0].parent_span_id, PARENT);
    assert_eq!(rounds[1].parent_span_id, rounds[0].span_id);
    assert_eq!(named(&spans, "attempt 2").parent_span_id, rounds[1].span_id);
    assert!(rounds[0].end_time_unix_nano <= rounds[1].start_time_unix_nano);
}

/// The count of an outcome on `/metrics`.
fn counted(node: &Node, outcome: &str) -> u64 {
    let text = node.get("/metrics").text;
    let head = format!("no_spans_total{{outcome=\"{outcome}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&head));
    line.expect("the family").parse().expect("a count")
}

#[test]
fn a_collector_that_hangs_or_refuses_delays_nobody() {
    let held = Server::start(|_, _| Act::Hold(json!({})));
    let home = Home::new(config(&Server::agreeing(), &held));
    let node = home.start();
    let echo = json!({"agent": "echo", "input": 1});
    node.post("/v1/tasks?wait_ms=30000", &echo).expect(200);
    held.wait_for(1);
    let begun = Instant::now();
    for _ in 0..50 {
        node.post("/v1/tasks?wait_ms=30000", &echo).expect(200);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "they wait for the collector");
    node.stop();
    let refusing = Server::start(|_, _| Act::Answer(400, json!({})));
    let home = Home::new(config(&Server::agreeing(), &refusing));
    let node = home.start();
    node.post("/v1/tasks?wait_ms=30000", &echo).expect(200);
    refusing.wait_for(1);
    let until = Instant::now() + PATIENCE;
    while counted(&node, "failed") == 0 {
        assert!(Instant::now() < until, "nothing is counted");
    }
    assert_eq!((counted(&node, "failed"), counted(&node, "exported")), (2, 0));
    assert_eq!(refusing.count(), 1, "what is refused for good is not sent again");
    node.stop();
}

#[test]
fn a_busy_collector_is_asked_again_when_it_says() {
    let busy = Server::start(|_, place| match place {
        0 => Act::Later(0),
        _ => Act::Answer(200, json!({"partialSuccess": {"rejectedSpans": "1"}})),
    });
    let home = Home::new(config(&Server::agreeing(), &busy));
    let node = home.start();
    node.post("/v1/tasks?wait_ms=30000", &json!({"agent": "echo", "input": 1})).expect(200);
    busy.wait_for(2);
    let seen = busy.seen();
    assert_eq!(seen[0].body, seen[1].body);
    let until = Instant::now() + PATIENCE;
    while counted(&node, "exported") == 0 {
        assert!(Instant::now() < until, "nothing is counted");
    }
    assert_eq!((counted(&node, "exported"), counted(&node, "failed")), (1, 1));
    assert_eq!(counted(&node, "dropped"), 0);
    node.stop();
}

#[test]
fn all_lines_about_a_task_carry_its_trace() {
    let (server, collector) = (Server::agreeing(), collector());
    let home = Home::new(config(&server, &collector));
    let mut command = home.serve();
    command.env("NO_LOG", "debug");
    let node = Node::start(command, home.data());
    let id = submit(&node, "loop", &format!("00-{TRACE}-{PARENT}-01"));
    node.succeeded(&id);
    let said = |line: &str| line.contains(&id) && line.contains("succeeded");
    node.log().wait(Instant::now() + PATIENCE, |line| said(line).then_some(())).expect("a line");
    let text = node.log().text();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_it: Vec<_> = lines.filter(|line| line["task"] == *id).collect();
    let targets: BTreeSet<_> = of_it.iter().filter_map(|line| line["target"].as_str()).collect();
    assert!(targets.contains("agent") && targets.contains("task"), "{targets:?}");
    for line in &of_it {
        assert_eq!(line["trace_id"], TRACE, "{line}");
    }
    node.stop();
}

#[test]
fn a_bad_endpoint_is_refused_with_what_to_do() {
    let home = Home::new(json!({"monitoring": {"otlp": {"endpoint": "collector:4317"}}}));
    let (code, said) = home.refused();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("monitoring.otlp.endpoint") && said.contains("http://127.0.0.1:4318"));
}
