//! deploy/ held to itself, to the runbook and to what nO really has: names of metrics, variables,
//! commands, and times that must fit into each other.

#[path = "monitoring/deployed.rs"]
mod deployed;
mod e2e;

use deployed::{alerts, dashboards, expressions, files, panels, place, text, yaml};
use e2e::no;
use no_ops::metrics::{FAMILIES, Type};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn each_alert_says_how_bad_it_is_and_where_help_stands() {
    let anchors: BTreeSet<String> = headings().into_iter().collect();
    let mut names = BTreeSet::new();
    for (name, alert) in alerts() {
        assert!(names.insert(name.to_lowercase()), "{name} twice");
        let severity = alert["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning")), "{name}: {severity:?}");
        for annotation in ["summary", "description"] {
            let said = alert["annotations"][annotation].as_str().unwrap_or_default();
            assert!(!said.is_empty(), "{name} has no {annotation}");
        }
        let url = alert["annotations"]["runbook_url"].as_str().unwrap_or_default();
        let anchor = url.strip_prefix("deploy/RUNBOOK.md#").unwrap_or_default();
        assert!(anchors.contains(anchor), "{name}: {url} leads nowhere");
    }
    for named in [
        "HighErrorRate",
        "ServiceDown",
        "AgentPoolUnhealthy",
        "HighResponseTime",
        "HighMemoryUsage",
        "HighAuthFailures",
        "RBACViolations",
    ] {
        assert!(names.contains(&named.to_lowercase()), "{named} is missing");
    }
}

/// The anchors of the runbook's headings.
fn headings() -> Vec<String> {
    let text = text("RUNBOOK.md");
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    headings.map(anchor).collect()
}

#[test]
fn each_alert_is_tested_to_fire_and_to_keep_quiet() {
    let mut tested: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for name in files("prometheus/tests") {
        for test in yaml(&name)["tests"].as_array().expect("tests") {
            for rule in test["alert_rule_test"].as_array().expect("alert tests") {
                let alert = rule["alertname"].as_str().expect("a name").to_owned();
                let is_quiet = rule["exp_alerts"].as_array().expect("a list").is_empty();
                tested.entry(alert).or_default()[usize::from(is_quiet)] += 1;
            }
        }
    }
    for (name, _) in alerts() {
        let [fires, quiet] = tested.remove(&name).unwrap_or_default();
        assert!(0 < fires && 0 < quiet, "{name}: {fires} tests fire it, {quiet} keep it quiet");
    }
    assert!(tested.is_empty(), "tests of no alert: {tested:?}");
}

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c: char| !is_part(c));
    let is_ours = |word: &&str| {
        let is_process = word.starts_with("process_") && word.contains("_seconds");
        (word.starts_with("no_") || word.starts_with("no:") || is_process) && 3 < word.len()
    };
    words.filter(is_ours).collect()
}

/// Whether nO exports a sample of this name, or a rule records it.
fn is_known(name: &str, recorded: &BTreeSet<String>) -> bool {
    let of_family = |family: &no_ops::metrics::Family| match name.strip_prefix(family.name) {
        Some("") => !matches!(family.kind, Type::Histogram | Type::Summary),
        Some("_bucket") => family.kind == Type::Histogram,
        Some("_sum" | "_count") => matches!(family.kind, Type::Histogram | Type::Summary),
        _ => false,
    };
    recorded.contains(name) || FAMILIES.iter().any(of_family)
}

#[test]
fn rules_and_dashboards_ask_for_what_there_is() {
    let rules = deployed::rules();
    let recorded = rules.iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned));
    let recorded: BTreeSet<String> = recorded.collect();
    let asked = expressions();
    assert!(100 < asked.len(), "{}", asked.len());
    for (from, expr) in &asked {
        for name in metrics(expr) {
            assert!(is_known(name, &recorded), "{from}: there is no {name}");
        }
    }
    assert!(!is_known("no_tasks", &recorded) && !is_known("no_tasks_total_sum", &recorded));
    assert!(!is_known("no_http_request_duration_seconds", &recorded));
}

#[test]
fn the_runbook_names_metrics_and_commands_that_there_are() {
    let book = text("RUNBOOK.md");
    let families: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    for name in metrics(&book) {
        // The start of a name is what one greps for.
        assert!(families.iter().any(|family| family.starts_with(name)), "there is no {name}");
    }
    let mut commands = 0;
    // In sentences: tests/runbook.rs types the blocks.
    for code in book.split('`') {
        let Some(words) = code.strip_prefix("no ") else { continue };
        let words = words.split(['|', '#', '&']).next().unwrap_or_default();
        let output = no().args(words.split_whitespace()).arg("--help").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "`no {words}`:\n{said}");
        commands += 1;
    }
    assert!(20 < commands, "{commands}");
}

#[test]
fn dashboards_are_whole() {
    let mut uids = BTreeSet::new();
    for (name, board) in dashboards() {
        let uid = board["uid"].as_str().expect("a uid");
        assert!(uids.insert(uid.to_owned()) && uid.len() <= 40, "{name}: {uid}");
        let variables = board["templating"]["list"].as_array().expect("variables");
        let variables: Vec<&Value> = variables.iter().map(|variable| &variable["name"]).collect();
        assert_eq!(variables, ["datasource", "instance"], "{name}");
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in board["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().unwrap_or_default();
            assert!(!title.is_empty() && ids.insert(panel["id"].as_u64()), "{name}: {title}");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|at| panel["gridPos"][at].as_u64());
            let [x, y, w, h] = [x, y, w, h].map(|number| number.expect("a place"));
            assert!(x + w <= 24, "{name}: {title} is too wide");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(cells.insert(cell), "{name}: {title} lies over another");
            }
        }
        for panel in panels(&board) {
            let title = &panel["title"];
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}: {title}");
            let targets = panel["targets"].as_array().expect("targets");
            let refs: BTreeSet<_> = targets.iter().map(|one| one["refId"].as_str()).collect();
            assert!(!targets.is_empty() && refs.len() == targets.len(), "{name}: {title}");
        }
    }
    let groups = ["no-agent-pool", "no-error-analysis", "no-performance", "no-system-overview"];
    assert_eq!(uids.iter().collect::<Vec<_>>(), groups);
    let provider = yaml("grafana/provisioning/dashboards/no.yml");
    assert_eq!(provider["providers"][0]["type"], "file");
    let source = yaml("grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(source["datasources"][0]["uid"], "prometheus", "what dashboards begin with");
    assert!(place("grafana/dashboards").is_dir());
}
