//! The rules and dashboards of deploy/ with a real Prometheus: promtool's tests of each alert, and a
//! server that scrapes nodes under load, finds data for everything that is asked, and fires.
//!
//! `make test` unpacks Debian's Prometheus under `target/test-tools`. Where it is missing the tests
//! say so and show nothing; in CI that is a failure.

#[path = "monitoring/deployed.rs"]
mod deployed;
mod e2e;
#[path = "monitoring/prometheus.rs"]
mod prometheus;
#[path = "monitoring/tools.rs"]
mod tools;

use deployed::{expressions, files, parts, place, text};
use e2e::{Act, Home, Node, Server};
use prometheus::{Prometheus, program, promtool};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest that Prometheus may take to find everything; it needs a few seconds.
const BOUND: Duration = Duration::from_secs(25);
/// What has no data where all is well, and why.
const EMPTY: &[(&str, &str)] = &[(
    "absent(up{job=\"no-master-agent-loop\"})",
    "Prometheus has a target; promtool tests what happens when it has none",
)];

#[test]
fn rules_are_sound_and_each_alert_passes_its_tests() {
    let Some(tool) = program("promtool") else { return };
    let rules = ["recording.yml", "alerts.yml"].map(|name| place("prometheus").join(name));
    let rules = rules.map(|path| path.display().to_string());
    promtool(&tool, &["check", "rules", &rules[0], &rules[1]], None);
    let config = place("prometheus/prometheus.yml").display().to_string();
    promtool(&tool, &["check", "config", &config], None);
    for name in files("prometheus/tests") {
        promtool(&tool, &["test", "rules", &place(&name).display().to_string()], None);
    }
}

#[test]
fn a_scrape_is_what_prometheus_wants_it_to_be() {
    let Some(tool) = program("promtool") else { return };
    let home = Home::new(json!({}));
    let node = home.start();
    node.succeeded(&node.submit(&json!({"agent": "echo", "input": 1})));
    let scrape = home.path().join("metrics.txt");
    let text = node.get("/metrics").expect(200).text;
    fs::write(&scrape, &text).expect("written");
    promtool(&tool, &["check", "metrics"], Some(&scrape));
    // The task's end was waited for: that is counted, but is no latency of ours.
    for sample in [
        "no_http_requests_total{method=\"GET\",route=\"/v1/tasks/{id}\",status=\"200\"} 1\n",
        "no_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/tasks/{id}\"} 0\n",
        "no_http_request_duration_seconds_count{method=\"POST\",route=\"/v1/tasks\"} 1\n",
    ] {
        assert!(text.contains(sample), "{sample}{text}");
    }
    node.stop();
}

#[test]
fn comparisons_are_taken_apart() {
    assert_eq!(
        parts("a{x=\"a > b\"} > 0.5 and sum(b > 1) < 14 * 86400"),
        ["a{x=\"a > b\"}", "sum(b > 1)"]
    );
    assert_eq!(parts("(a or 0 * b) / c"), ["(a or 0 * b) / c"]);
}

#[test]
fn every_expression_finds_data_and_alerts_fire() {
    let Some(server) = program("prometheus") else { return };
    let tool = Server::start(|seen, _| match seen.path.as_str() {
        "/broken" => Act::Answer(500, json!({"error": "broken"})),
        _ => Act::Answer(200, json!({"weather": "rain"})),
    });
    let home = home(&tool);
    let node = home.start();
    let over_tls = home_with_tls();
    let second = over_tls.start();
    configure(home.path(), &[&node, &second]);
    let prometheus = Prometheus::start(&server, home.path());

    let until = Instant::now() + BOUND;
    let mut missing = expressions();
    for (empty, why) in EMPTY {
        assert!(missing.iter().any(|(_, expr)| expr == empty), "nobody asks {empty}: {why}");
    }
    missing.retain(|(_, expr)| EMPTY.iter().all(|(empty, _)| empty != expr));
    let waits = node.submit(&json!({"agent": "render", "input": 1}));
    while !missing.is_empty() {
        work(&node, &waits);
        missing.retain(|(_, expr)| !prometheus.has_data(expr));
        assert!(Instant::now() < until, "no data: {missing:#?}");
    }
    for is_so in [
        "no_task_queue_age_seconds > 0",
        "no_tls_certificate_expiry_seconds > time()",
        "sum(no_node_ready) == 2",
        "sum(no_model_call_duration_seconds_count) > 0",
    ] {
        assert!(prometheus.has_data(is_so), "{is_so}");
    }
    let fires = |name: &str, label: &str, value: &str| loop {
        let firing = prometheus.firing();
        let is_it = |alert: &&Value| {
            alert["labels"]["alertname"] == name && alert["labels"][label] == value
        };
        if let Some(alert) = firing.iter().find(is_it) {
            return alert.clone();
        }
        work(&node, &waits);
        assert!(Instant::now() < until, "{name} does not fire: {firing:#?}");
    };
    let dead = fires("DeadLettersGrowing", "agent", "broken");
    assert_eq!(dead["annotations"]["runbook_url"], "deploy/RUNBOOK.md#deadlettersgrowing");
    fires("SecurityViolations", "kind", "forged_token");
    let address = second.address().to_owned();
    second.stop();
    fires("ServiceDown", "instance", &address);
    node.stop();
}

/// A home whose agents succeed, fail, wait for a worker, and ask a model that uses a tool.
fn home(server: &Server) -> Home {
    let search = json!({
        "kind": "http", "name": "search", "url": server.url("/search"), "effect": "pure"
    });
    let script = json!([
        {"tool_calls": [{"name": "search", "arguments": {"q": "tides"}}]},
        {"text": "It rains."}
    ]);
    Home::new(json!({
        "security": {"outbound": {"allow": [server.address()]}},
        "models": {"script": {"provider": "scripted", "script": script}},
        "agents": {
            "loop": {"kind": "model", "model": "script", "tools": [search]},
            "broken": {"kind": "http", "url": server.url("/broken"), "max_attempts": 1},
            "render": {"kind": "worker"}
        }
    }))
}

fn home_with_tls() -> Home {
    let home =
        Home::new(json!({"service": {"tls": {"certFile": "cert.pem", "keyFile": "key.pem"}}}));
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("signed");
    fs::write(home.path().join("cert.pem"), cert.pem()).expect("written");
    let path = home.path().join("key.pem");
    fs::write(&path, key.serialize_pem()).expect("written");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("ours");
    home
}

/// What is deployed, but faster: scraped twice a second, and alerts do not wait.
fn configure(dir: &Path, nodes: &[&Node; 2]) {
    let target = |node: &Node, scheme: &str| {
        let address = node.address();
        format!("{{targets: ['{address}'], labels: {{__scheme__: {scheme}}}}}")
    };
    let targets = [target(nodes[0], "http"), target(nodes[1], "https")].join(", ");
    let deployed = text("prometheus/prometheus.yml");
    let (head, _) = deployed.split_once("    static_configs:\n").expect("targets come last");
    let head = head.replace(": 10s", ": 500ms").replace(": 5s", ": 500ms");
    let tail = format!(
        "    static_configs: [{targets}]\n    tls_config: {{insecure_skip_verify: true}}\n"
    );
    fs::write(dir.join("prometheus.yml"), head + &tail).expect("written");
    for name in ["recording.yml", "alerts.yml"] {
        let rules = text(&format!("prometheus/{name}"));
        let waits = |line: &&str| line.trim_start().starts_with("for: ");
        let rules: Vec<&str> = rules.lines().filter(|line| !waits(line)).collect();
        fs::write(dir.join(name), rules.join("\n")).expect("written");
    }
}

/// A round of all that is counted: what succeeds, what fails, and what is kept out. Takes as long as
/// the task that waits is waited for.
fn work(node: &Node, waits: &str) {
    for _ in 0..5 {
        node.submit(&json!({"agent": "echo", "input": "x"}));
    }
    let ended = node.submit(&json!({"agent": "loop", "input": "How is the weather?"}));
    node.succeeded(&ended);
    node.order(&format!("/v1/tasks/{ended}/cancel")).expect(409);
    node.ended(&node.submit(&json!({"agent": "broken", "input": 1})));
    let forged = format!("{}AAAA", &node.token()[..node.token().len() - 4]);
    // 429 once there were many.
    let refused = node.with_token(Some(&forged)).get("/v1/tasks").status;
    assert!(matches!(refused, 401 | 429), "{refused}");
    node.get(&format!("/v1/tasks/{waits}?wait_ms=250")).expect(200);
}
