//! `loadtest overload`: 2, 5 and 10 times the peak.

use super::duration::duration;
use super::options::{OutputOptions, ServerOptions};
use crate::error::Result;
use crate::overload::{OverloadPlan, svg, table};
use crate::plan::{Agent, Tasks};
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `loadtest overload`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loadtest overload --serve target/release/no --json overload.json --svg overload.svg
  loadtest overload --serve target/release/no --pin 0 --serve-cores 1 --factors 2,10
  loadtest overload --serve target/release/no --iterations 20 --serve-config small-queue.json

With echo the request itself is most of the work, so the driver's own core limits what it can send.
A loop of model calls costs the server more than the driver, and 10 × its peak is really sent.
Finds the peak, offers multiples of it by the clock, asks the operators' endpoints meanwhile, and
waits until a lone client is served as before. What could not be sent is not called offered: the
table says how much really was. Exit codes: 0 done, whatever it showed, 1 failed, 2 wrong usage.")]
pub(super) struct Overload {
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    output: OutputOptions,
    /// Multiples of the peak
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "2,5,10")]
    factors: Vec<f64>,
    /// How long each is offered
    #[arg(long, value_name = "T", value_parser = duration, default_value = "10s")]
    duration: Duration,
    /// Connections that offer it
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    connections: usize,
    /// Requests under way on each of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pipeline: usize,
    /// Connections that find the peak
    #[arg(long, value_name = "N", default_value_t = 64)]
    peak_connections: usize,
    /// How long the peak is looked for
    #[arg(long, value_name = "T", value_parser = duration, default_value = "8s")]
    peak_duration: Duration,
    /// Tasks in a request
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Submits loops of so many scripted model calls, instead of echo
    #[arg(long, value_name = "N")]
    iterations: Option<u32>,
}

impl Overload {
    /// Runs all phases and shows what they showed.
    pub(super) fn run(&self) -> Result<ExitCode> {
        let model = |iterations| Agent::Model { iterations };
        let agent = self.iterations.map_or(Agent::Echo, model);
        let mut overload = OverloadPlan {
            tasks: Tasks { agent, batch: self.batch, ..Tasks::default() },
            peak_connections: self.peak_connections,
            peak_duration: self.peak_duration,
            factors: self.factors.clone(),
            phase_duration: self.duration,
            connections: self.connections,
            pipeline: self.pipeline,
            ..OverloadPlan::default()
        };
        overload.check()?;
        let served = self.server.apply(&mut overload.plan, Some(&agent))?;
        let report = overload.run(&mut *self.output.observer())?;
        if let Some(served) = served {
            served.stop()?;
        }
        self.output.give(&report, || svg(&report), || table(&report))?;
        Ok(ExitCode::SUCCESS)
    }
}
