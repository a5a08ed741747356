//! What guards a real node: the audit log across crashes and a failing disk, revoked tokens, rate
//! limits.

mod e2e;

use e2e::{Client, Home, Node, Server};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn verified(home: &Home) -> (i32, Value) {
    let output = home.run(&["audit", "verify", "--json"]);
    let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap_or(-1), said)
}

fn files(home: &Home) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home.data().join("audit")).expect("a folder").flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    paths
}

fn text(home: &Home) -> String {
    files(home).iter().map(|path| std::fs::read_to_string(path).expect("text")).collect()
}

/// The lines of the log as JSON.
fn lines(home: &Home) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).expect("json");
    text(home).lines().map(line).collect()
}

fn of_verb(home: &Home, verb: &str) -> Vec<Value> {
    lines(home).into_iter().filter(|line| line["what"] == verb).collect()
}

fn later() -> Value {
    json!({"agents": {"later": {"kind": "sleep"}}})
}

fn sleeping(node: &Node) -> String {
    node.submit(&json!({"agent": "later", "input": {"ms": 600_000}}))
}

#[test]
fn control_calls_and_denials_are_kept_through_a_kill_and_nothing_secret_is() {
    let home = Home::new(later());
    let node = home.start();
    let id = sleeping(&node);
    node.order(&format!("/v1/tasks/{id}/cancel")).expect(200);
    let viewer = home.token(&["--role", "viewer", "--subject", "vera"]);
    let forbidden = node.with_token(Some(&viewer)).order("/v1/dead-letters/redrive");
    forbidden.problem(403, "forbidden");
    node.with_token(Some("nonsense")).get("/v1/tasks").expect(401);
    node.put("/v1/agents/mine", &json!({"kind": "echo", "system": "a secret"}));
    node.kill9();

    let cancel = &of_verb(&home, "task.cancel")[0];
    assert_eq!(cancel["on"], id.as_str());
    assert_eq!(
        (&cancel["decision"], &cancel["reason"]),
        (&json!("allowed"), &json!("tasks:control"))
    );
    assert_eq!(cancel["who"], json!({"subject": "admin", "tenant": "default", "method": "bearer"}));
    assert_eq!(cancel["from"], "127.0.0.1");
    assert_eq!(of_verb(&home, "rbac.denied")[0]["who"]["subject"], "vera");
    assert_eq!(of_verb(&home, "auth.denied")[0]["reason"], "malformed");
    assert_eq!(of_verb(&home, "agent.put")[0]["on"], "mine");
    assert_eq!(of_verb(&home, "token.create")[0]["who"]["method"], "cli");
    let kept = text(&home);
    for secret in [viewer.as_str(), node_token(&home).as_str(), "nonsense", "a secret"] {
        assert!(!kept.contains(secret), "{secret} is in the log");
    }
    let (code, said) = verified(&home);
    assert_eq!((code, &said["status"]), (0, &json!("sound")), "{said}");

    // A line cut off by the crash is found, cut off at the next start, and noted.
    let path = files(&home).pop().expect("a file");
    let whole = std::fs::read(&path).expect("read");
    std::fs::write(&path, &whole[..whole.len() - 20]).expect("torn");
    let (code, said) = verified(&home);
    assert_eq!((code, &said["line"]), (1, &json!(lines_of(&path) + 1)), "{said}");
    let node = home.start();
    assert_eq!(of_verb(&home, "audit.torn").len(), 1);
    assert_eq!(verified(&home).0, 0, "also while the node runs");
    node.stop();
    assert_eq!(verified(&home).0, 0);
}

fn node_token(home: &Home) -> String {
    std::fs::read_to_string(home.data().join("admin.token")).expect("a token").trim().to_owned()
}

fn lines_of(path: &Path) -> usize {
    std::fs::read(path).expect("read").iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn a_changed_line_is_named_with_its_file() {
    let home = Home::new(json!({}));
    home.start().stop();
    for subject in ["ada", "bob", "eve"] {
        home.token(&["--role", "viewer", "--subject", subject]);
    }
    let path = files(&home).pop().expect("a file");
    let changed = text(&home).replace("bob", "rob");
    std::fs::write(&path, changed).expect("written");
    let output = home.run(&["audit", "verify"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with(&format!("{}:3: ", path.display())), "{said}");
}

#[test]
fn a_log_whose_sync_fails_refuses_control_calls_and_says_so() {
    let home = Home::new(later());
    let (trigger, notes) = (home.path().join("fail"), home.path().join("notes"));
    let mut command = home.serve();
    command.env("LD_PRELOAD", e2e::shim::failing_sync(home.path()));
    command.env("E2E_FAIL_SYNC", &trigger).env("E2E_SYNC_NOTES", &notes);
    let node = Node::start(command, home.data());
    let id = sleeping(&node);
    std::fs::write(&trigger, "").expect("the trigger is set");
    let cancel = format!("/v1/tasks/{id}/cancel");
    for _ in 0..3 {
        let refused = node.order(&cancel).expect(503);
        assert_eq!(refused.header("retry-after"), "30");
        refused.problem(503, "audit_failed");
    }
    assert_eq!(std::fs::read(&notes).expect("a sync was tried").len(), 1, "it was tried again");
    std::fs::remove_file(&trigger).expect("the disk is well again");
    node.order(&cancel).problem(503, "audit_failed");
    let health = node.get("/health").expect(503).body;
    assert_eq!(health["checks"]["audit"]["status"], "failing", "{health}");
    node.get("/health/ready").expect(200);
    assert_ne!(node.task(&id)["state"], "cancelled");
    assert!(node.log().text().contains("control calls are refused"));
    node.stop();
    let node = home.start();
    node.order(&cancel).expect(200);
    node.stop();
    assert_eq!(verified(&home).0, 0);
}

/// Asks until the answer has this status; fails when it does not come in time.
fn until(client: &Client, path: &str, status: u16, within: Duration) -> Duration {
    let begun = Instant::now();
    while client.get(path).status != status {
        assert!(begun.elapsed() < within, "{path} is not {status} within {within:?}");
    }
    begun.elapsed()
}

#[test]
fn a_revoked_token_is_refused_by_the_running_node_and_after_a_restart() {
    let home = Home::new(json!({}));
    let node = home.start();
    let args = ["token", "create", "--role", "viewer", "--subject", "vera", "--json"];
    let made: Value = serde_json::from_slice(&home.run(&args).stdout).expect("json");
    let (token, id) = (made["token"].as_str().expect("one"), made["id"].as_str().expect("an id"));
    let vera = node.with_token(Some(token));
    vera.get("/v1/tasks").expect(200);

    let list = || -> Value {
        let output = home.run(&["token", "list", "--json"]);
        assert!(!String::from_utf8_lossy(&output.stdout).contains(token));
        serde_json::from_slice(&output.stdout).expect("json")
    };
    let items = list();
    assert_eq!(items["items"].as_array().map(Vec::len), Some(2), "the admin's too: {items}");
    let of = |items: &Value, subject: &str| {
        let all = items["items"].as_array().expect("items").clone();
        all.into_iter().find(|item| item["subject"] == subject).expect("listed")
    };
    assert_eq!(of(&items, "admin")["role"], "admin");
    assert_eq!(
        (&of(&items, "vera")["id"], &of(&items, "vera")["state"]),
        (&id.into(), &"valid".into())
    );

    let revoke = |id: &str| {
        let output = home.run(&["token", "revoke", id]);
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        (output.status.code(), String::from_utf8(said).expect("text"))
    };
    assert_eq!(revoke(id), (Some(0), format!("{id} is revoked\n")));
    until(&vera, "/v1/tasks", 401, Duration::from_secs(5));
    node.get("/v1/tasks").expect(200);
    let again = revoke(id);
    assert!(again.0 == Some(0) && again.1.contains("already"), "{again:?}");
    let unknown = revoke("0000");
    assert!(unknown.0 == Some(1) && unknown.1.contains("no token list"), "{unknown:?}");
    assert_eq!(of(&list(), "vera")["state"], "revoked");
    let metrics = node.get("/metrics").expect(200).text;
    assert!(metrics.contains(r#"no_auth_failures_total{method="bearer",reason="revoked"} "#));

    // The admin's own ends as well, and the next start writes another.
    let admin = of(&list(), "admin")["id"].as_str().expect("an id").to_owned();
    assert_eq!(revoke(&admin).0, Some(0));
    until(&node, "/v1/tasks", 401, Duration::from_secs(5));
    let old = node_token(&home);
    node.stop();
    let node = home.start();
    assert_ne!(node_token(&home), old);
    node.get("/v1/tasks").expect(200);
    node.with_token(Some(token)).get("/v1/tasks").expect(401);
    node.with_token(Some(&old)).get("/v1/tasks").expect(401);
    node.stop();
    assert_eq!(of_verb(&home, "token.revoke").len(), 2);
    // Nor is one good whose key is gone, and the list says so.
    let states = |items: Value| -> Vec<Value> {
        let items = items["items"].as_array().expect("items").clone();
        items.iter().map(|item| item["state"].clone()).collect()
    };
    assert_eq!(states(list()).iter().filter(|state| *state == "valid").count(), 1);
    std::fs::remove_file(home.data().join("token.key")).expect("it was there");
    assert_eq!(states(list()).iter().filter(|state| *state == "key_gone").count(), 1);
    assert_eq!(states(list()).iter().filter(|state| *state == "revoked").count(), 2);
    assert_eq!(verified(&home).0, 0);
}

#[test]
fn limits_hold_for_one_address_and_never_for_health_or_scrapes_from_here() {
    let rate = |burst: u32| json!({"perSecond": 1, "burst": burst});
    let home = Home::new(json!({"security": {
        "rateLimit": {"perAddress": rate(1000), "perPrincipal": rate(5), "failures": rate(3)},
        "trustedProxies": ["127.0.0.0/8"]
    }}));
    let mut command = home.serve();
    command.env("NO_RATE_LIMIT_ENABLED", "true");
    let node = Node::start(command, home.data());
    let answers: Vec<_> = (0..30).map(|_| node.get("/v1/tasks")).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!((20..=25).contains(&refused.len()), "{}", refused.len());
    assert_eq!(refused[0].header("retry-after"), "1");
    assert!(answers[0].header("ratelimit").contains(r#""principal";r=4;t=1"#));
    for _ in 0..50 {
        node.get("/health/live").expect(200);
        node.with_token(None).get("/metrics").expect(200);
    }
    // Bad proofs from one address do not slow another one down.
    let forged = node.with_token(Some("nonsense"));
    let from =
        |from: &str| forged.send("GET", "/v1/agents", &[("x-forwarded-for", from)], None).status;
    let statuses: Vec<_> = (0..10).map(|_| from("192.0.2.1")).collect();
    assert_eq!((&statuses[..3], statuses[9]), (&[401; 3][..], 429), "{statuses:?}");
    assert_eq!(from("192.0.2.2"), 401);
    let text = node.get("/metrics").expect(200).text;
    for sample in [
        r#"no_suspicious_activity_total{kind="failure_burst"} 1"#,
        r#"no_rate_limited_total{limit="principal"} 2"#,
        r#"no_rate_limited_total{limit="failures"} "#,
        r#"no_security_violations_total{kind="forged_token"} 0"#,
    ] {
        assert!(text.contains(sample), "{sample} is not in:\n{text}");
    }
    node.stop();
}

#[test]
fn calls_that_the_guard_refuses_are_kept() {
    let url = "http://169.254.169.254/latest/meta-data?key=s3cret";
    let home = Home::new(json!({
        "agents": {"call": {"kind": "http", "url": url, "max_attempts": 1}}
    }));
    let node = home.start();
    let id = node.submit(&json!({"agent": "call", "input": "payload"}));
    assert_eq!(node.ended(&id)["error"]["code"], "outbound_refused");
    node.stop();
    let kept = &of_verb(&home, "outbound.denied")[0];
    assert_eq!((&kept["on"], &kept["decision"]), (&json!(id), &json!("denied")));
    assert!(kept["reason"].as_str().is_some_and(|why| why.contains("169.254.169.254")), "{kept}");
    assert!(!text(&home).contains("s3cret") && !text(&home).contains("payload"));
}

#[test]
fn what_one_agent_may_reach_another_may_not() {
    let server = Server::agreeing();
    let agent = json!({"kind": "http", "url": server.url("/"), "max_attempts": 1});
    let home = Home::new(json!({
        "security": {"outbound": {"agents": {"ledger": [server.address()]}}},
        "agents": {"ledger": agent, "other": agent}
    }));
    let node = home.start();
    let ended = |name: &str| node.ended(&node.submit(&json!({"agent": name, "input": 1})));
    assert_eq!(ended("ledger")["output"], json!({"ok": true}));
    assert_eq!(ended("other")["error"]["code"], "outbound_refused");
    // It is the agent's name that is allowed, whatever its definition becomes.
    let other = json!({"kind": "http", "url": server.url("/again"), "max_attempts": 1});
    node.put("/v1/agents/later", &other).expect(200);
    assert_eq!(ended("later")["error"]["code"], "outbound_refused");
    assert_eq!(server.count(), 1);
    node.stop();
    assert_eq!(of_verb(&home, "outbound.denied").len(), 2);

    home.configure(json!({"security": {"outbound": {"agents": {"ledger": ["http://10.0.0.1/"]}}}}));
    let (code, said) = home.refused();
    assert_eq!(code, 3, "{said}");
    let place = "test.json:1: security.outbound.agents.ledger.0: give the host alone";
    assert!(said.contains(place), "{said}");
}

#[test]
fn a_log_that_is_off_keeps_nothing_and_one_that_is_not_ours_is_refused() {
    let home = Home::new(json!({"security": {"audit": {"enabled": false}}}));
    let node = home.start();
    node.put("/v1/agents/mine", &json!({"kind": "echo"})).expect(200);
    node.stop();
    assert!(!home.data().join("audit").exists());
    home.configure(json!({}));
    home.start().stop();
    let path = files(&home).pop().expect("a file");
    std::fs::write(&path, "not a log\n").expect("written");
    let (code, said) = home.refused();
    assert!(code == 4 && said.contains("no audit verify"), "{code}: {said}");
}

#[test]
fn what_was_answered_before_a_kill_stands_in_the_log() {
    let home = Home::new(json!({
        "agents": {"later": {"kind": "sleep"}},
        "security": {"audit": {"maxBytes": 65_536, "files": 512}}
    }));
    let node = home.start();
    let clients: Vec<_> = (0..4).map(|_| node.client().clone()).collect();
    let callers: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(number, client)| {
            std::thread::spawn(move || {
                let order = ["pause", "resume"][number % 2];
                let path = format!("/v1/agents/later/{order}");
                let answered = |()| {
                    let reply = client.try_send("POST", &path, &[], Some(b""));
                    reply.is_ok_and(|reply| reply.status == 200)
                };
                std::iter::repeat(()).map(answered).take_while(|is_answered| *is_answered).count()
            })
        })
        .collect();
    let log = home.data().join("audit");
    // Killed in the middle of it, once there is a second file.
    let until = Instant::now() + e2e::PATIENCE;
    while std::fs::read_dir(&log).expect("a folder").count() < 3 {
        assert!(Instant::now() < until, "no second file");
    }
    node.kill9();
    let answered: usize = callers.into_iter().map(|caller| caller.join().expect("ended")).sum();
    let node = home.start();
    let kept = of_verb(&home, "agent.pause").len() + of_verb(&home, "agent.resume").len();
    assert!(100 < answered && answered <= kept && kept <= answered + 4, "{answered}, {kept}");
    node.stop();
    let (code, said) = verified(&home);
    assert_eq!((code, &said["files"]), (0, &json!(files(&home).len())), "{said}");
}
