//! The driver against a server that misbehaves on purpose: every counter is exact.

mod responder;

use no_loadtest::plan::{Agent, Pace, Target, Tasks};
use no_loadtest::{Error, Plan, Report, run};
use responder::{Reply, Request, answer, start};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A plan that sends `count` requests on one connection, at 2,000 a second.
fn plan(url: String, count: u64) -> Plan {
    Plan {
        url,
        pace: Pace::constant(2_000.0, Duration::from_micros(500 * count)),
        connections: 1,
        ..Plan::default()
    }
}

fn with_tasks(url: String, count: u64, tasks: Tasks) -> Plan {
    Plan { target: Target::Submit(tasks), ..plan(url, count) }
}

/// Answers control calls as a server without counters does; what else comes goes to `submit`.
fn without_metrics(
    mut submit: impl FnMut(&Request) -> Reply + Send + 'static,
) -> impl FnMut(&Request) -> Reply + Send + 'static {
    move |request| match request.line.as_str() {
        "GET /health/live" => Reply::Bytes(answer(200, "", "{}")),
        "GET /metrics" => Reply::Bytes(answer(404, "", "")),
        _ => submit(request),
    }
}

#[track_caller]
fn report(plan: &Plan) -> Report {
    run(plan).expect("a report")
}

#[test]
fn every_way_to_answer_is_counted_once() {
    let mut number = 0;
    let url = start(without_metrics(move |request| {
        assert_eq!(request.line, "POST /v1/tasks");
        number += 1;
        match (number - 1) % 10 {
            0 => Reply::Bytes(answer(202, "", r#"{"id":"1"}"#)),
            1 => Reply::Bytes(answer(429, "Retry-After: 1\r\n", "")),
            2 => Reply::Bytes(answer(503, "", "busy")),
            3 => Reply::Bytes(answer(503, "retry-after: 2\r\n", "")),
            4 => Reply::Bytes(answer(500, "", "broken")),
            5 => Reply::Last(Vec::new()),
            6 => Reply::Bytes(b"garbage\r\n\r\n".to_vec()),
            7 => Reply::Dribble(answer(202, "x: y\r\n", "slowly")),
            8 => {
                let chunked =
                    "HTTP/1.1 202 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
                Reply::Bytes(chunked.into())
            }
            _ => Reply::Last(answer(200, "connection: close\r\n", "{}")),
        }
    }));
    let report = report(&plan(url, 50));
    let requests = &report.requests;
    assert_eq!((requests.scheduled, requests.sent, requests.unsent), (50, 50, 0));
    assert_eq!(requests.accepted, 20);
    assert_eq!((requests.refused_429, requests.refused_503), (5, 10));
    assert_eq!(requests.refused_with_retry_after, 10);
    let statuses: Vec<(u16, u64)> = requests.statuses.clone().into_iter().collect();
    assert_eq!(statuses, [(200, 5), (202, 15), (429, 5), (500, 5), (503, 10)]);
    let failures: Vec<(&str, u64)> =
        requests.failures.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(failures, [("closed", 5), ("malformed", 5)]);
    assert_eq!(requests.errors, 15);
    let tasks = report.tasks.as_ref().expect("tasks");
    assert_eq!((tasks.acknowledged, tasks.ended, tasks.all_ended), (20, None, false));
    assert_eq!((report.latency.accepted.count, report.latency.refused.count), (20, 15));
    let sum = |read: fn(&no_loadtest::timeline::Second) -> u64| -> u64 {
        report.timeline.iter().map(read).sum()
    };
    assert_eq!(sum(|second| second.sent), 50);
    assert_eq!(sum(|second| second.accepted), 20);
    assert_eq!(sum(|second| second.refused), 15);
    assert_eq!(sum(|second| second.failed), 15);
    assert!(report.server.is_none());
}

#[test]
fn a_careful_client_sends_again_under_the_same_key_until_it_has_its_answer() {
    let seen = Arc::new(std::sync::Mutex::new(BTreeMap::<String, u64>::new()));
    let of_server = Arc::clone(&seen);
    let url = start(without_metrics(move |request| {
        let key = request.headers.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
        let mut seen = of_server.lock().expect("the keys");
        let number = seen.len() as u64;
        let times = seen.entry(key.expect("a key").to_owned()).or_default();
        *times += 1;
        let id = format!(r#"{{"id":"019ab8e0-c2af-702a-8000-{number:012}"}}"#);
        match (*times, number % 3) {
            (1, 0) => Reply::Last(Vec::new()),
            (1, 1) => Reply::Bytes(answer(503, "Retry-After: 1\r\n", "")),
            _ => Reply::Bytes(answer(202, "", &id)),
        }
    }));
    let tasks = Tasks { idempotency: true, ..Tasks::default() };
    let plan = Plan { is_careful: true, ..with_tasks(url, 30, tasks) };
    let requests = report(&plan).requests;
    assert_eq!((requests.scheduled, requests.accepted, requests.unsent), (30, 30, 0));
    let seen = seen.lock().expect("the keys");
    assert_eq!(seen.len(), 30);
    let again: u64 = seen.values().map(|times| times - 1).sum();
    assert_eq!((requests.sent, requests.errors + requests.refused_503), (30 + again, again));
    assert!(0 < again && seen.values().all(|times| *times <= 2), "{seen:?}");
}

#[test]
fn what_is_never_answered_times_out() {
    let url = start(without_metrics(|_| Reply::Silence));
    let plan = Plan { timeout: Duration::from_millis(20), ..plan(url, 1) };
    let requests = report(&plan).requests;
    assert_eq!((requests.sent, requests.accepted, requests.errors), (1, 0, 1));
    assert_eq!(requests.failures.get("timeout"), Some(&1));
}

#[test]
fn what_finds_no_connection_is_given_up_and_said() {
    // The first answer never comes, so that all others wait for the only connection.
    let url = start(without_metrics(|_| Reply::Silence));
    let timeout = Duration::from_millis(60);
    let plan = Plan { timeout, backlog_max: Duration::from_millis(1), ..plan(url, 40) };
    let requests = report(&plan).requests;
    assert_eq!(requests.sent + requests.unsent, 40);
    assert!(0 < requests.unsent, "{requests:?}");
    assert_eq!(requests.errors, 40);
}

#[test]
fn latency_counts_from_the_intended_time_while_requests_wait_for_a_connection() {
    // One under way at a time: whoever is due before the last answer came waits for it.
    let url = start(without_metrics(|_| Reply::Bytes(answer(202, "", "{}"))));
    let report = report(&plan(url, 8));
    let (intended, real) = (&report.latency.accepted, &report.latency.accepted_from_send);
    assert_eq!((intended.count, real.count), (8, 8));
    assert!(real.max_ms <= intended.max_ms && real.mean_ms <= intended.mean_ms);
}

#[test]
fn requests_go_out_pipelined_and_come_back_in_order() {
    let url = start(without_metrics(|_| Reply::Bytes(answer(202, "", "{}"))));
    let requests = report(&Plan { pipeline: 16, ..plan(url, 200) }).requests;
    assert_eq!((requests.accepted, requests.errors), (200, 0));
}

#[test]
fn a_closed_loop_counts_what_the_server_counted() {
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    let url = start(without_metrics(move |_| {
        counter.fetch_add(1, Relaxed);
        Reply::Bytes(answer(202, "", "{}"))
    }));
    let pace = Pace::Max { duration: Duration::from_millis(50) };
    let report = report(&Plan { pace, connections: 3, ..plan(url, 1) });
    assert_eq!(report.requests.accepted, taken.load(Relaxed));
    assert_eq!(report.requests.scheduled, report.requests.sent);
}

#[test]
fn rows_of_a_batch_are_counted_one_by_one() {
    let url = start(without_metrics(|request| {
        assert_eq!(request.line, "POST /v1/tasks/batch");
        assert!(request.headers.contains("idempotency-key: "), "{}", request.headers);
        let sent: serde_json::Value = serde_json::from_str(&request.body).expect("JSON");
        assert_eq!(sent["tasks"].as_array().map(Vec::len), Some(4));
        let (taken, refused) = (r#"{"status":202,"task":{}}"#, r#"{"status":429,"problem":{}}"#);
        let rows = [taken, refused, taken, taken].join(",");
        Reply::Dribble(answer(200, "", &format!(r#"{{"items":[{rows}]}}"#)))
    }));
    let tasks = Tasks { batch: 4, idempotency: true, ..Tasks::default() };
    let report = report(&with_tasks(url, 5, tasks));
    let tasks = report.tasks.expect("tasks");
    assert_eq!((tasks.acknowledged, tasks.rows_refused), (15, 5));
    assert_eq!(report.requests.accepted, 5);
}

#[test]
fn played_workers_complete_what_was_submitted_and_the_counters_are_read() {
    let (mut submitted, mut leased) = (0_u64, 0_u64);
    let mut completed = BTreeSet::new();
    let url = start(move |request| {
        let body = match request.line.as_str() {
            "GET /health/live" => "{}".to_owned(),
            "PUT /v1/agents/loadtest-worker" => {
                assert_eq!(request.body, r#"{"kind":"worker"}"#);
                assert!(request.headers.contains("authorization: bearer secret"));
                "{}".to_owned()
            }
            "POST /v1/tasks" => {
                submitted += 1;
                "{}".to_owned()
            }
            "POST /v1/worker/lease" => {
                let leases: Vec<String> =
                    (leased..submitted).map(|n| format!(r#"{{"lease":"L{n}"}}"#)).collect();
                leased = submitted;
                format!(r#"{{"leases":[{}]}}"#, leases.join(","))
            }
            "POST /v1/worker/complete" => {
                let rows: Vec<serde_json::Value> =
                    serde_json::from_str(&request.body).expect("an array");
                for row in &rows {
                    // Two workers may complete in any order, each lease once.
                    let lease = row["lease"].as_str().expect("a lease");
                    let known = (0..leased).any(|n| lease == format!("L{n}"));
                    assert!(known && completed.insert(lease.to_owned()), "{lease}");
                }
                "[]".to_owned()
            }
            "GET /metrics" => format!(
                "no_tasks_total{{agent=\"loadtest-worker\",state=\"succeeded\"}} {0}\n\
                 no_task_cost_seconds_sum{{layer=\"net\"}} {0}\n\
                 no_task_cost_seconds_count{{layer=\"net\"}} {0}\n\
                 process_cpu_seconds_total {0}\n",
                completed.len()
            ),
            other => panic!("nobody asks {other}"),
        };
        Reply::Bytes(answer(200, "", &body))
    });
    let tasks = Tasks { agent: Agent::Worker { workers: 2 }, ..Tasks::default() };
    let token = Some("secret".to_owned());
    let report = report(&Plan { token, ..with_tasks(url, 30, tasks) });
    let tasks = report.tasks.expect("tasks");
    assert!(tasks.all_ended);
    assert_eq!((tasks.acknowledged, tasks.ended.map(|ended| ended.succeeded)), (30, Some(30)));
    let server = report.server.expect("counters");
    assert_eq!((server.cpu_s, server.cpu_us_per_task), (Some(30.0), Some(1e6)));
    assert_eq!((server.layers[0].samples, server.layers[0].mean_us), (30, 1e6));
}

#[test]
fn a_get_submits_nothing() {
    let url = start(|request| {
        assert!(["GET /health/live", "GET /x"].contains(&request.line.as_str()));
        Reply::Bytes(answer(200, "", "x"))
    });
    let report = report(&Plan { target: Target::Get("/x".into()), ..plan(url, 20) });
    assert_eq!((report.requests.accepted, report.tasks), (20, None));
}

#[test]
fn a_warm_up_is_not_in_the_report() {
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    let url = start(without_metrics(move |_| {
        counter.fetch_add(1, Relaxed);
        Reply::Bytes(answer(202, "", "{}"))
    }));
    let report = report(&Plan { warmup: Duration::from_millis(10), ..plan(url, 10) });
    assert_eq!((report.requests.accepted, taken.load(Relaxed)), (10, 30));
}

#[test]
fn nobody_there_and_an_agent_refused_are_said_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    match run(&plan(url, 1)) {
        Err(Error::Server(text)) => assert!(text.contains("--serve"), "{text}"),
        other => panic!("{other:?}"),
    }
    let url = start(|request| match request.line.as_str() {
        "GET /health/live" => Reply::Bytes(answer(200, "", "{}")),
        _ => Reply::Bytes(answer(422, "", r#"{"pointer":"/model"}"#)),
    });
    let tasks = Tasks { agent: Agent::Model { iterations: 2 }, ..Tasks::default() };
    match run(&with_tasks(url, 1, tasks)) {
        Err(Error::Server(text)) => {
            assert!(text.contains("/model") && text.contains("scripted"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}
