//! `loadtest profile`: the runbook's loads with their thresholds.

use super::options::{OutputOptions, ServerOptions};
use crate::error::Result;
use crate::plan::{Agent, Plan};
use crate::profile::{self, BASIC, STRESS};
use crate::{svg, table};
use clap::{Args, ValueEnum};
use std::process::ExitCode;

/// Options of `loadtest profile`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loadtest profile basic --serve target/release/no
  loadtest profile stress --json stress.json --svg stress.svg

basic takes a minute, stress two. Exit codes: 0 all thresholds met, 1 one missed or failed,
2 wrong usage.")]
pub(super) struct Profile {
    /// Which load
    #[arg(value_enum)]
    profile: Name,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    output: OutputOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// 1,500 tasks a second, 100 users
    Basic,
    /// Up to 5,000 tasks a second, 500 users
    Stress,
}

impl Profile {
    /// Runs the profile and shows how it stands to its thresholds.
    pub(super) fn run(&self) -> Result<ExitCode> {
        let profile = match self.profile {
            Name::Basic => BASIC,
            Name::Stress => STRESS,
        };
        let mut plan = profile.plan(&Plan::default());
        let served = self.server.apply(&mut plan, Some(&Agent::Echo))?;
        let report = profile.run(&plan, &mut *self.output.observer())?;
        if let Some(served) = served {
            served.stop()?;
        }
        let (load, thresholds) = (&report.report, &report.thresholds);
        let table = || format!("{}\n{}", table::render(load), profile::render(thresholds));
        self.output.give(&report, || svg::render(load), table)?;
        Ok(if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
