//! Options that several commands share: which server, on which cores, where results go.

use crate::error::{Error, Result};
use crate::plan::{Agent, Plan};
use crate::progress::Progress;
use crate::run::{Observer, Silent};
use crate::serve::{Serve, Served};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};

/// Which server.
#[derive(Debug, Args)]
pub(super) struct ServerOptions {
    /// The server
    #[arg(long, value_name = "URL", env = "NO_URL", default_value = "http://127.0.0.1:3000")]
    url: String,
    /// A token that may submit, and define agents for `worker` and `model`
    #[arg(long, value_name = "TOKEN", env = "NO_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Starts this binary of nO with fresh data and a free port, and stops it afterwards
    #[arg(long, value_name = "PATH")]
    serve: Option<PathBuf>,
    /// Cores for the server that `--serve` starts, such as 0,1
    #[arg(long, value_name = "CORES", value_delimiter = ',', requires = "serve")]
    serve_cores: Vec<usize>,
    /// Where `--serve` makes its temporary folder: on a real disk, where a sync costs something
    #[arg(long, value_name = "DIR", requires = "serve")]
    serve_folder: Option<PathBuf>,
    /// Configuration (JSON) of the server that `--serve` starts
    #[arg(long, value_name = "FILE", requires = "serve")]
    serve_config: Option<PathBuf>,
    /// The core that the driver runs on
    #[arg(long, value_name = "CORE")]
    pin: Option<usize>,
}

impl ServerOptions {
    /// Starts the server if one is to be started, and puts where it is into the plan.
    pub(super) fn apply(&self, plan: &mut Plan, agent: Option<&Agent>) -> Result<Option<Served>> {
        self.apply_as(plan, agent, |serve| serve)
    }

    /// Likewise, with a change to the server that is to be started.
    pub(super) fn apply_as(
        &self,
        plan: &mut Plan,
        agent: Option<&Agent>,
        change: impl FnOnce(Serve) -> Serve,
    ) -> Result<Option<Served>> {
        plan.pin = self.pin;
        plan.url.clone_from(&self.url);
        plan.token.clone_from(&self.token);
        // What is wrong with the plan is said before anything is started.
        plan.check()?;
        let Some(serve) = self.own()? else { return Ok(None) };
        let served = change(serve).start(agent)?;
        plan.url.clone_from(&served.url);
        plan.token = Some(served.token.clone());
        Ok(Some(served))
    }
}

impl ServerOptions {
    /// The server that is to be started, if one is.
    pub(super) fn own(&self) -> Result<Option<Serve>> {
        let Some(binary) = &self.serve else { return Ok(None) };
        let config = self.serve_config.as_deref().map(read_json).transpose()?;
        let mut serve = Serve::new(binary);
        serve.cores.clone_from(&self.serve_cores);
        serve.folder.clone_from(&self.serve_folder);
        serve.config = config.unwrap_or(serve.config);
        Ok(Some(serve))
    }

    /// That server, for a load that needs one of its own; and the core that the driver runs on.
    pub(super) fn own_only(&self) -> Result<(Serve, Option<usize>)> {
        let none = || Error::Plan("--serve is missing: this load needs a nO of its own".to_owned());
        Ok((self.own()?.ok_or_else(none)?, self.pin))
    }
}

fn read_json(file: &Path) -> Result<serde_json::Value> {
    let text = fs::read_to_string(file).map_err(Error::system(file.display().to_string()))?;
    let value = serde_json::from_str(&text);
    value.map_err(|why| Error::Plan(format!("--serve-config {}: {why}", file.display())))
}

/// Where results go.
#[derive(Debug, Args)]
pub(super) struct OutputOptions {
    /// Writes the report as JSON; `-` prints it instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws the report as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// No progress and no plot, the table alone
    #[arg(long)]
    pub(super) quiet: bool,
}

impl OutputOptions {
    /// Who shows how the load goes on.
    pub(super) fn observer(&self) -> Box<dyn Observer> {
        if self.quiet { Box::new(Silent) } else { Box::new(Progress::new()) }
    }

    /// Whether standard output carries JSON and nothing else.
    fn json_only(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }

    /// Gives a report in each form that was asked for.
    pub(super) fn give(
        &self,
        report: &impl serde::Serialize,
        svg: impl FnOnce() -> String,
        table: impl FnOnce() -> String,
    ) -> Result<()> {
        self.write_json(report)?;
        self.svg.as_deref().map_or(Ok(()), |file| write_file(file, &svg()))?;
        if !self.json_only() {
            print!("{}", table());
        }
        Ok(())
    }

    /// Writes the JSON to where it was asked for.
    fn write_json(&self, report: &impl serde::Serialize) -> Result<()> {
        let Some(file) = &self.json else { return Ok(()) };
        let text = serde_json::to_string_pretty(report)
            .map_err(|why| Error::System { what: "JSON".to_owned(), why: why.into() })?;
        if self.json_only() {
            println!("{text}");
            return Ok(());
        }
        write_file(file, &text)
    }
}

fn write_file(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(Error::system(file.display().to_string()))
}
