//! `no task list`.

use super::super::Console;
use super::super::options::ClientOptions;
use super::super::output::cell;
use crate::client::{Call, escaped};
use crate::error::Result;
use clap::Args;
use serde_json::Value;

/// Tasks of one page.
const PAGE_LEN: usize = 500;

/// Options of `no task list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no task list --state failed
  no task list --agent assistant --limit 1000 --json | jq -r .[].id")]
pub(crate) struct List {
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only in this state: scheduled, queued, running, waiting, succeeded, failed or cancelled
    #[arg(long, value_parser = no_engine::task::STATES.map(no_engine::task::State::name))]
    state: Option<String>,
    /// Only with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Only of this fairness key
    #[arg(long, value_name = "KEY")]
    fairness_key: Option<String>,
    /// How many at most; 0 for all
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    client: ClientOptions,
}

impl List {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let client = self.client.client()?;
        let most = if self.limit == 0 { usize::MAX } else { self.limit };
        let (mut cursor, mut tasks) = (None, Vec::new());
        loop {
            let page =
                client.call(&Call::get(&self.path(most - tasks.len(), cursor.as_deref())))?;
            tasks.extend(page["items"].as_array().into_iter().flatten().cloned());
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() || most <= tasks.len() {
                break;
            }
        }
        if self.client.json {
            return console.print_json(&Value::Array(tasks));
        }
        let head = ["ID", "AGENT", "STATE", "ATTEMPT", "CREATED", "TAGS"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for task in &tasks {
            let tags = task["tags"].as_array().map_or_else(String::new, |tags| {
                tags.iter().map(cell).collect::<Vec<_>>().join(",")
            });
            let mut row =
                ["id", "agent", "state", "attempt", "created_at"].map(|f| cell(&task[f])).to_vec();
            row.push(tags);
            rows.push(row);
        }
        console.print_table(&rows)?;
        if cursor.is_some() {
            console.complain("there are more; use --limit 0 for all");
        }
        Ok(())
    }

    fn path(&self, left: usize, cursor: Option<&str>) -> String {
        let mut path = format!("/v1/tasks?limit={}", left.min(PAGE_LEN));
        let filters = [
            ("agent", self.agent.as_deref()),
            ("state", self.state.as_deref()),
            ("tag", self.tag.as_deref()),
            ("fairness_key", self.fairness_key.as_deref()),
            ("cursor", cursor),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                path += &format!("&{name}={}", escaped(value));
            }
        }
        path
    }
}
