//! The command line of `bench`, which `make` calls.

use crate::bench::{Bench, Length};
use crate::compare::{Builds, compare};
use crate::error::{Error, Result};
use crate::flamegraph::{Flamegraph, flamegraph};
use crate::host::Host;
use crate::peers;
use crate::predict::predict;
use crate::responder::Runtime;
use crate::results::Results;
use crate::rows;
use crate::runtimes::runtimes;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Measures nO
#[derive(Debug, Parser)]
#[command(name = "bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The table of DESIGN §12, or some of its rows
    Run(Run),
    /// The same rows on two builds, by turns
    Compare(Compare),
    /// The rivals of the net core's runtime
    Runtimes {
        /// A look instead of a measurement: a fifth of the time
        #[arg(long)]
        quick: bool,
    },
    /// Where the server's time goes under load, as a picture
    Flamegraph {
        #[command(flatten)]
        common: Common,
        /// Tasks in a request
        #[arg(long, value_name = "N", default_value_t = 1)]
        batch: usize,
        /// The folder with inferno's programs
        #[arg(long, value_name = "DIR", default_value = "target/test-tools/bin")]
        tools: PathBuf,
        /// The picture
        #[arg(long, value_name = "FILE", default_value = "target/bench/flamegraph.svg")]
        svg: PathBuf,
    },
    /// What more cores would give, predicted from the costs measured here
    Curve {
        #[command(flatten)]
        common: Common,
        /// The costs and the prediction
        #[arg(long, value_name = "FILE", default_value = "target/bench/curve.json")]
        json: PathBuf,
    },
    /// One small server, for this program's own use
    #[command(hide = true)]
    Responder {
        runtime: Runtime,
        /// The core that it runs on
        #[arg(long)]
        core: usize,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// The binary of nO that is measured
    #[arg(long, value_name = "FILE", default_value = "target/release/no")]
    binary: PathBuf,
    /// Where servers keep their data: on the disk that is measured
    #[arg(long, value_name = "DIR", default_value = "target/bench/data")]
    place: PathBuf,
    /// A look instead of a measurement: a fifth of the time, a tenth of the tasks
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    common: Common,
    /// Rows, such as single,batched; all when absent
    #[arg(long, value_name = "ROW,…", value_delimiter = ',')]
    rows: Vec<String>,
    /// What `make bench-peers` wrote in the same run
    #[arg(long, value_name = "FILE")]
    peers: Option<PathBuf>,
    /// The folder of RESULTS.md and its picture; not written when absent
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// The folder of the JSON
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    json: PathBuf,
}

#[derive(Debug, Args)]
struct Compare {
    #[command(flatten)]
    common: Common,
    /// The earlier build of nO
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// Rows, such as single,batched
    #[arg(long, value_name = "ROW,…", value_delimiter = ',', default_value = "single,batched")]
    rows: Vec<String>,
    /// How often each build has its turn
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
}

/// Runs the command line and gives the exit code: 0 done, whatever was measured, 1 failed, 2 wrong
/// usage.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

impl Command {
    fn run(self) -> Result<()> {
        match self {
            Command::Run(asked) => asked.run(),
            Command::Compare(asked) => asked.run(),
            Command::Runtimes { quick } => {
                // No nO is started, and nothing kept.
                let (nothing, here) = (PathBuf::new(), PathBuf::from("."));
                let table = runtimes(&Bench::new(nothing, here.clone(), Length::of(quick)))?;
                println!("{}\n\n{table}", Host::here(&here).machine());
                Ok(())
            }
            Command::Flamegraph { common, batch, tools, svg } => {
                let asked = Flamegraph { batch, tools, svg };
                flamegraph(&common.bench()?, &asked)
            }
            Command::Curve { common, json } => {
                let bench = common.bench()?;
                println!("{}", Host::here(&common.place).machine());
                predict(&bench, &json)
            }
            Command::Responder { runtime, core } => {
                runtime.serve(core).map_err(Error::system("serving"))
            }
        }
    }
}

impl Common {
    fn length(&self) -> Length {
        Length::of(self.quick)
    }

    fn bench(&self) -> Result<Bench> {
        if !self.binary.is_file() {
            let binary = self.binary.display();
            return Err(Error::Usage(format!("{binary} is not there: make build")));
        }
        std::fs::create_dir_all(&self.place)
            .map_err(Error::system(self.place.display().to_string()))?;
        Ok(Bench::new(self.binary.clone(), self.place.clone(), self.length()))
    }
}

impl Run {
    fn run(&self) -> Result<()> {
        let rows = rows::chosen(&self.rows)?;
        let mut bench = self.common.bench()?;
        bench.pictures.clone_from(self.results.as_ref().unwrap_or(&self.json));
        let host = Host::here(&self.common.place);
        let (mut figures, mut failures) = (Vec::new(), Vec::new());
        for (i, row) in rows.iter().enumerate() {
            eprintln!("[{}/{}] {}: {}", i + 1, rows.len(), row.name, row.about);
            let start = Instant::now();
            match row.run(&mut bench) {
                Ok(of_row) => {
                    for figure in &of_row {
                        let value = crate::figure::with_unit(figure.value, &figure.unit);
                        eprintln!("      {}: {value} {}", figure.what, figure.note);
                    }
                    figures.extend(of_row);
                }
                Err(error) => {
                    eprintln!("      not measured: {error}");
                    failures.push((row.name.to_owned(), error.to_string()));
                }
            }
            eprintln!("      {:.0} s", start.elapsed().as_secs_f64());
        }
        if let Some(path) = &self.peers {
            figures.extend(peers::compared(&figures, &peers::read(path)?));
        }
        let results = Results { host, command: self.command(), figures, failures };
        println!("{}", results.table());
        results.write_json(&self.json)?;
        self.results.as_ref().map_or(Ok(()), |folder| results.write_page(folder))
    }

    /// The `make` command that does the same.
    fn command(&self) -> String {
        let mut command = String::from("make bench");
        if !self.rows.is_empty() {
            command.push_str(" ROWS=");
            command.push_str(&self.rows.join(","));
        }
        if self.peers.is_some() {
            command.push_str(" PEERS=1");
        }
        if self.common.quick {
            command.push_str(" ARGS=--quick");
        }
        command
    }
}

impl Compare {
    fn run(&self) -> Result<()> {
        let rows = rows::chosen(&self.rows)?;
        let builds = Builds { base: self.base.clone(), head: self.common.binary.clone() };
        // Says early what is missing.
        self.common.bench()?;
        let (place, length) = (&self.common.place, self.common.length());
        let table = compare(&builds, &rows, place, length, self.rounds)?;
        println!("{}\n\n{table}", Host::here(place).machine());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound_and_names_its_make_command() {
        Cli::command().debug_assert();
        let line = ["bench", "run", "--rows", "single,idle", "--quick"];
        let Command::Run(run) = Cli::parse_from(line).command else { panic!("another command") };
        assert_eq!(run.command(), "make bench ROWS=single,idle ARGS=--quick");
    }
}
