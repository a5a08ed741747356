//! `no config`: check it before a restart, see what is in force and why, look a key up.

use super::Console;
use super::options::ConfigOptions;
use crate::config::{self, show};
use crate::error::Result;
use clap::{Args, Subcommand};
use serde_json::json;

/// Commands of `no config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration; exit code 3 when it would be refused
    Validate(Validate),
    /// Show every value in force and where it came from, secrets left out
    Show(Show),
    /// Explain every key
    Keys(Keys),
}

/// Options of `no config validate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no config validate --config deploy/config/operational.example.json
  no config validate --json")]
pub(crate) struct Validate {
    #[command(flatten)]
    options: ConfigOptions,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

/// Options of `no config show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  no config show\n  no config show --json > effective.json")]
pub(crate) struct Show {
    #[command(flatten)]
    options: ConfigOptions,
    /// Print JSON, in the form of the configuration file
    #[arg(long)]
    json: bool,
}

/// Options of `no config keys`.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

impl ConfigCommand {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        match self {
            ConfigCommand::Validate(validate) => validate.run(console),
            ConfigCommand::Show(show) => show.run(console),
            ConfigCommand::Keys(keys) if keys.json => console.print_json(&show::keys_json()),
            ConfigCommand::Keys(_) => console.print(show::keys_text().trim_end()),
        }
    }
}

impl Validate {
    fn run(self, console: &mut Console) -> Result<()> {
        let checked = config::load(&self.options.options());
        if self.json {
            let faults = match &checked {
                Err(crate::Error::Config(faults)) => &faults[..],
                _ => &[],
            };
            let row = |fault: &config::Fault| {
                json!({
                    "place": fault.place,
                    "path": fault.path,
                    "problem": fault.problem,
                    "hint": fault.hint,
                })
            };
            let rows: Vec<_> = faults.iter().map(row).collect();
            console.print_json(&json!({ "valid": checked.is_ok(), "faults": rows }))?;
        }
        let config = checked?;
        if !self.json {
            let (listen, shards) = (config.service.listen, config.engine.shards);
            console.print(&format!("valid: would listen on {listen} with {shards} shard(s)"))?;
        }
        Ok(())
    }
}

impl Show {
    fn run(self, console: &mut Console) -> Result<()> {
        let raw = config::read(&self.options.options())?;
        if !raw.faults.is_empty() {
            return Err(crate::Error::Config(raw.faults));
        }
        if self.json {
            return console.print_json(&show::json(&raw));
        }
        console.print(show::text(&raw).trim_end())
    }
}
