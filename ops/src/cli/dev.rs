//! `no dev`: the service on loopback with something to see.

use super::options::ConfigOptions;
use crate::error::{Error, Result};
use crate::{boot, config, trace};
use clap::Args;

/// Options of `no dev`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no dev
  no dev --port 8080 --data-dir /tmp/no

Starts the embedded store on loopback with an agent `demo`, whose scripted model calls a real tool,
runs one task of it and shows the steps as they come. Ctrl-C ends it; nothing is lost.")]
pub(crate) struct Dev {
    #[command(flatten)]
    options: ConfigOptions,
}

impl Dev {
    /// Runs until told to stop.
    pub(crate) fn run(self) -> Result<()> {
        let config = config::load(&self.options.options())?;
        if !config.service.listen.ip().is_loopback() {
            let problem =
                "`no dev` is for this machine only; use `no serve` to be reached by others";
            return Err(Error::Usage(problem.to_owned()));
        }
        trace::init(&config.monitoring.log_filter);
        boot::dev(&config)
    }
}
