//! The command line: one file per command.

mod ceiling;
mod duration;
mod options;
mod overload;
mod profile;
mod restarts;
mod run;
mod soak;

use crate::error::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Puts load on nO, or on any HTTP/1.1 server, and measures it honestly: latency counts from when a
/// request should have left, so that a stall of the server counts against it.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Puts one load on a server and reports.
    Run(run::Run),
    /// Runs the runbook's load, basic or stress, and holds it against its thresholds.
    Profile(profile::Profile),
    /// Offers 2, 5 and 10 times the peak, and sees what is still done.
    Overload(overload::Overload),
    /// Restarts the server again and again at half its peak: is a request lost or doubled.
    Restarts(restarts::Restarts),
    /// Holds half the peak for ten minutes: do memory, open files and latency stay flat.
    Soak(soak::Soak),
    /// Measures the driver itself, against a responder that does nothing.
    Ceiling(ceiling::Ceiling),
}

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let done: Result<ExitCode> = match Cli::parse().command {
        Command::Run(run) => run.run(),
        Command::Profile(profile) => profile.run(),
        Command::Overload(overload) => overload.run(),
        Command::Restarts(restarts) => restarts.run(),
        Command::Soak(soak) => soak.run(),
        Command::Ceiling(ceiling) => ceiling.run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("loadtest: {error}");
        ExitCode::from(error.exit_code())
    })
}
