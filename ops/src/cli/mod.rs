//! The command line: which command, with which options, and what its end means to the shell.
//!
//! Each command is one file with its options and a `run`. What it has to say goes to a [`Console`],
//! so that tests read it; errors come back as values and get their exit code here, in one place.

mod agent;
mod audit;
mod backup;
mod bench;
mod completions;
mod config;
mod db;
mod dev;
mod health;
mod journal;
mod man;
mod options;
mod output;
mod serve;
mod smoke;
pub(crate) mod task;
mod token;
mod transfer;

pub use output::Console;

use crate::error::{EXIT_DONE, EXIT_USAGE, Error, Result};
use clap::{Parser, Subcommand};
use std::ffi::OsString;

/// nO: runs agent loops durably, on few cores.
#[derive(Debug, Parser)]
#[command(name = "no", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 configuration refused, 4 store unusable,
5 address in use, 70 broken invariant, 74 disk failed.

Start with `no dev`.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run nO until SIGTERM
    Serve(serve::Serve),
    /// Run nO on loopback with a sample agent, and show one task of it
    Dev(dev::Dev),
    /// Submit, watch and steer tasks
    #[command(subcommand)]
    Task(task::Task),
    /// Define and control agents
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Ask a running nO whether it is healthy
    Health(health::Health),
    /// Try a running nO out: submit, watch, metrics, refusals
    Smoke(smoke::Smoke),
    /// Check, show and explain the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Make, list and revoke access tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Back a data folder up while nO runs, check backups, bring one back
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Look at the journals of a data folder, also while nO runs
    #[command(subcommand)]
    Journal(journal::Journal),
    /// Look at the store; make a database's tables
    #[command(subcommand)]
    Db(db::Db),
    /// Check the audit log
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Measure what this machine can hold, in a few seconds
    Bench(bench::Bench),
    /// Print completions for a shell
    Completions(completions::Completions),
    /// Print or write manual pages
    Man(man::Man),
}

/// Runs one command line and gives the exit code; everything it says goes to the console.
pub fn run(args: impl IntoIterator<Item = OsString>, console: &mut Console) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            console.complain(error.to_string().trim_end());
            return EXIT_USAGE;
        }
        Err(help) => {
            let _ = console.print(help.to_string().trim_end());
            return EXIT_DONE;
        }
    };
    match cli.command.run(console) {
        Ok(()) => EXIT_DONE,
        // Whoever reads our output has enough, as in `no task list | head`.
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            EXIT_DONE
        }
        Err(error) => {
            console.complain(&format!("error: {error}"));
            if let Some(hint) = error.hint() {
                console.complain(&format!("hint: {hint}"));
            }
            error.exit_code()
        }
    }
}

impl Command {
    fn run(self, console: &mut Console) -> Result<()> {
        match self {
            Command::Serve(serve) => serve.run(),
            Command::Dev(dev) => dev.run(),
            Command::Task(task) => task.run(console),
            Command::Agent(agent) => agent.run(console),
            Command::Health(health) => health.run(console),
            Command::Config(config) => config.run(console),
            Command::Token(token) => token.run(console),
            Command::Bench(bench) => bench.run(console),
            Command::Smoke(smoke) => smoke.run(console),
            Command::Journal(journal) => journal.run(console),
            Command::Man(man) => man.run(console),
            Command::Backup(backup) => backup.run(console),
            Command::Db(db) => db.run(console),
            Command::Audit(audit) => audit.run(console),
            Command::Completions(completions) => completions.run(console),
        }
    }
}
