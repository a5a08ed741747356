//! `loadtest restarts`: rolling restarts at half load.

use super::duration::duration;
use super::options::{OutputOptions, ServerOptions};
use crate::error::Result;
use crate::restarts::{RestartsPlan, svg, table};
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `loadtest restarts`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loadtest restarts --serve target/release/no --svg restarts.svg
  loadtest restarts --serve target/release/no --restarts 20 --rate 5000

The client sends again, under the same idempotency key, what was lost or refused. In the end all
tasks are listed and compared with what was acknowledged. Exit codes: 0 nothing lost and nothing
doubled, 1 something was or it failed, 2 wrong usage.")]
pub(super) struct Restarts {
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    output: OutputOptions,
    /// How often the server is restarted
    #[arg(long, value_name = "N", default_value_t = 200)]
    restarts: usize,
    /// From one restart to the next
    #[arg(long, value_name = "T", value_parser = duration, default_value = "2s")]
    every: Duration,
    /// Requests a second [default: half the peak, which is measured first]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: usize,
}

impl Restarts {
    /// Runs it and shows what it showed.
    pub(super) fn run(&self) -> Result<ExitCode> {
        let (serve, pin) = self.server.own_only()?;
        let plan = RestartsPlan {
            restarts: self.restarts,
            every: self.every,
            rate: self.rate,
            connections: self.connections,
            pin,
            ..RestartsPlan::new(serve)
        };
        let report = plan.run(&mut *self.output.observer())?;
        self.output.give(&report, || svg(&report), || table(&report))?;
        Ok(if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
