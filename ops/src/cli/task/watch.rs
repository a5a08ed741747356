//! `no task watch`: a task's events as they come, through restarts of nO, to its answer.
//!
//! Each event's id is a cursor in the journal. After a cut the stream is opened again behind the
//! last one seen, so nothing is shown twice and nothing is missed.

use super::super::Console;
use super::super::options::ClientOptions;
use super::super::output::{cell, plain, short};
use super::patience::{PAUSE, Patience};
use super::show;
use crate::client::{Call, Client, escaped};
use crate::error::Result;
use crate::sse::Event;
use clap::Args;
use serde_json::{Value, json};

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
        let mut patience = Patience::default();
        let (mut last_id, mut text) = (None::<String>, String::new());
        loop {
            let spinner = console.spinner("waiting for events");
            let from = last_id.clone();
            let seen = client.events(&events, from.as_deref(), |event| {
                if let Some(id) = &event.id {
                    last_id = Some(id.clone());
                }
                patience = Patience::default();
                if event.name == "delta" && !self.client.json {
                    spinner.say(&tail(&mut text, event));
                } else {
                    text.clear();
                    spinner.pause(|| self.show(event, console))?;
                }
                Ok(!says_ended(event))
            });
            drop(spinner);
            match seen.and_then(|()| client.call(&Call::get(path))) {
                Ok(task) if show::is_ended(&task) => return Ok(task),
                // The stream was cut although the task goes on.
                Ok(_) => std::thread::sleep(PAUSE),
                Err(error) => patience.pause_after(error, console)?,
            }
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

fn says_ended(event: &Event) -> bool {
    matches!(event.name.as_str(), "succeeded" | "dead_lettered" | "cancelled")
}

/// The end of what a running model has said so far, for the spinner.
fn tail(text: &mut String, delta: &Event) -> String {
    let data: Value = serde_json::from_str(&delta.data).unwrap_or(Value::Null);
    text.push_str(data["text"].as_str().unwrap_or_default());
    let skipped = text.chars().count().saturating_sub(60);
    let end: String = text.chars().skip(skipped).collect();
    short(&end, 60)
}

/// An event in one line; `None` for those that say nothing to a reader.
pub(crate) fn line_of(name: &str, data: &Value) -> Option<String> {
    let said = match name {
        "step_started" => return Some(step_line(data, "started", Some(("<-", &data["input"])))),
        "step_ended" => return Some(step_line(data, "done", Some(("->", &data["output"])))),
        "step_failed" => format!("{} {}", cell(&data["step"]), show::problem(&data["error"])),
        "step_unknown" | "step_reset" => cell(&data["step"]),
        "started" => format!("attempt {}", cell(&data["attempt"])),
        "waited" => format!("for {}", cell(&data["waiting"]["reason"])),
        "retry_scheduled" => {
            format!("at {}, after {}", cell(&data["run_at"]), show::problem(&data["error"]))
        }
        "dead_lettered" => show::problem(&data["error"]),
        "" | "delta" | "queued" => return None,
        _ => String::new(),
    };
    Some(format!("      {} {said}", plain(name)).trim_end().to_owned())
}

fn step_line(data: &Value, state: &str, said: Option<(&str, &Value)>) -> String {
    let name = data["name"].as_str().unwrap_or_default();
    let (number, kind) = (cell(&data["step"]), cell(&data["kind"]));
    let mut line = format!("{number:>4}  {kind:<7} {:<20} {state:<8}", short(name, 20));
    if let Some((arrow, value)) = said.filter(|(_, value)| !value.is_null()) {
        line += &format!(" {arrow} {}", show::gist(value, 100));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn events_are_shown_in_one_line() {
        let lines = [
            ("submitted", json!({"agent": "demo"})),
            ("queued", json!({})),
            ("started", json!({"attempt": 1})),
            (
                "step_started",
                json!({"step": 3, "kind": "tool", "name": "weather", "input": {"city": "Oslo"}}),
            ),
            (
                "step_ended",
                json!({"step": 3, "kind": "tool", "name": "weather", "output": "blue\nsky"}),
            ),
            ("step_failed", json!({"step": 4, "error": {"code": "timeout", "message": "late"}})),
            ("waited", json!({"waiting": {"reason": "outcome_unknown"}})),
            ("succeeded", json!({"output": 1})),
        ];
        let shown = lines.iter().filter_map(|(name, data)| line_of(name, data));
        let shown: String = shown.map(|line| format!("|{line}\n")).collect();
        expect![[r#"
            |      submitted
            |      started attempt 1
            |   3  tool    weather              started  <- {"city":"Oslo"}
            |   3  tool    weather              done     -> blue sky
            |      step_failed 4 timeout: late
            |      waited for outcome_unknown
            |      succeeded
        "#]]
        .assert_eq(&shown);
    }

    #[test]
    fn the_spinner_shows_the_end_of_what_is_said() {
        let mut text = "a".repeat(70);
        let data = json!({"step": 1, "text": "\nend"}).to_string();
        let delta = Event { id: None, name: "delta".to_owned(), data };
        assert_eq!(tail(&mut text, &delta), format!("{} end", "a".repeat(56)));
    }
}
