//! `no task watch`: a task's events as they come, through restarts of nO, to its answer.
//!
//! Each event's id is a cursor in the journal. After a cut the stream is opened again behind the
//! last one seen, so nothing is shown twice and nothing is missed.

use super::super::Console;
use super::super::options::ClientOptions;
use super::super::output::{cell, plain, short};
use super::show;
use crate::client::{Call, Client, escaped};
use crate::error::{Error, Result};
use crate::sse::Event;
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;

/// Times that nO may be away in a row before we give up.
const AWAY_MAX: u32 = 60;
/// Wait before the stream is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// Options of `no task watch`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no task watch 0198c0de-0000-7000-8000-000000000007
  no task watch 0198c0de-0000-7000-8000-000000000007 --json | jq .data

Goes on after a restart of nO where it was. Exit code 1 unless the task succeeded.")]
pub(crate) struct Watch {
    /// The task's id
    id: String,
    #[command(flatten)]
    client: ClientOptions,
}

impl Watch {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let client = self.client.client()?;
        let path = format!("/v1/tasks/{}", escaped(&self.id));
        let task = self.follow(&client, &path, console)?;
        if self.client.json {
            let is_good = task["state"] == "succeeded";
            return if is_good { Ok(()) } else { Err(show::ended(&task)) };
        }
        show::answer(console, &task)
    }

    /// Shows events until the task has ended, and gives the task.
    fn follow(&self, client: &Client, path: &str, console: &mut Console) -> Result<Value> {
        let events = format!("{path}/events");
        let (mut last_id, mut away) = (None::<String>, 0);
        loop {
            let spinner = console.spinner("waiting for events");
            let from = last_id.clone();
            let seen = client.events(&events, from.as_deref(), |event| {
                if let Some(id) = &event.id {
                    last_id = Some(id.clone());
                }
                away = 0;
                spinner.pause(|| self.show(event, console))?;
                Ok(!says_ended(event))
            });
            drop(spinner);
            match seen.and_then(|()| client.call(&Call::get(path))) {
                Ok(task) if show::is_ended(&task) => return Ok(task),
                // The stream was cut although the task goes on.
                Ok(_) => {}
                Err(error) if is_passing(&error) && away < AWAY_MAX => {
                    if away == 0 {
                        console.complain("nO does not answer; trying again");
                    }
                    away += 1;
                }
                Err(error) => return Err(error),
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn show(&self, event: &Event, console: &mut Console) -> Result<()> {
        let data = serde_json::from_str(&event.data).unwrap_or(Value::from(event.data.as_str()));
        if self.client.json {
            let line = json!({ "id": event.id, "event": event.name, "data": data });
            return console.print(&line.to_string());
        }
        match line_of(&event.name, &data) {
            Some(line) => console.print(&line),
            None => Ok(()),
        }
    }
}

/// Whether nO may be back soon: it is starting, draining, or not there.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        Error::Refused { status, .. } => matches!(status, 429 | 502 | 503 | 504),
        _ => false,
    }
}

fn says_ended(event: &Event) -> bool {
    matches!(event.name.as_str(), "succeeded" | "dead_lettered" | "cancelled")
}

/// An event in one line; `None` for the pieces of a model's text, and for what only keeps the
/// connection alive.
pub(crate) fn line_of(name: &str, data: &Value) -> Option<String> {
    if data.is_null() || name == "delta" {
        return None;
    }
    if data["step"].is_number() && data["kind"].is_string() {
        let mut step = data.clone();
        step["state"] = Value::from(if name == "step_started" { "started" } else { "done" });
        return Some(show::step_line(&step));
    }
    let mut said = String::new();
    for field in ["step", "attempt", "run_at", "output"] {
        if !data[field].is_null() {
            said += &format!("  {field} {}", short(&cell(&data[field]), 72));
        }
    }
    if data["waiting"].is_object() {
        said += &format!("  for {}", short(&cell(&data["waiting"]["reason"]), 40));
    }
    if data["error"].is_object() {
        said += &format!("  !! {}", short(&show::problem(&data["error"]), 72));
    }
    Some(format!("      {}{said}", plain(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn events_are_shown_in_one_line() {
        let step = json!({"step": 3, "kind": "tool", "name": "weather",
            "input": {"city": "Oslo"}, "output": {"sky": "blue"}});
        expect![[
            r#"   3  tool    weather              done  <- {"city":"Oslo"}  -> {"sky":"blue"}"#
        ]]
        .assert_eq(&line_of("step_ended", &step).expect("shown"));
        expect!["      started  attempt 2"]
            .assert_eq(&line_of("started", &json!({"attempt": 2})).expect("shown"));
        let failed = json!({"error": {"code": "timeout", "message": "no end"}});
        expect!["      dead_lettered  !! timeout: no end"]
            .assert_eq(&line_of("dead_lettered", &failed).expect("shown"));
        assert_eq!(line_of("", &Value::Null), None);
        assert_eq!(line_of("delta", &json!({"step": 1, "text": "x"})), None);
    }
}
