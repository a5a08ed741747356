//! `no agent`: definitions of how tasks are run.

use super::Console;
use super::options::ClientOptions;
use super::output::cell;
use super::task::input::read_json;
use crate::client::{Call, Client, escaped};
use crate::error::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

/// Commands of `no agent`.
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// List all agents with their live counts
    List(List),
    /// Show one agent
    Get(Named),
    /// Define an agent, or change it
    Put(Put),
    /// Remove an agent
    Delete(Named),
    /// Start no more of its tasks; those running go on
    Pause(Named),
    /// Start its tasks again
    Resume(Named),
}

/// Options of `no agent list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    client: ClientOptions,
}

/// One agent's name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The agent
    name: String,
    #[command(flatten)]
    client: ClientOptions,
}

/// Options of `no agent put`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no agent put hook '{\"kind\":\"http\",\"url\":\"https://example.com/hook\"}'
  no agent put assistant @assistant.json
  echo '{\"kind\":\"worker\"}' | no agent put render -")]
pub(crate) struct Put {
    /// The agent
    name: String,
    /// Its definition: JSON, @FILE, or - for standard input
    definition: String,
    #[command(flatten)]
    client: ClientOptions,
}

impl Agent {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        match self {
            Agent::List(list) => list.run(console),
            Agent::Get(named) => named.run("GET", "", console),
            Agent::Put(put) => put.run(console),
            Agent::Delete(named) => named.run("DELETE", "", console),
            Agent::Pause(named) => named.run("POST", "/pause", console),
            Agent::Resume(named) => named.run("POST", "/resume", console),
        }
    }
}

impl Named {
    fn run(self, method: &str, verb: &str, console: &mut Console) -> Result<()> {
        let path = format!("/v1/agents/{}{verb}", escaped(&self.name));
        let answer = self.client.client()?.call(&Call { method, ..Call::get(&path) })?;
        if self.client.json || method == "GET" {
            return console.print_json(&answer);
        }
        let done = match (method, verb) {
            ("DELETE", _) => "deleted",
            (_, "/pause") => "paused",
            _ => "resumed",
        };
        console.print(&format!("agent {} {done}", self.name))
    }
}

impl Put {
    fn run(self, console: &mut Console) -> Result<()> {
        let definition = read_json(&self.definition)?;
        let path = format!("/v1/agents/{}", escaped(&self.name));
        let call = Call { method: "PUT", body: Some(&definition), ..Call::get(&path) };
        let answer = self.client.client()?.call(&call)?;
        if self.client.json {
            return console.print_json(&answer);
        }
        console.print(&format!("agent {} is defined", self.name))
    }
}

impl List {
    fn run(self, console: &mut Console) -> Result<()> {
        let client = self.client.client()?;
        let items = all(&client)?;
        if self.client.json {
            return console.print_json(&Value::Array(items));
        }
        let head = ["NAME", "KIND", "PAUSED", "QUEUED", "RUNNING", "WAITING", "FAILED"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for agent in &items {
            let count = |state: &str| cell(&agent["live"][state]);
            let mut row = ["name", "kind", "paused"].map(|field| cell(&agent[field])).to_vec();
            row.extend(["queued", "running", "waiting", "failed"].map(count));
            rows.push(row);
        }
        console.print_table(&rows)
    }
}

fn all(client: &Client) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    let mut path = "/v1/agents".to_owned();
    loop {
        let page = client.call(&Call::get(&path))?;
        items.extend(page["items"].as_array().cloned().unwrap_or_default());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/agents?cursor={}", escaped(cursor)),
            None => return Ok(items),
        }
    }
}
