//! `loadtest ceiling`: how fast the driver itself is.

use super::duration::duration;
use super::options::OutputOptions;
use crate::error::Result;
use crate::format::{rate, short};
use crate::plan::{Pace, Plan};
use crate::{ceiling, table};
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `loadtest ceiling`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loadtest ceiling
  loadtest ceiling --rate 100000 --pin 0

Asks a responder that does nothing, on a thread of this process, and says how many requests a second
one core of the driver is good for. A load near that measures the driver.")]
pub(super) struct Ceiling {
    #[command(flatten)]
    output: OutputOptions,
    /// Requests a second; as fast as possible when absent
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// How long
    #[arg(long, value_name = "T", value_parser = duration, default_value = "5s")]
    duration: Duration,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: usize,
    /// Requests under way on each
    #[arg(long, value_name = "N", default_value_t = 1)]
    pipeline: usize,
    /// The core of the driver; the responder keeps all
    #[arg(long, value_name = "CORE")]
    pin: Option<usize>,
}

impl Ceiling {
    /// Measures and shows it.
    pub(super) fn run(&self) -> Result<ExitCode> {
        let duration = self.duration;
        let pace = match self.rate {
            Some(rate) => Pace::constant(rate, duration),
            None => Pace::Max { duration },
        };
        let (connections, pipeline) = (self.connections, self.pipeline);
        let warmup = Duration::from_millis(500);
        let pin = self.pin;
        let plan = Plan { pace, connections, pipeline, warmup, pin, ..Plan::default() };
        let report = ceiling::run(&plan, &mut *self.output.observer())?;
        let us = report.driver.cpu_us_per_request;
        let (per_core, each) = (rate(1e6 / us.max(1e-3)), short(us));
        let good = format!("\none core is good for {per_core} requests/s, at {each} µs each\n");
        let table = || table::render(&report) + &good;
        self.output.give(&report, || crate::svg::render(&report), table)?;
        Ok(ExitCode::SUCCESS)
    }
}
