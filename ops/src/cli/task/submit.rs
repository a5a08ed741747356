//! `no task submit`.

use super::super::Console;
use super::super::options::ClientOptions;
use super::super::output::cell;
use super::patience::Patience;
use super::{input, show};
use crate::client::{Call, Client, escaped};
use crate::error::Result;
use clap::Args;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How long one call waits for the end before it is made again.
const WAIT: Duration = Duration::from_secs(30);

/// Options of `no task submit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no task submit echo '{\"hello\":\"world\"}' --wait
  no task submit assistant \"What is the weather in Oslo?\" --wait
  no task submit render @scene.json --key scene-17 --priority 8 --tag nightly
  jq -c . big.json | no task submit import -")]
pub(crate) struct Submit {
    /// The agent that runs it
    agent: String,
    /// The input: JSON, plain words, @FILE, or - for standard input [default: null]
    input: Option<String>,
    /// Wait until it ended and print its output; exit code 1 unless it succeeded
    #[arg(long)]
    wait: bool,
    /// Idempotency key: the same key makes the same task
    #[arg(long)]
    key: Option<String>,
    /// 0 to 9, 9 first
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// A tag, to find it by; up to 16
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Tasks of different keys take turns
    #[arg(long, value_name = "KEY")]
    fairness_key: Option<String>,
    /// Attempts before it is a dead letter
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// When to run it, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    run_at: Option<String>,
    #[command(flatten)]
    client: ClientOptions,
}

impl Submit {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let body = self.body()?;
        let client = self.client.client()?;
        let key: Vec<_> = self.key.iter().map(|key| ("Idempotency-Key", key.as_str())).collect();
        let spinner = console.spinner("submitting");
        // Acknowledged first, waited for after: then a restart of nO in between does no harm.
        let call = Call { body: Some(&body), headers: &key, ..Call::post("/v1/tasks") };
        let mut task = client.call(&call)?;
        if self.wait {
            spinner.say(&format!("waiting for {}", cell(&task["id"])));
            task = until_ended(&client, task, console)?;
        }
        drop(spinner);
        if self.client.json {
            console.print_json(&task)?;
            let is_bad = self.wait && task["state"] != "succeeded";
            return if is_bad { Err(show::ended(&task)) } else { Ok(()) };
        }
        if self.wait {
            return show::answer(console, &task);
        }
        console.print(&format!("{} {}", cell(&task["id"]), cell(&task["state"])))
    }

    fn body(&self) -> Result<Value> {
        let mut body = Map::new();
        body.insert("agent".into(), json!(self.agent));
        if let Some(argument) = &self.input {
            body.insert("input".into(), input::read_input(argument)?);
        }
        if !self.tags.is_empty() {
            body.insert("tags".into(), json!(self.tags));
        }
        let options = [
            ("priority", json!(self.priority)),
            ("fairness_key", json!(self.fairness_key)),
            ("max_attempts", json!(self.max_attempts)),
            ("run_at", json!(self.run_at)),
        ];
        for (name, value) in options {
            if !value.is_null() {
                body.insert(name.into(), value);
            }
        }
        Ok(Value::Object(body))
    }
}

/// Asks again and again, each time for as long as one call may wait, until the task ended; goes on
/// through restarts of nO.
fn until_ended(client: &Client, mut task: Value, console: &mut Console) -> Result<Value> {
    let id = task["id"].as_str().unwrap_or_default().to_owned();
    let path = format!("/v1/tasks/{}?wait_ms={}", escaped(&id), WAIT.as_millis());
    let mut patience = Patience::default();
    while !show::is_ended(&task) {
        match client.call(&Call { wait: WAIT, ..Call::get(&path) }) {
            Ok(now) => {
                patience = Patience::default();
                task = now;
            }
            Err(error) => patience.pause_after(error, console)?,
        }
    }
    Ok(task)
}
