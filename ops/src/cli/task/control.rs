//! `no task cancel`, `no task retry` and `no task feedback`.

use super::super::Console;
use super::super::options::ClientOptions;
use super::super::output::cell;
use crate::client::{Call, escaped};
use crate::error::Result;
use clap::Args;

/// Options of `no task cancel`.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The task's id
    id: String,
    #[command(flatten)]
    client: ClientOptions,
}

/// Options of `no task retry`.
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The task's id
    id: String,
    #[command(flatten)]
    client: ClientOptions,
}

/// Options of `no task feedback`.
#[derive(Debug, Args)]
pub(crate) struct Feedback {
    /// The task's id
    id: String,
    /// From 1, bad, to 5; a later score replaces it
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=5))]
    score: u8,
    #[command(flatten)]
    client: ClientOptions,
}

impl Feedback {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let body = serde_json::json!({"score": self.score});
        post(&self.client, &self.id, "feedback", Some(&body), console)
    }
}

impl Cancel {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        post(&self.client, &self.id, "cancel", None, console)
    }
}

impl Retry {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        post(&self.client, &self.id, "retry", None, console)
    }
}

fn post(
    options: &ClientOptions,
    id: &str,
    verb: &str,
    body: Option<&serde_json::Value>,
    console: &mut Console,
) -> Result<()> {
    let path = format!("/v1/tasks/{}/{verb}", escaped(id));
    let task = options.client()?.call(&Call { body, ..Call::post(&path) })?;
    if options.json {
        return console.print_json(&task);
    }
    console.print(&format!("{id} {}", cell(&task["state"])))
}
