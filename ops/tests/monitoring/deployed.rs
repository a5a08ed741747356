//! The rules and dashboards of deploy/ as data.

#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::Value;
use std::path::{Path, PathBuf};

/// A file or folder of deploy/.
pub(crate) fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// The text of a file of deploy/.
#[track_caller]
pub(crate) fn text(name: &str) -> String {
    let path = place(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A YAML file of deploy/.
#[track_caller]
pub(crate) fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Names of the files in a folder of deploy/, with the folder, in order.
pub(crate) fn files(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(place(folder)).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        format!("{folder}/{}", entry.expect("readable").file_name().to_string_lossy())
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// All rules of alerts.yml and recording.yml.
pub(crate) fn rules() -> Vec<Value> {
    let files = ["prometheus/recording.yml", "prometheus/alerts.yml"].map(yaml);
    let groups = files.iter().flat_map(|file| file["groups"].as_array().expect("groups"));
    groups.flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

/// The alerts among them, by name.
pub(crate) fn alerts() -> Vec<(String, Value)> {
    let named = |rule: Value| Some((rule["alert"].as_str()?.to_owned(), rule));
    rules().into_iter().filter_map(named).collect()
}

/// All dashboards, by file.
pub(crate) fn dashboards() -> Vec<(String, Value)> {
    let read = |name: String| {
        let board = serde_json::from_str(&text(&name)).expect("JSON");
        (name, board)
    };
    files("grafana/dashboards").into_iter().map(read).collect()
}

/// A dashboard's panels that show something.
pub(crate) fn panels(board: &Value) -> Vec<&Value> {
    let panels = board["panels"].as_array().expect("panels").iter();
    panels.filter(|panel| panel["type"] != "row").collect()
}

/// What rules and dashboards ask Prometheus, each with where it stands; of a comparison or a choice
/// its parts, as the whole is empty where nothing is wrong.
pub(crate) fn expressions() -> Vec<(String, String)> {
    let mut asked = Vec::new();
    let mut add = |from: &str, expr: &Value| {
        let expr = expr.as_str().expect("an expression");
        let expr = expr.replace("$instance", ".*").replace("$__rate_interval", "10s");
        let parts = parts(&expr).into_iter().map(|part| (from.to_owned(), part.to_owned()));
        asked.extend(parts);
    };
    for rule in rules() {
        let name = if rule["alert"].is_null() { &rule["record"] } else { &rule["alert"] };
        add(name.as_str().expect("a name"), &rule["expr"]);
    }
    for (name, board) in dashboards() {
        for annotation in board["annotations"]["list"].as_array().expect("a list") {
            add(&name, &annotation["expr"]);
        }
        for panel in panels(&board) {
            for target in panel["targets"].as_array().expect("targets") {
                add(&format!("{name}: {}", panel["title"]), &target["expr"]);
            }
        }
    }
    asked
}

/// The operands of comparisons and set operators outside all brackets; numbers are left out.
pub(crate) fn parts(expr: &str) -> Vec<&str> {
    const OPERATORS: [&str; 7] = [" and ", " or ", " unless ", " == ", " != ", " > ", " < "];
    let (mut parts, mut depth, mut start, mut at) = (Vec::new(), 0, 0, 0);
    let mut in_text = false;
    while at < expr.len() {
        match expr.as_bytes()[at] {
            b'"' => in_text = !in_text,
            b'(' | b'[' | b'{' if !in_text => depth += 1,
            b')' | b']' | b'}' if !in_text => depth -= 1,
            _ => {}
        }
        let operator = OPERATORS.iter().find(|operator| expr[at..].starts_with(**operator));
        if let Some(operator) = operator.filter(|_| depth == 0 && !in_text) {
            parts.push(&expr[start..at]);
            at += operator.len() - 1;
            start = at;
        }
        at += 1;
    }
    parts.push(&expr[start..]);
    let parts = parts.into_iter().map(str::trim);
    parts.filter(|part| part.contains(|c: char| c.is_ascii_alphabetic())).collect()
}
