//! `no health`: for people, probes and scripts.

use super::Console;
use super::options::ClientOptions;
use super::output::{bytes, cell, plain};
use crate::client::{Call, refusal};
use crate::error::{Error, Result};
use clap::Args;
use serde_json::{Value, json};

/// Options of `no health`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no health
  no health --ready && echo takes work
  no health --detailed --json

Exit code 0 when healthy, 1 when not or when nothing answers.")]
pub(crate) struct Health {
    /// Only whether the process answers
    #[arg(long, conflicts_with_all = ["ready", "detailed"])]
    live: bool,
    /// Whether it takes work now
    #[arg(long, conflicts_with = "detailed")]
    ready: bool,
    /// Every check, with latency and last error
    #[arg(long)]
    detailed: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Health {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let path = match (self.live, self.ready, self.detailed) {
            (true, _, _) => "/health/live",
            (_, true, _) => "/health/ready",
            (_, _, true) => "/health/detailed",
            _ => "/health",
        };
        let (status, text) = self.client.client()?.text(&Call::get(path))?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        if !matches!(status, 200 | 503) {
            return Err(refusal(status, &text));
        }
        if self.client.json {
            let shown = if body.is_null() { json!({ "status": text.trim() }) } else { body };
            console.print_json(&shown)?;
        } else {
            show(console, status, &body, &text)?;
        }
        if status == 200 { Ok(()) } else { Err(Error::Unhealthy) }
    }
}

fn show(console: &mut Console, status: u16, body: &Value, text: &str) -> Result<()> {
    let said = body["status"].as_str().unwrap_or(text.trim());
    console.print(&format!("{} ({status})", plain(said)))?;
    let Some(checks) = body["checks"].as_object() else { return Ok(()) };
    let mut rows = vec![vec!["CHECK".to_owned(), "STATUS".to_owned(), "DETAIL".to_owned()]];
    for (name, check) in checks {
        let status = if check.is_string() { cell(check) } else { cell(&check["status"]) };
        rows.push(vec![plain(name), status, plain(&detail(check))]);
    }
    console.print_table(&rows)?;
    let Some(resources) = body["resources"].as_object() else { return Ok(()) };
    let said = resources.iter().map(|(name, value)| resource(name, value));
    console.print(&said.collect::<Vec<_>>().join(", "))
}

/// A resource for a person: ratios in percent, bytes in their largest unit.
fn resource(name: &str, value: &Value) -> String {
    if let (Some(what), Some(ratio)) = (name.strip_suffix("_ratio"), value.as_f64()) {
        return format!("{} {:.1} %", spaced(what), ratio * 100.0);
    }
    if let (Some(what), Some(length)) = (name.strip_suffix("_bytes"), value.as_u64()) {
        return format!("{} {}", spaced(what), bytes(length));
    }
    format!("{} {}", spaced(name), cell(value))
}

fn spaced(name: &str) -> String {
    plain(name).replace('_', " ")
}

/// What is wrong with a check, or what last was.
fn detail(check: &Value) -> String {
    if let Some(error) = check["error"].as_str() {
        return error.to_owned();
    }
    let last = &check["last_error"];
    match (last["error"].as_str(), last["at"].as_str()) {
        (Some(error), Some(at)) => format!("at {at}: {error}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_said_for_a_person() {
        let cases = [
            ("cpu_ratio", json!(0.00167), "cpu 0.2 %"),
            ("disk_free_bytes", json!(3_145_728), "disk free 3.0 MiB"),
            ("open_files", json!(35), "open files 35"),
            ("disk_ratio", Value::Null, "disk ratio -"),
        ];
        for (name, value, said) in cases {
            assert_eq!(resource(name, &value), said);
        }
    }

    #[test]
    fn a_check_says_what_is_wrong_or_was_last() {
        let last = json!({"error": "no room", "at": "2026-01-01T00:00:00Z"});
        let check = |error: Value| json!({"status": "x", "error": error, "last_error": last});
        assert_eq!(detail(&check(json!("halted"))), "halted");
        assert_eq!(detail(&check(Value::Null)), "at 2026-01-01T00:00:00Z: no room");
        assert_eq!(detail(&json!({"status": "ok", "last_error": null})), "");
    }
}
