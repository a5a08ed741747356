//! `no task cancel` and `no task retry`.

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

impl Cancel {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        post(&self.client, &self.id, "cancel", console)
    }
}

impl Retry {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        post(&self.client, &self.id, "retry", console)
    }
}

fn post(options: &ClientOptions, id: &str, verb: &str, console: &mut Console) -> Result<()> {
    let path = format!("/v1/tasks/{}/{verb}", escaped(id));
    let task = options.client()?.call(&Call::post(&path))?;
    if options.json {
        return console.print_json(&task);
    }
    console.print(&format!("{id} {}", cell(&task["state"])))
}
