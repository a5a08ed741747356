//! `no task get` and `no task steps`.

use super::super::Console;
use super::super::options::ClientOptions;
use super::show;
use crate::client::{Call, escaped};
use crate::error::Result;
use clap::Args;
use serde_json::Value;

/// Options of `no task get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The task's id
    id: String,
    #[command(flatten)]
    client: ClientOptions,
}

/// Options of `no task steps`.
#[derive(Debug, Args)]
pub(crate) struct Steps {
    /// The task's id
    id: String,
    #[command(flatten)]
    client: ClientOptions,
}

impl Get {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let path = format!("/v1/tasks/{}", escaped(&self.id));
        let task = self.client.client()?.call(&Call::get(&path))?;
        if self.client.json { console.print_json(&task) } else { show::task(console, &task) }
    }
}

impl Steps {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let client = self.client.client()?;
        let base = format!("/v1/tasks/{}/steps?limit=500", escaped(&self.id));
        let (mut path, mut all) = (base.clone(), Vec::new());
        loop {
            let page = client.call(&Call::get(&path))?;
            for step in page["items"].as_array().into_iter().flatten() {
                match self.client.json {
                    true => all.push(step.clone()),
                    false => console.print(&show::step_line(step))?,
                }
            }
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("{base}&cursor={}", escaped(cursor)),
                None => break,
            }
        }
        if self.client.json { console.print_json(&Value::Array(all)) } else { Ok(()) }
    }
}
