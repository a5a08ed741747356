//! `loadtest soak`: half the peak for ten minutes.

use super::duration::duration;
use super::options::{OutputOptions, ServerOptions};
use crate::error::Result;
use crate::plan::{Agent, Plan, Tasks};
use crate::serve::Serve;
use crate::soak::{SoakPlan, svg, table};
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `loadtest soak`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loadtest soak --serve target/release/no --svg soak.svg
  loadtest soak --serve target/release/no --duration 8h --rate 500

Loops of model calls, each with an idempotency key. Memory and open files are read from the
server's /metrics once a second; the last fifth of the time is compared with the second.
A server that runs already should keep keys for a short time (engine.keyKept), else they fill it.
Exit codes: 0 all flat, 1 something grew or it failed, 2 wrong usage.")]
pub(super) struct Soak {
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    output: OutputOptions,
    /// How long
    #[arg(long, value_name = "T", value_parser = duration, default_value = "10m")]
    duration: Duration,
    /// Requests a second [default: half the peak, which is measured first]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 256)]
    connections: usize,
    /// Model calls of a loop; 0 submits echo
    #[arg(long, value_name = "N", default_value_t = 3)]
    iterations: u32,
}

impl Soak {
    /// Runs it and shows what it showed.
    pub(super) fn run(&self) -> Result<ExitCode> {
        let agent = match self.iterations {
            0 => Agent::Echo,
            iterations => Agent::Model { iterations },
        };
        let mut soak = SoakPlan {
            plan: Plan { connections: self.connections, ..Plan::default() },
            tasks: Tasks { agent, idempotency: true, ..Tasks::default() },
            rate: self.rate,
            duration: self.duration,
        };
        soak.check()?;
        let served = self.server.apply_as(&mut soak.plan, Some(&agent), Serve::with_short_keys)?;
        let report = soak.run(&mut *self.output.observer())?;
        if let Some(served) = served {
            served.stop()?;
        }
        self.output.give(&report, || svg(&report), || table(&report))?;
        Ok(if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
