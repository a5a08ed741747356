//! `no serve`: the service itself.

use super::options::ConfigOptions;
use crate::error::Result;
use crate::{boot, config, trace};
use clap::Args;

/// Options of `no serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no serve
  no serve --config /etc/no/operational.json --data-dir /var/lib/no
  NO_SERVICE_PORT=8080 no serve

When it is ready it logs one line with `listening` and the URL. SIGTERM drains and ends with 0.")]
pub(crate) struct Serve {
    #[command(flatten)]
    options: ConfigOptions,
}

impl Serve {
    /// Runs until told to stop.
    pub(crate) fn run(self) -> Result<()> {
        let config = config::load(&self.options.options())?;
        trace::init(&config.monitoring.log_filter);
        boot::serve(&config)
    }
}
