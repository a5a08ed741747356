//! The console: its files and headers, the live figures that it shows, and the page itself in a
//! real browser, driven by `ops/tests/console/drive.mjs`.
//!
//! Where a browser is missing the last test says so (`e2e/chromium.rs`). Pictures are left in
//! `target/console`.

mod e2e;

use e2e::client::JSON;
use e2e::{Act, Chromium, Events, Home, Node, PATIENCE, Server};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// What must stay text, wherever a task brings it from.
const BAD: &str = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>";

#[test]
fn its_files_are_open_revalidated_and_under_a_strict_policy() {
    let node = Home::new(json!({})).start();
    let anybody = node.with_token(None);
    let page = anybody.get("/console/").expect(200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.text.starts_with("<!doctype html>"), "{}", page.text);
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'; script-src 'self'"), "{policy}");
    for name in ["index.html", "console.css", "console.js", "api.js", "icon.svg"] {
        let path = format!("/console/{name}");
        let file = anybody.get(&path).expect(200);
        assert_eq!(file.header("cache-control"), "no-cache", "{name}");
        assert_eq!(file.header("x-content-type-options"), "nosniff", "{name}");
        let etag = file.header("etag").to_owned();
        let known = [("if-none-match", etag.as_str())];
        let again = anybody.send("GET", &path, &known, None).expect(304);
        assert_eq!((again.text.as_str(), again.header("etag")), ("", etag.as_str()), "{name}");
        let other = [("if-none-match", "\"other\"")];
        assert_eq!(anybody.send("GET", &path, &other, None).expect(200).text, file.text);
    }
    let beside = anybody.get("/console").expect(308);
    assert_eq!(beside.header("location"), "/console/");
    anybody.get("/console/secret.js").problem(404, "not_found");
    anybody.get("/console/../admin.token").problem(404, "not_found");
    anybody.get("/console/%2e%2e").problem(404, "not_found");
    anybody.get("/console/?token=x").problem(422, "invalid");
    anybody.send("POST", "/console/", &[JSON], Some(b"{}")).problem(405, "method_not_allowed");
    node.stop();
}

fn live(node: &Node) -> Events {
    Events::open(node.client(), "/admin/live", None)
}

#[test]
fn live_figures_are_for_those_who_may_read_them_and_one_frame_serves_all() {
    let home = Home::new(json!({"agents": {"render": {"kind": "worker"}}}));
    let node = home.start();
    node.with_token(None).get("/admin/live").problem(401, "unauthenticated");
    let worker = home.token(&["--role", "worker"]);
    node.with_token(Some(&worker)).get("/admin/live").problem(403, "forbidden");
    node.get("/admin/live?x=1").problem(422, "invalid");

    let mut first = live(&node);
    assert!(first.head.contains("text/event-stream"), "{}", first.head);
    let frame = first.next().expect("a frame");
    assert_eq!(frame.event, "figures");
    let now = frame.json();
    assert_eq!((&now["stage"], &now["per_s"]), (&json!("ready"), &Value::Null), "{now}");
    assert_eq!(now["shards"].as_array().map(Vec::len), Some(2));
    for input in 0..3 {
        node.submit(&json!({"agent": "echo", "input": input}));
    }
    node.submit(&json!({"agent": "render", "input": 1}));
    let until = Instant::now() + PATIENCE;
    let (mut ended, mut bucketed) = (0.0, 0);
    let now = loop {
        let now = first.next().expect("a frame each second").json();
        let interval_s = now["interval_ms"].as_f64().expect("not the first") / 1e3;
        ended += now["per_s"]["succeeded"].as_f64().expect("a rate") * interval_s;
        let buckets = now["latency"]["task"]["buckets"].as_array().expect("buckets").clone();
        bucketed += buckets.iter().filter_map(Value::as_u64).sum::<u64>();
        if bucketed == 3 && now["tasks"]["queued"] == 1 {
            break now;
        }
        assert!(Instant::now() < until, "{now}");
    };
    assert!((ended - 3.0).abs() < 0.5, "{ended}");
    assert_eq!(now["since_start"]["succeeded"], 3, "{now}");
    let queued = |shard: &Value| shard["queued"].as_u64().expect("a count");
    assert_eq!(now["shards"].as_array().expect("shards").iter().map(queued).sum::<u64>(), 1);

    // The same bytes for who comes later, after what the charts show.
    let mut second = live(&node);
    let history = second.next().expect("what was before");
    assert_eq!(history.event, "history");
    let before = history.json();
    assert!(before[0]["per_s"]["succeeded"].is_number(), "{before}");
    let theirs: Vec<_> = (0..4).map(|_| second.next().expect("a frame").data).collect();
    let ours: Vec<_> = (0..5).map(|_| first.next().expect("a frame").data).collect();
    let both = theirs.iter().filter(|frame| ours.contains(frame)).count();
    assert!(3 <= both, "they see {both} of the same frames");
    node.stop();
    assert_eq!(first.rest().iter().filter(|frame| frame.event != "figures").count(), 0);
}

#[test]
fn watchers_are_bounded_and_streams_end_when_the_node_drains() {
    let node = Home::new(json!({})).start();
    let mut all: Vec<Events> = (0..no_ops::live::WATCHERS_MAX).map(|_| live(&node)).collect();
    let refused = node.get("/admin/live");
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(503, "queue_full");
    // Who goes makes room.
    all.pop();
    let until = Instant::now() + PATIENCE;
    loop {
        let one = live(&node);
        if one.head.starts_with("HTTP/1.1 200") {
            all.push(one);
            break;
        }
        assert!(Instant::now() < until, "there is no room again");
    }
    node.stop();
    for watcher in &mut all {
        watcher.rest();
    }
}

/// Tasks that come and end all the time, until it is dropped.
struct Load {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(node: &Node) -> Load {
        let is_over = Arc::new(AtomicBool::new(false));
        let one = |number: u64| {
            let (client, is_over) = (node.client().clone(), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let task = json!({"agent": "sleep", "input": {"ms": 20 + 30 * number}}).to_string();
                while !is_over.load(Ordering::Relaxed) {
                    let path = "/v1/tasks?wait_ms=2000";
                    let _ = client.try_send("POST", path, &[JSON], Some(task.as_bytes()));
                }
            })
        };
        let threads = (0..6).map(one).collect();
        Load { is_over, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn home(server: &Server) -> Home {
    let tool = json!({"kind": "http", "name": "book", "url": server.url("/book"),
                      "effect": "unsafe"});
    let script = json!([
        {"text": "I book it.", "tool_calls": [{"name": "book", "arguments": {"seat": "12A"}}]},
        {"text": "Seat 12A is yours."}
    ]);
    let retry = json!({"base_ms": 1, "factor": 1.0, "cap_ms": 1});
    Home::new(json!({
        "security": {"outbound": {"allow": [server.address()]}},
        "models": {"small": {"provider": "scripted", "script": script}},
        "agents": {
            "traveller": {"kind": "model", "model": "small", "tools": [tool]},
            "invoice": {"kind": "http", "url": server.url("/invoice"), "retry": retry,
                        "max_attempts": 1},
            "archive": {"kind": "http", "url": server.url("/slow")},
            BAD: {"kind": "worker"}
        }
    }))
}

/// A dead letter whose every text is HTML.
fn hostile(node: &Node) -> String {
    let task = json!({"agent": BAD, "input": {BAD: BAD}, "tags": ["<b>tag</b>"],
                      "fairness_key": BAD});
    let id = node.submit(&task);
    let asked = json!({"agents": [BAD], "max_tasks": 1, "wait_ms": 10_000});
    let leased = node.post("/v1/worker/lease", &asked).ok(200);
    let lease = &leased["leases"][0]["lease"];
    let step = json!({"lease": lease, "name": BAD, "result": {BAD: BAD}});
    node.post("/v1/worker/step", &step).expect(200);
    let error = json!({"code": "html", "message": BAD});
    let failed = json!({"lease": lease, "retryable": false, "error": error});
    node.post("/v1/worker/fail", &failed).expect(200);
    assert_eq!(node.ended(&id)["state"], "failed");
    id
}

#[test]
fn the_page_shows_what_goes_on_and_is_worked_by_keyboard_alone() {
    let Some(chromium) = Chromium::find() else { return };
    let invoices = AtomicUsize::new(0);
    let server = Server::start(move |seen, _| match &*seen.path {
        "/book" => Act::Answer(504, json!({"gave": "up"})),
        "/slow" => Act::Hold(json!(null)),
        _ if invoices.fetch_add(1, Ordering::Relaxed) == 0 => Act::Answer(400, json!({"no": 1})),
        _ => Act::Answer(200, json!({"ok": true})),
    });
    let home = home(&server);
    let node = home.start();
    let dead = node.submit(&json!({"agent": "invoice", "input": {"number": 7}}));
    assert_eq!(node.ended(&dead)["state"], "failed");
    let hostile = hostile(&node);
    let unknown = node.submit(&json!({"agent": "traveller", "input": "Book me a seat."}));
    node.after_event(&unknown, "waited");
    node.submit(&json!({"agent": "sleep", "input": {"ms": 600_000}}));
    let slow = node.submit(&json!({"agent": "archive", "input": "all of May"}));
    let load = Load::start(&node);

    let told = json!({"url": node.url(), "token": node.token(), "bad": BAD,
                      "tasks": {"dead": dead, "hostile": hostile, "unknown": unknown,
                                "slow": slow}});
    chromium.drive("console/drive.mjs", &told);
    drop(load);

    assert_eq!(node.task(&slow)["state"], "cancelled");
    assert_eq!(node.task(&hostile)["state"], "queued");
    let redriven = node.succeeded(&dead);
    assert_eq!(redriven["attempt"], 2, "{redriven}");
    assert_eq!(node.succeeded(&unknown)["output"], "Seat 12A is yours.");
    assert_eq!(node.steps(&unknown)[1]["output"], json!({"ok": "by hand"}));
    node.stop();
}
